"""The command as a function, and real runs that the audit can judge."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Copy = Callable[[], Path]


def _ptycho(*words: object) -> None:
    command = [sys.executable, "-m", "ptycho_dispatch", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated scan."""
    path = tmp_path_factory.mktemp("scan") / "small.npz"
    _ptycho("simulate", "--frames", 24, "--size", 32, "--output", path)
    return path


@pytest.fixture(scope="session")
def _solver_run(scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("solved")
    _ptycho("reconstruct", scan_file, "--effort", "fast", "--accelerator", "cpu", "--output-dir", directory)
    return directory


@pytest.fixture(scope="session")
def _training_run(scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("ptycho_core_torch", "torch", "lightning"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    directory = tmp_path_factory.mktemp("trained")
    _ptycho(
        "train", "--train-data-file", scan_file, "--nepochs", 1, "--batch-size", 8, "--output-dir", directory
    )
    return directory


@pytest.fixture
def solver_run(_solver_run: Path, tmp_path: Path) -> Path:
    """A finished `ptycho reconstruct`, to be spoiled."""
    return shutil.copytree(_solver_run, tmp_path / "solved")


@pytest.fixture
def training_run(_training_run: Path, tmp_path: Path) -> Path:
    """A finished `ptycho train`, to be spoiled."""
    return shutil.copytree(_training_run, tmp_path / "trained")
