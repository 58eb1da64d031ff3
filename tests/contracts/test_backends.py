"""One contract over every registered backend: it answers honestly, and refuses with a remedy."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import BackendUnavailableError, exit_code
from ptycho_config.models import TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import Backend, TrainedModel, discover_backends, get_backend
from ptycho_core.simulate import simulate_scan

BACKENDS = discover_backends()
#: Which cores the environment was made with, comma-separated; the sessions of noxfile.py say it.
EXPECTED = os.environ.get("PTYCHO_TEST_BACKENDS")


each_backend = pytest.mark.parametrize("name", sorted(BACKENDS))


@pytest.fixture(scope="module")
def scan() -> Scan:
    """24 frames of 32 x 32 pixels with the true probe."""
    return simulate_scan(frames=24, frame_px=32, start_kind="true", seed=1).scan


def works(name: str) -> bool:
    return BACKENDS[name].availability().installed


@pytest.mark.skipif(EXPECTED is None, reason="only a nox session knows which cores it installed")
def test_exactly_the_installed_cores_are_registered() -> None:
    assert ",".join(sorted(BACKENDS)) == EXPECTED


@pytest.mark.parametrize("name", sorted(point.name for point in entry_points(group="ptycho.backends")))
def test_every_registered_backend_keeps_the_protocol(name: str) -> None:
    backend = BACKENDS[name]
    assert isinstance(backend, Backend)
    assert backend.name == name


@each_backend
def test_a_backend_says_whether_it_can_work_and_if_not_why(name: str) -> None:
    found = BACKENDS[name].availability()
    assert found.devices if found.installed else found.reason
    assert BACKENDS[name].availability() == found


@each_backend
def test_a_backend_that_cannot_work_refuses_with_a_remedy(name: str, scan: Scan) -> None:
    if works(name):
        pytest.skip("this backend works here")
    config = TrainingConfig(train_data_file=Path("scan.npz"))
    execution = EXECUTIONS[name]() if name in EXECUTIONS else None
    for work in (
        lambda: BACKENDS[name].train(scan, config, execution, callbacks=()),
        lambda: BACKENDS[name].load(Path("no-bundle"), execution),
    ):
        with pytest.raises(BackendUnavailableError, match=r"ptycho reconstruct|pip install") as refused:
            work()
        assert f"`{name}`" in str(refused.value)
        assert exit_code(refused.value) == 4


@each_backend
def test_a_trained_network_reconstructs_and_survives_its_bundle(
    name: str, scan: Scan, tmp_path: Path
) -> None:
    if not works(name):
        pytest.skip(BACKENDS[name].availability().reason)
    execution = EXECUTIONS[name]()
    trained = BACKENDS[name].train(scan, TrainingConfig(nepochs=2, seed=1), execution, callbacks=())
    assert isinstance(trained, TrainedModel)
    first = trained.reconstruct(scan, None)
    assert first.method == "network"
    assert np.isfinite(first.object).all()
    bundle = trained.save(tmp_path)
    assert bundle == tmp_path / "wts.h5.zip"
    again = BACKENDS[name].load(bundle, execution).reconstruct(scan, None)
    scale = np.abs(first.object).max()
    assert np.abs(again.object - first.object).max() <= 1e-5 * scale
    assert again.data_residual == pytest.approx(first.data_residual, rel=1e-5)


def test_a_backend_that_is_not_installed_gives_the_command_and_no_other_backend() -> None:
    with pytest.raises(BackendUnavailableError, match="`jax` is not installed"):
        get_backend("jax")
