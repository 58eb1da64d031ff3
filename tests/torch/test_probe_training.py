"""`--probe-trainable`: the probe learns with the network, keeps its gauge, and comes along in the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import torch
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.callbacks import Callback
from ptycho_core.normalisation import probe_in_gauge
from ptycho_core.simulate import simulate_scan
from ptycho_core_torch.network import PtychoNetwork

CPU = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")


@pytest.fixture(scope="module")
def scan() -> Scan:
    """60 frames of 32 x 32 whose start probe is wrong."""
    return simulate_scan(frames=60, frame_px=32, start_kind="scan-like", seed=1).scan


def train(scan: Scan, start=None, callbacks=(), **config):
    backend = get_backend("pytorch")
    return backend.train(scan, TrainingConfig(**config), CPU, start=start, callbacks=callbacks)


def test_a_probe_that_learns_explains_what_a_wrong_one_cannot(scan: Scan) -> None:
    held, learned = (train(scan, nepochs=30, probe_trainable=trained) for trained in (False, True))
    assert np.array_equal(
        held.network.probe.numpy(), probe_in_gauge(scan.probe, held.network.model).astype("c8")
    )
    assert learned.reconstruct(scan).data_residual < 0.9 * held.reconstruct(scan).data_residual


def test_it_is_held_in_its_gauge_and_in_the_bundle(scan: Scan, tmp_path: Path) -> None:
    trained = train(scan, nepochs=2, probe_trainable=True)
    probe = trained.network.probe.numpy()
    assert np.allclose(probe, probe_in_gauge(probe, trained.network.model), atol=1e-5)
    assert not np.allclose(probe, probe_in_gauge(scan.probe, trained.network.model), atol=1e-4)
    assert not trained.network.probe_parts.requires_grad
    loaded = get_backend("pytorch").load(trained.save(tmp_path), CPU)
    assert np.array_equal(loaded.network.probe.numpy(), probe)
    assert np.array_equal(loaded.probe_given, scan.probe)
    assert np.array_equal(loaded.reconstruct(scan).object, trained.reconstruct(scan).object)


def test_a_training_goes_on_from_the_probe_that_was_reached(scan: Scan) -> None:
    first = train(scan, nepochs=2, probe_trainable=True)

    class AtOnce(Callback):
        def should_stop(self) -> bool:
            return True

    gone_on = train(scan, first, [AtOnce()], nepochs=4)
    reached, now = first.network.probe.numpy(), gone_on.network.probe.numpy()
    started = probe_in_gauge(scan.probe, first.network.model)
    assert np.linalg.norm(now - reached) < 0.5 * np.linalg.norm(started - reached)


def test_the_gauge_changes_no_rate_and_the_mask_stays(scan: Scan) -> None:
    network = PtychoNetwork(ModelConfig(N=32, probe_mask=True), scan.probe, 3.0)
    masked = network.probe == 0
    patches = torch.full((2, 32, 32), 0.5 + 0.5j)
    with torch.no_grad():
        network.probe_parts.mul_(1.7)
        before = network.rate(patches, torch.zeros(2, 2))
        network.probe_parts[masked] = 0.1
        network.rescale_probe()
        after = network.rate(patches, torch.zeros(2, 2))
    assert masked.any()
    assert not network.probe[masked].any()
    assert torch.allclose(after, before, rtol=0, atol=1e-6 * float(before.max()))


def test_labels_leave_the_probe_alone(scan: Scan) -> None:
    known = simulate_scan(frames=24, frame_px=32, start_kind="true", seed=1).scan
    trained = train(known, nepochs=1, probe_trainable=True, model=ModelConfig(model_type="supervised"))
    assert np.array_equal(
        trained.network.probe.numpy(), probe_in_gauge(known.probe, trained.network.model).astype("c8")
    )
