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
from ptycho_core.backend import Backend, discover_backends, get_backend

BACKENDS = discover_backends()
#: Which cores the environment was made with, comma-separated; the sessions of noxfile.py say it.
EXPECTED = os.environ.get("PTYCHO_TEST_BACKENDS")

each_backend = pytest.mark.parametrize("name", sorted(BACKENDS))


@pytest.fixture
def scan() -> Scan:
    """Four frames of one bright pixel each, enough to be a scan."""
    frames = np.zeros((4, 32, 32), dtype=np.uint32)
    frames[:, 16, 16] = 1000
    return Scan.from_arrays(frames, np.array([[0.0, 0.0], [0.0, 8.0], [8.0, 0.0], [8.0, 8.0]]))


@pytest.mark.skipif(EXPECTED is None, reason="only a nox session knows which cores it installed")
def test_exactly_the_installed_cores_are_registered() -> None:
    assert ",".join(sorted(BACKENDS)) == EXPECTED


@pytest.mark.parametrize("name", sorted(point.name for point in entry_points(group="ptycho.backends")))
def test_every_registered_backend_keeps_the_protocol(name: str) -> None:
    backend = BACKENDS[name]
    assert isinstance(backend, Backend)
    assert backend.name == name


@each_backend
def test_a_backend_that_is_not_available_says_why(name: str) -> None:
    found = BACKENDS[name].availability()
    assert not found.installed, "networks have arrived: replace this test by the contract suite"
    assert found.reason
    assert BACKENDS[name].availability() == found


@each_backend
def test_a_backend_that_is_not_available_refuses_to_train_with_a_remedy(name: str, scan: Scan) -> None:
    config = TrainingConfig(train_data_file=Path("scan.npz"))
    with pytest.raises(BackendUnavailableError, match="ptycho reconstruct") as refused:
        BACKENDS[name].train(scan, config, None, callbacks=())
    assert f"`{name}`" in str(refused.value)
    assert exit_code(refused.value) == 4


@each_backend
def test_a_backend_that_is_not_available_refuses_to_load_with_a_remedy(name: str) -> None:
    with pytest.raises(BackendUnavailableError, match="ptycho reconstruct") as refused:
        BACKENDS[name].load(Path("no-bundle"), None)
    assert f"`{name}`" in str(refused.value)
    assert exit_code(refused.value) == 4


def test_a_backend_that_is_not_installed_gives_the_command_and_no_other_backend() -> None:
    with pytest.raises(BackendUnavailableError, match="`jax` is not installed"):
        get_backend("jax")
