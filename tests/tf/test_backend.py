"""The TensorFlow core of this version: registered, honest, and light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ptycho_config.errors import BackendUnavailableError, exit_code
from ptycho_core.backend import Availability, Backend, get_backend

pytest.importorskip("ptycho_core_tf", reason="the distribution ptycho-core-tf is not installed")


def test_the_backend_is_found_by_its_name_and_keeps_the_protocol() -> None:
    backend = get_backend("tensorflow")
    assert isinstance(backend, Backend)
    assert backend.name == "tensorflow"


def test_it_says_that_networks_are_not_part_of_this_version() -> None:
    found = get_backend("tensorflow").availability()
    assert found == Availability(installed=False, reason="networks are not implemented in this version")


def test_training_and_loading_are_refused_with_exit_4_and_the_way_out() -> None:
    backend = get_backend("tensorflow")
    with pytest.raises(BackendUnavailableError, match="--method solver") as refused:
        backend.load(Path("wts.h5.zip"), None)
    assert exit_code(refused.value) == 4


def test_importing_the_core_loads_no_framework() -> None:
    code = (
        "import sys, ptycho_core_tf.backend; "
        "print(sorted({'torch', 'lightning', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
