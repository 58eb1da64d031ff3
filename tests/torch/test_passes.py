"""A network may see each frame several times, each time beside the image that all frames agreed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import torch
from ptycho_config.errors import ConfigError, TrainingError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.learning.frames import Frames
from ptycho_core.learning.order import Neighbourhoods
from ptycho_core.result.callbacks import Callback
from ptycho_core.simulate import simulate_scan
from ptycho_core_torch.forward import back_project, detector_intensity
from ptycho_core_torch.network import Batch, PtychoNetwork

CPU = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")


@pytest.fixture(scope="module")
def trained(scan: Scan):
    config = TrainingConfig(nepochs=4, model=ModelConfig(unet_passes=2))
    return get_backend("pytorch").train(scan, config, CPU)


class Passes(Callback):
    """Notes in which pass each step was."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.numbers, self.stop_after = [], stop_after

    def on_step(self, step) -> None:
        self.numbers.append(step.epoch)

    def should_stop(self) -> bool:
        return len(self.numbers) >= self.stop_after


def test_back_projection_from_the_true_object_leaves_nothing() -> None:
    random = np.random.default_rng(0)
    probes, patches = (
        torch.from_numpy((random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64))
        for shape in ((3, 2, 32, 32), (3, 32, 32))
    )
    amplitude = detector_intensity(probes, patches).sqrt()
    assert back_project(amplitude, probes, patches).abs().max() < 1e-5
    assert back_project(amplitude, probes).abs().max() > 0.1


def test_a_pass_starts_from_the_image_of_the_one_before(scan: Scan) -> None:
    frames = Frames(scan)
    network = PtychoNetwork(ModelConfig(N=32, unet_passes=3), scan.probe, frames.intensity_scale)
    batch = Batch.of(frames.batch(np.arange(8)))
    network.calibrate(batch.amplitude)
    torch.nn.init.normal_(network.network.output.weight, std=0.05)
    seen = []
    real = network.inputs
    network.inputs = lambda batch, image=None: seen.append(image) or real(batch, image)
    images = [patches for patches, _ in network.passes(batch)]
    assert seen[0] is None
    for image, before in zip(seen[1:], images, strict=False):
        assert torch.equal(image, before)
        assert not image.requires_grad
    assert not torch.allclose(images[0], images[1])
    assert torch.equal(network(batch)[0], images[-1])


def test_all_frames_are_seen_in_every_pass(scan: Scan, trained) -> None:
    passes = Passes()
    result = trained.reconstruct(scan, callbacks=[passes])
    assert passes.numbers == [1, 1, 2, 2]
    assert result.coverage.shape == result.object.shape


def test_a_stop_in_the_second_pass_keeps_the_image_of_the_first(scan: Scan, trained) -> None:
    stopped = trained.reconstruct(scan, callbacks=[Passes(stop_after=3)])
    assert stopped.interrupted
    assert np.isfinite(stopped.object).all()
    assert np.abs(stopped.object - 1).max() > 0.05


def test_the_bundle_brings_the_passes_back(scan: Scan, trained, tmp_path: Path) -> None:
    trained.save(tmp_path)
    loaded = get_backend("pytorch").load(tmp_path, CPU)
    assert loaded.training.model.unet_passes == 2
    assert np.array_equal(loaded.reconstruct(scan).object, trained.reconstruct(scan).object)


def test_groups_of_unet_are_single_frames(scan: Scan) -> None:
    model = ModelConfig(gridsize=2, overlap_constraint="group")
    config = TrainingConfig(nepochs=2, batch_size=4, model=model)
    trained = get_backend("pytorch").train(scan, config, CPU)
    assert trained.reconstruct(scan).n_frames == 60


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"architecture": "cnn"}, "`cnn` sees each frame once"),
        ({"input_channels": "amplitude"}, "needs the back-projection"),
    ],
)
def test_passes_that_cannot_be_are_refused(scan: Scan, wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PtychoNetwork(ModelConfig(N=32, unet_passes=2, **wrong), scan.probe, 1.0)


def test_thinned_frames_are_seen_three_times_unless_told() -> None:
    bright = simulate_scan(frames=30, frame_px=32, start_kind="true", photons=1e5).scan
    for given, passes in ((ModelConfig(), 3), (ModelConfig(unet_passes=1), 1)):
        config = TrainingConfig(nepochs=1, thin_to=100.0, model=given)
        trained = get_backend("pytorch").train(bright, config, CPU)
        assert trained.training.model.unet_passes == passes


def test_only_the_groups_that_are_wanted_are_learned_from(scan: Scan) -> None:
    frames = Frames(scan)
    groups = np.array([[3, 4], [10, 11], [30, 31]])
    nearest = Neighbourhoods(frames, groups, 2)
    assert len(nearest) == 3
    counts = frames.batch(np.unique(groups)).counts
    for item in range(3):
        seen = nearest[(item,)].counts
        assert len(seen) == 4
        assert all((counts == frame).all((1, 2)).any() for frame in seen)


def test_too_little_memory_names_the_batch_to_try(scan: Scan, trained, monkeypatch) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(PtychoNetwork, "patches", none_left)
    with pytest.raises(TrainingError, match=r"batch-size 32`\. Try `--torch-inference-batch-size 16`"):
        trained.reconstruct(scan)
