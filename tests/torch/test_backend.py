"""The PyTorch core of this version: registered, honest, and light until torch is asked for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ptycho_config.errors import BackendUnavailableError, exit_code
from ptycho_core.arrays import Arrays, array_libraries
from ptycho_core.backend import Backend, get_backend

pytest.importorskip("ptycho_core_torch", reason="the distribution ptycho-core-torch is not installed")

TORCH_IS_INSTALLED = importlib.util.find_spec("torch") is not None


def test_the_backend_is_found_by_its_name_and_keeps_the_protocol() -> None:
    backend = get_backend("pytorch")
    assert isinstance(backend, Backend)
    assert backend.name == "pytorch"


def test_it_says_that_networks_are_not_part_of_this_version() -> None:
    found = get_backend("pytorch").availability()
    assert not found.installed
    assert ("not implemented in this version" in found.reason) == TORCH_IS_INSTALLED
    assert found.version == (version("torch") if TORCH_IS_INSTALLED else None)
    assert (found.devices[:1] == ("cpu",)) == TORCH_IS_INSTALLED


def test_training_and_loading_are_refused_with_exit_4_and_the_way_out() -> None:
    backend = get_backend("pytorch")
    with pytest.raises(BackendUnavailableError, match="--method solver") as refused:
        backend.load(Path("wts.h5.zip"), None)
    assert exit_code(refused.value) == 4


def test_the_solver_finds_torch_arrays_by_their_name() -> None:
    library = array_libraries()["torch"]()
    assert library.available() == TORCH_IS_INSTALLED
    assert isinstance(library(device="cpu", threads=1), Arrays)


def test_importing_the_core_loads_no_framework() -> None:
    code = (
        "import sys, ptycho_core_torch.backend; "
        "print(sorted({'torch', 'lightning', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
