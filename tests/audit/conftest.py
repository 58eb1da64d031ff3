"""The command as a function, and real runs that the audit can judge."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., int]


@pytest.fixture(scope="session")
def scan_file(run_command: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated scan."""
    path = tmp_path_factory.mktemp("scan") / "small.npz"
    assert run_command("simulate", "--frames", 24, "--size", 32, "--output", path) == 0
    return path


@pytest.fixture(scope="session")
def _solver_run(run_command: Run, scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("solved")
    words = ("reconstruct", scan_file, "--effort", "fast", "--accelerator", "cpu")
    assert run_command(*words, "--output-dir", directory) == 0
    return directory


@pytest.fixture(scope="session")
def _training_run(run_command: Run, scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("ptycho_core_torch", "torch", "lightning"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    directory = tmp_path_factory.mktemp("trained")
    words = ("train", "--train-data-file", scan_file, "--nepochs", 1, "--batch-size", 8)
    assert run_command(*words, "--output-dir", directory) == 0
    return directory


@pytest.fixture
def solver_run(_solver_run: Path, tmp_path: Path) -> Path:
    """A finished `ptycho reconstruct`, to be spoiled."""
    return shutil.copytree(_solver_run, tmp_path / "solved")


@pytest.fixture
def training_run(_training_run: Path, tmp_path: Path) -> Path:
    """A finished `ptycho train`, to be spoiled."""
    return shutil.copytree(_training_run, tmp_path / "trained")
