"""One contract over every registered backend: it answers honestly, and refuses with a remedy."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from ptycho_config.errors import BackendUnavailableError
from ptycho_core.backend import Backend, discover_backends, get_backend

BACKENDS = discover_backends()


@pytest.mark.parametrize("name", sorted(point.name for point in entry_points(group="ptycho.backends")))
def test_every_registered_backend_keeps_the_protocol(name: str) -> None:
    backend = BACKENDS[name]
    assert isinstance(backend, Backend)
    assert backend.name == name


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_backend_that_is_not_available_says_why_and_refuses(name: str) -> None:
    found = BACKENDS[name].availability()
    assert not found.installed, "networks have arrived: replace this test by the contract suite"
    assert found.reason
    with pytest.raises(BackendUnavailableError, match="ptycho reconstruct"):
        BACKENDS[name].load(Path("no-bundle"), None)


def test_a_backend_that_is_not_installed_gives_the_command_and_no_other_backend() -> None:
    with pytest.raises(BackendUnavailableError, match="`jax` is not installed"):
        get_backend("jax")
