"""Run `ptycho` as a user types it, in a folder of its own: in this process, or in one of its own.

`ptycho` calls the command line in this process, which holds the libraries already. `ptycho_process` starts a
process, for what only a process can show: signals, limits, an environment that libraries read when they load.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ptycho_config.legacy import params
from ptycho_dispatch.cli import main


@dataclass(frozen=True)
class Result:
    """A finished command: its exit code, and what it wrote to the screen."""

    code: int
    out: str
    err: str


Ptycho = Callable[..., Result]


@contextmanager
def as_in_a_program() -> Iterator[None]:
    """Let warnings be what they are in a program, where pytest makes errors of them; keep the registry."""
    before = params.params()
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        try:
            yield
        finally:
            params.cfg.clear()
            params.cfg.update(before)


@pytest.fixture
def ptycho(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ptycho:
    """Call the command line with words; `environment` is added to that of the tests."""

    def call(*words: object, **environment: str) -> Result:
        with monkeypatch.context() as changed, as_in_a_program():
            changed.chdir(tmp_path)
            for name, value in environment.items():
                changed.setenv(name, value)
            capfd.readouterr()
            code = main([*map(str, words)])
            return Result(code, *capfd.readouterr())

    return call


@pytest.fixture
def ptycho_process(tmp_path: Path) -> Ptycho:
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
