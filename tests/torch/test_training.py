"""A network learns a small scan through the physics, and every way to end early keeps its work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import torch
from ptycho_config.errors import ConfigError, PolicyError, TrainingError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_core import Scan, scan_from_arrays
from ptycho_core.backend import get_backend
from ptycho_core.learning import architectures
from ptycho_core.learning import course as schedules
from ptycho_core.physics import normalisation
from ptycho_core.result.callbacks import Callback
from ptycho_core.simulate import simulate_scan
from ptycho_core_torch.lightning_module import PtychoLightning
from ptycho_core_torch.network import PtychoNetwork

CPU = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")
#: Of the classic networks in groups, those that every run of the suite trains, with few channels.
_QUICK = {("fno_vanilla", 1), ("cnn", 2)}
#: What makes a classic network narrow.
NARROW = {"n_filters_scale": 1, "fno_width": 8, "fno_blocks": 2}


def train(scan: Scan, execution: PyTorchExecutionConfig = CPU, callbacks=(), **config):
    backend = get_backend("pytorch")
    return backend.train(scan, TrainingConfig(**config), execution, callbacks=callbacks)


class Listener(Callback):
    """Counts what it hears, and stops the run after some steps."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.steps, self.epochs, self.events, self.stop_after = 0, [], [], stop_after

    def on_step(self, step) -> None:
        self.steps += 1

    def on_epoch(self, epoch) -> None:
        self.epochs.append(epoch)

    def on_event(self, event) -> None:
        self.events.append(event.kind)

    def should_stop(self) -> bool:
        return self.steps >= self.stop_after


def test_training_explains_the_frames_better_and_better(scan: Scan) -> None:
    listener = Listener()
    trained = train(scan, callbacks=[listener], nepochs=12)
    residuals = [row["residual"] for row in trained.history]
    assert len(residuals) == 12
    assert residuals[-1] < 0.8 * residuals[0]
    assert [epoch.epoch for epoch in listener.epochs] == list(range(1, 13))
    assert listener.steps == 12 * 3
    result = trained.reconstruct(scan)
    assert result.method == "network"
    assert result.data_residual < 0.9 * trained_once(scan)
    assert np.isfinite(result.object).all()
    assert (np.ceil(result.positions_on_canvas_px().max(axis=0)) + 16 < result.object.shape).all()


def trained_once(scan: Scan) -> float:
    return train(scan, nepochs=1).reconstruct(scan).data_residual


def test_an_untrained_network_is_nearly_transparent(scan: Scan) -> None:
    class Never(Listener):
        def should_stop(self) -> bool:
            return True

    quiet = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none", learning_rate=1e-12)
    result = train(scan, quiet, [Never()], nepochs=1).reconstruct(scan)
    lit = result.coverage > 0.1
    assert np.abs(np.abs(result.object[lit]) - 1.2 / (1 + np.exp(-2))).max() < 1e-2


def test_the_same_seed_gives_the_same_weights(scan: Scan) -> None:
    first, second = (train(scan, nepochs=2, seed=3).network.state_dict() for _ in range(2))
    other = train(scan, nepochs=2, seed=4).network.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_stopping_keeps_the_weights_and_says_so(scan: Scan) -> None:
    listener = Listener(stop_after=4)
    trained = train(scan, callbacks=[listener], nepochs=50)
    assert trained.interrupted
    assert listener.steps == 4
    assert listener.events == ["stopped"]
    assert np.isfinite(trained.reconstruct(scan).data_residual)


def test_a_time_budget_ends_the_run(scan: Scan) -> None:
    trained = train(scan, max_time=1.5)
    assert not trained.interrupted
    assert trained.history
    assert trained.history[-1]["seconds"] < 30


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_weights(
    scan: Scan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = PtychoLightning._losses

    def poisoned(self, batch):
        loss, residual, nll = real(self, batch)
        return (loss * float("nan") if self.global_step == 4 else loss), residual, nll

    monkeypatch.setattr(PtychoLightning, "_losses", poisoned)
    backend = get_backend("pytorch")
    with pytest.raises(TrainingError, match=r"not finite at step 5.*last good weights are in"):
        backend.train(scan, TrainingConfig(nepochs=5), CPU, directory=tmp_path)
    kept = backend.load(tmp_path, CPU)
    assert [row["epoch"] for row in kept.history] == [1]
    assert np.isfinite(kept.reconstruct(scan).data_residual)


def test_a_setting_without_effect_is_said(scan: Scan) -> None:
    heard: list[str] = []

    class Hear(Listener):
        def on_event(self, event) -> None:
            heard.append(event.message)

    execution = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none", pad_eval=True)
    train(scan, execution, [Hear()], nepochs=1, mae_weight=0.5, momentum=0.5)
    assert heard == [
        "Without effect in this version: --mae-weight, --torch-pad-eval, "
        "--momentum (read with `--optimizer sgd`)."
    ]


def test_every_setting_is_read_or_named_as_without_effect() -> None:
    """A setting that nobody reads and nobody names would be a flag that lies."""
    import ptycho_core_torch
    from ptycho_core import learning
    from ptycho_core.learning import advice as without_effect

    roots = [Path(package.__file__).parent for package in (ptycho_core_torch, learning)]
    sources = [file for root in roots for file in root.rglob("*.py") if file.stem != "without_effect"]
    #: What both cores read in the same way.
    sources += [Path(module.__file__) for module in (architectures, normalisation, schedules)]
    code = "".join(file.read_text() for file in sources)
    named = {*without_effect._TRAINING, *without_effect._EXECUTION, *without_effect._MODEL}
    #: Read by the command line, which opens the scans, chooses the core and the directory.
    elsewhere = {"train_data_file", "test_data_file", "output_dir", "backend", "n_images", "resolution"}
    models = (TrainingConfig, PyTorchExecutionConfig, ModelConfig)
    unread = {
        name
        for model in models
        for name in model.model_fields
        if f".{name}" not in code and name not in named | elsewhere
    }
    assert unread == set()


def test_fewer_groups_image_fewer_frames(scan: Scan) -> None:
    trained = train(scan, nepochs=1)
    config = InferenceConfig(model_path=Path("x"), test_data_file=Path("y"), n_groups=7)
    assert trained.reconstruct(scan, config).n_frames == 7


@pytest.mark.finding("TRAIN-COLLAPSE-001")
def test_a_network_that_always_answers_the_same_is_stopped(
    scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PtychoNetwork.patches

    def constant(self, batch, image):
        mean = real(self, batch, image).mean((0, 1, 2), keepdim=True)
        return mean.expand(batch.amplitude.shape)

    monkeypatch.setattr(PtychoNetwork, "patches", constant)
    monkeypatch.setattr("ptycho_core_torch.lightning_module.WARM_UP_STEPS", 1)
    with pytest.raises(TrainingError, match=r"TRAIN-COLLAPSE-001.*same patch"):
        train(scan, nepochs=8)


def test_more_accumulation_than_batches_is_refused(scan: Scan) -> None:
    execution = PyTorchExecutionConfig(accelerator="cpu", accum_steps=4)
    with pytest.raises(PolicyError, match="EXEC-ACCUM-002"):
        train(scan, execution, nepochs=1)


def test_frames_of_another_size_are_refused(scan: Scan) -> None:
    with pytest.raises(ConfigError, match="`N` is 64"):
        train(scan, nepochs=1, model=ModelConfig(N=64))
    trained = train(scan, nepochs=1)
    larger = simulate_scan(frames=8, frame_px=48, start_kind="true").scan
    with pytest.raises(ConfigError, match="trained on frames of 32 px"):
        trained.reconstruct(larger)


def test_supervised_training_needs_labels(scan: Scan) -> None:
    from dataclasses import replace

    bare = replace(scan, ground_truth=None, patch_truth=None)
    with pytest.raises(ConfigError, match="DATA-SUP-001"):
        train(bare, nepochs=1, model=ModelConfig(model_type="supervised"))


def test_supervised_training_comes_nearer_to_the_labels(scan: Scan) -> None:
    trained = train(scan, nepochs=8, model=ModelConfig(model_type="supervised"))
    losses = [row["train_loss"] for row in trained.history]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_a_network_trained_on_one_half_images_the_other(scan: Scan) -> None:
    """Frames that were never trained on are explained far better than by a network that learned nothing."""
    even, odd = scan.select(np.arange(0, 60, 2)), scan.select(np.arange(1, 60, 2))
    trained = train(even, nepochs=18)
    fresh = train(even, nepochs=1)
    assert trained.reconstruct(odd).data_residual < 0.7 * fresh.reconstruct(odd).data_residual


@pytest.mark.parametrize("batch", [7, pytest.param(64, marks=pytest.mark.slow)])
def test_the_batch_size_of_inference_changes_nothing(scan: Scan, batch: int) -> None:
    trained = train(scan, nepochs=2)
    one = trained.reconstruct(scan)
    from dataclasses import replace

    other = replace(
        trained, execution=PyTorchExecutionConfig(accelerator="cpu", inference_batch_size=batch)
    ).reconstruct(scan)
    assert np.abs(one.object - other.object).max() < 1e-4


def test_metrics_are_logged_as_csv(scan: Scan, tmp_path: Path) -> None:
    execution = PyTorchExecutionConfig(accelerator="cpu")
    get_backend("pytorch").train(scan, TrainingConfig(nepochs=2), execution, directory=tmp_path)
    logged = list(tmp_path.rglob("metrics.csv"))
    assert len(logged) == 1
    assert "train_loss" in logged[0].read_text()


@pytest.mark.parametrize(
    ("architecture", "gridsize"),
    [
        pytest.param(name, size, marks=() if (name, size) in _QUICK else pytest.mark.slow)
        for name in ("cnn", "fno", "fno_vanilla", "ffno")
        for size in (1, 2)
    ],
)
def test_classic_networks_learn_in_groups(scan: Scan, architecture: str, gridsize: int) -> None:
    narrow = NARROW if (architecture, gridsize) in _QUICK else {}
    model = ModelConfig(architecture=architecture, gridsize=gridsize, **narrow)
    trained = train(scan, nepochs=4, model=model, batch_size=8, neighbor_count=6)
    losses = [row["train_loss"] for row in trained.history]
    assert losses[-1] < losses[0]
    result = trained.reconstruct(scan)
    assert np.isfinite(result.object).all()
    assert (result.coverage > 0).any()


def test_one_patch_for_a_group_is_cut_at_every_member(scan: Scan) -> None:
    model = ModelConfig(architecture="cnn", gridsize=2, object_big=False, n_filters_scale=1)
    trained = train(scan, nepochs=1, model=model, batch_size=8, neighbor_count=6)
    assert np.isfinite(trained.reconstruct(scan).data_residual)


def test_groups_of_a_batch_never_meet(scan: Scan) -> None:
    """Agreement within groups does not depend on which groups share a batch (60, 64 and 68 patches)."""
    model = ModelConfig(architecture="cnn", gridsize=2, N=32)
    network = PtychoNetwork(model, scan.probe, 1.0)
    random = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 12, (17 * 4, 2), generator=random)
    patches = torch.randn(17 * 4, 32, 32, dtype=torch.complex64, generator=random)
    alone = torch.cat([network.agreed(patches[i : i + 4], corners[i : i + 4]) for i in range(0, 68, 4)])
    for count in (60, 64, 68):
        together = network.agreed(patches[:count], corners[:count])
        assert torch.allclose(together, alone[:count], atol=1e-6)


def test_a_network_for_a_low_dose_learns_from_bright_frames(scan: Scan) -> None:
    trained = train(scan, nepochs=4, thin_to=2000.0)
    losses = [row["train_loss"] for row in trained.history]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("dose", [1e9, 1e6])
def test_thinning_to_more_than_there_is_is_refused(scan: Scan, dose: float) -> None:
    with pytest.raises(ConfigError, match="Give fewer"):
        train(scan, nepochs=1, thin_to=max(dose, 2 * scan.mean_counts_per_frame()))


def test_amplitudes_cannot_be_thinned(scan: Scan) -> None:
    amplitude = scan_from_arrays(
        scan.amplitude() * 0.37, scan.positions_px, scan.probe, measurement="amplitude", dc="center"
    )
    with pytest.raises(ConfigError, match="photon counts"):
        train(amplitude, nepochs=1, thin_to=1.0)


def test_another_probe_is_refined_and_said_so(scan: Scan) -> None:
    trained = train(scan, nepochs=2)
    same, other = Listener(), Listener()
    trained.reconstruct(scan, callbacks=[same])
    assert "probe" not in same.events
    known = simulate_scan(frames=60, frame_px=32, start_kind="defocus", seed=2)
    result = trained.reconstruct(known.scan, callbacks=[other])
    assert "probe" in other.events
    assert np.isfinite(result.object).all()
    overlap = abs(np.vdot(result.probe[0], known.probe[0]))
    assert overlap > 0.9 * np.linalg.norm(result.probe[0]) * np.linalg.norm(known.probe[0])
