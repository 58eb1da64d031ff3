"""Ranks keep their laws, whether there is one process or several."""

from __future__ import annotations

import functools
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import BackendUnavailableError, DataError
from ptycho_core.ranks import ALONE, Launch, in_threads, open_ranks

PROGRAM = Path(__file__).parent / "laws.py"
LAWS = runpy.run_path(str(PROGRAM))["LAWS"]


@functools.cache
def on(mpiexec: tuple[str, ...], count: int) -> dict[str, list[str]]:
    """What came of each law on several ranks."""
    words = [*mpiexec, "-n", str(count), sys.executable, str(PROGRAM)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_one_process_alone(law) -> None:
    law(ALONE)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_several_threads(law, count: int) -> None:
    in_threads(count, law)


def test_a_thread_that_fails_ends_the_others() -> None:
    def work(ranks) -> None:
        if ranks.rank == 1:
            raise DataError("no frames here.")
        ranks.exchange({1: np.zeros(3)})

    with pytest.raises(DataError, match=r"no frames here"):
        in_threads(3, work)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_several_processes(mpiexec: tuple[str, ...], law, count: int) -> None:
    came = on(mpiexec, count)[law.__name__]
    assert len(came) == 2 * count
    assert came == [""] * len(came)


def test_without_mpi4py_the_command_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # as where it is not installed
    with pytest.raises(BackendUnavailableError, match=r"pip install 'ptycho-dispatch\[mpi\]'"):
        open_ranks(Launch(0, 4, "SLURM"))
