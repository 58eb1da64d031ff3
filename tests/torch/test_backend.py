"""The PyTorch core: registered, honest about what is installed, and light until torch is asked for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ptycho_config.errors import BackendUnavailableError, exit_code
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_core.arrays import Arrays, array_libraries
from ptycho_core.backend import Backend, get_backend

pytest.importorskip("ptycho_core_torch", reason="the distribution ptycho-core-torch is not installed")

TORCH_IS_INSTALLED = importlib.util.find_spec("torch") is not None
NETWORKS_WORK = TORCH_IS_INSTALLED and importlib.util.find_spec("lightning") is not None


def test_the_backend_is_found_by_its_name_and_keeps_the_protocol() -> None:
    backend = get_backend("pytorch")
    assert isinstance(backend, Backend)
    assert backend.name == "pytorch"


def test_it_says_what_is_installed_and_what_is_not() -> None:
    found = get_backend("pytorch").availability()
    assert found.installed == NETWORKS_WORK
    assert ("not installed" in found.reason) != NETWORKS_WORK
    assert found.version == (version("torch") if NETWORKS_WORK else None)
    assert (found.devices[:1] == ("cpu",)) == NETWORKS_WORK


def test_without_its_framework_it_refuses_with_exit_4_and_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lightning" else real(name))
    backend = get_backend("pytorch")
    with pytest.raises(BackendUnavailableError, match=r"lightning.*ptycho-dispatch\[torch\]") as refused:
        backend.load(Path("wts.h5.zip"), PyTorchExecutionConfig(accelerator="cpu"))
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
