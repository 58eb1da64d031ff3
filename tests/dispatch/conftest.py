"""Run `ptycho` as a user does: a process of its own, in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Ptycho = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ptycho(tmp_path: Path) -> Ptycho:
    """Call the command line with words; returns the finished process with its output."""

    def call(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ptycho_dispatch", *map(str, words)]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, **options
        )

    return call


@pytest.fixture(scope="session")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated scan with known truth."""
    from ptycho_core.io import save_scan
    from ptycho_core.simulate import simulate_scan

    path = tmp_path_factory.mktemp("scan") / "small.npz"
    save_scan(simulate_scan(object_kind="star", frames=40, frame_px=32, seed=1).scan, path)
    return path
