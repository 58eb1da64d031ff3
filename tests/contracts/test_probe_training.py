"""`--probe-trainable`: the probe learns with the network, keeps its gauge, and comes along in the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho_config.execution import PyTorchExecutionConfig, TensorFlowExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import discover_backends
from ptycho_core.physics.normalisation import probe_in_gauge
from ptycho_core.result.callbacks import Callback
from ptycho_core.simulate import simulate_scan

BACKENDS = {name: core for name, core in discover_backends().items() if core.availability().installed}
EXECUTIONS = {"pytorch": PyTorchExecutionConfig, "tensorflow": TensorFlowExecutionConfig}


@pytest.fixture(scope="module", params=sorted(BACKENDS))
def name(request: pytest.FixtureRequest) -> str:
    """Each core that works here."""
    return request.param


@pytest.fixture(scope="module")
def scan(simulated) -> Scan:
    """60 frames of 32 x 32 whose start probe is wrong."""
    return simulated(frames=60, frame_px=32, start_kind="scan-like", seed=1).scan


def on_cpu(name: str):
    return EXECUTIONS[name](accelerator="cpu", logger_backend="none")


def train(name: str, scan: Scan, start=None, callbacks=(), **config):
    settings = TrainingConfig(**config)
    return BACKENDS[name].train(scan, settings, on_cpu(name), start=start, callbacks=callbacks)


@pytest.fixture(scope="module")
def trained(name: str, scan: Scan, quick):
    """A quick network and its probe after two epochs."""
    return train(name, scan, nepochs=2, probe_trainable=True, model=ModelConfig(**quick))


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[pytest.mark.slow] * (one == "tensorflow")) for one in sorted(BACKENDS)]
)
def test_a_probe_that_learns_explains_what_a_wrong_one_cannot(name: str, scan: Scan) -> None:
    # Small batches: 120 steps.
    settings = {"nepochs": 12, "batch_size": 6, "seed": 1}
    held, learned = (train(name, scan, probe_trainable=trained, **settings) for trained in (False, True))
    assert np.array_equal(
        held.network.probe.numpy(), probe_in_gauge(scan.probe, held.network.model).astype("c8")
    )
    assert learned.reconstruct(scan).data_residual < 0.9 * held.reconstruct(scan).data_residual


def test_it_is_held_in_its_gauge_and_in_the_bundle(name: str, scan: Scan, trained, tmp_path: Path) -> None:
    probe = trained.network.probe.numpy()
    assert np.allclose(probe, probe_in_gauge(probe, trained.network.model), atol=1e-5)
    assert not np.allclose(probe, probe_in_gauge(scan.probe, trained.network.model), atol=1e-4)
    loaded = BACKENDS[name].load(trained.save(tmp_path), on_cpu(name))
    assert np.array_equal(loaded.network.probe.numpy(), probe)
    assert np.array_equal(loaded.probe_given, scan.probe)
    assert np.array_equal(loaded.reconstruct(scan).object, trained.reconstruct(scan).object)


def test_a_training_goes_on_from_the_probe_that_was_reached(name: str, scan: Scan, trained) -> None:
    class AtOnce(Callback):
        def should_stop(self) -> bool:
            return True

    gone_on = train(name, scan, trained, [AtOnce()], nepochs=4)
    reached, now = trained.network.probe.numpy(), gone_on.network.probe.numpy()
    started = probe_in_gauge(scan.probe, trained.network.model)
    assert np.linalg.norm(now - reached) < 0.5 * np.linalg.norm(started - reached)


def test_labels_leave_the_probe_alone(name: str, quick) -> None:
    known = simulate_scan(frames=24, frame_px=32, start_kind="true", seed=1).scan
    model = ModelConfig(model_type="supervised", **quick)
    trained = train(name, known, nepochs=1, probe_trainable=True, model=model)
    assert np.array_equal(
        trained.network.probe.numpy(), probe_in_gauge(known.probe, trained.network.model).astype("c8")
    )
