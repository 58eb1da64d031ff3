"""A rank of `mpiexec ptycho reconstruct` dies at any moment: nothing hangs, and the image still comes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ptycho_core.result.stored import holds_result

PROGRAM = Path(__file__).parent / "saving_task.py"
MOMENTS, RANKS = 30, 3
#: So long the others may take to end; and by so much R may differ.
LONGEST_S, SAME_R = 10.0, 1e-3


def residual_in(directory: Path) -> float:
    record = json.loads((directory / "run.json").read_text())
    assert not record["interrupted"]
    return record["data_residual"]


@pytest.mark.slow
def test_a_rank_killed_at_any_moment_costs_no_more_than_the_time(
    mpiexec: tuple[str, ...], tasks_of, siemens_star_path: Path, tmp_path: Path
) -> None:
    words = ("reconstruct", str(siemens_star_path), "--threads", "1", "--frc", "false")
    options = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}

    def started(count: int, out: str, *more: str) -> subprocess.Popen[str]:
        call = [*mpiexec, "-n", str(count), sys.executable, str(PROGRAM), *words, "--output-dir", out, *more]
        return subprocess.Popen(call, **options)

    began = time.monotonic()
    _, err = (whole := started(RANKS, "whole")).communicate(timeout=120)
    assert whole.returncode == 0, err
    seconds, expected = time.monotonic() - began, residual_in(tmp_path / "whole")

    chance, killed, resumed = random.Random(0), 0, 0
    for moment in range(MOMENTS):
        out = tmp_path / f"out-{moment}"
        process = started(RANKS, out.name)
        time.sleep(seconds * (moment + chance.random()) / MOMENTS)
        there = tasks_of(process)
        if process.poll() is None and there:
            os.kill(chance.choice(sorted(there.values())), signal.SIGKILL)
            killed += 1
        died = time.monotonic()
        process.communicate(timeout=120)
        assert time.monotonic() - died < LONGEST_S
        if process.returncode == 0:
            continue  # it was done
        again = ["--resume"] if holds_result(out) else []
        resumed += bool(again)
        _, err = (second := started(1 + moment % 4, out.name, *again)).communicate(timeout=120)
        assert second.returncode == 0, err
        assert abs(residual_in(out) - expected) < SAME_R
    assert killed > MOMENTS / 2
    assert resumed > MOMENTS / 10
