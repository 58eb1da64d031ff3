"""A small scan as a file, and `ptycho` in a process of its own for what only a process can show.

That is: signals, limits, an environment that libraries read when they load. Else `ptycho` calls it in place.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Result:
    """A finished process: its exit code, and what it wrote to the screen."""

    code: int
    out: str
    err: str


@pytest.fixture
def ptycho_process(tmp_path: Path) -> Callable[..., Result]:
    """Call the command line in a process of its own; `options` are those of `subprocess.run`."""

    def call(*words: object, environment: dict[str, str] | None = None, **options: object) -> Result:
        command = [sys.executable, "-m", "ptycho_dispatch", *map(str, words)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | (environment or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated scan with known truth."""
    from ptycho_core.io import save_scan
    from ptycho_core.simulate import simulate_scan

    path = tmp_path_factory.mktemp("scan") / "small.npz"
    save_scan(simulate_scan(object_kind="star", frames=40, frame_px=32, seed=1).scan, path)
    return path


@pytest.fixture
def tasks_of() -> Callable[[subprocess.Popen[str]], dict[int, int]]:
    """Tell the tasks of a launcher that is running: rank -> number of its process."""
    return _tasks_of


def _tasks_of(launcher: subprocess.Popen[str]) -> dict[int, int]:
    children: dict[int, list[int]] = {}
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    for number in numbers:
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(number)
    below, found = [launcher.pid], dict[int, int]()
    while below:
        number = below.pop()
        below += children.get(number, [])
        try:
            environment = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        rank = next((int(one[9:]) for one in environment if one.startswith(b"PMI_RANK=")), None)
        if rank is not None:
            found[rank] = min(found.get(rank, number), number)  # the process beside it is younger
    return found
