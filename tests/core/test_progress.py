"""The progress bar: it moves with the run, is full at its end, and stays where a stop or an error left it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ptycho_config.models import SolverConfig
from ptycho_core import Callback, ProgressBar, Scan, solve
from ptycho_core.result.callbacks import EpochReport, LevelPlan, RunStart, StepReport
from ptycho_core.result.history import RunEvent

QUICK = SolverConfig(effort="fast", epochs=6)


@pytest.fixture(scope="module")
def scan(simulated: Callable[..., Any]) -> Scan:
    return simulated(frames=60, frame_px=32, start_kind="true").scan


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What stood on the screen, one picture of the bar after the other, and what is below it."""
    return capsys.readouterr().err.split("\r")


def percent(pictures: list[str]) -> list[int]:
    return [int(found[1]) for picture in pictures if (found := re.search(r"(\d+)%\|", picture))]


def test_the_bar_of_a_run_is_full_at_its_end(scan, capsys) -> None:
    result = solve(scan, QUICK, callbacks=[ProgressBar()])
    pictures = shown(capsys)
    moved = percent(pictures)
    assert moved[0] == 0 and moved[-1] == 100 and moved == sorted(moved)
    residual = f"residual {result.history[-1]['residual']:.4f}"
    assert pictures[-1].startswith(f"{scan.name}: 100%") and residual in pictures[-1]
    assert pictures[-1].endswith("\n")


def test_one_bar_serves_several_runs_and_can_leave_the_screen(scan, capsys) -> None:
    bar = ProgressBar(leave=False)
    for _ in range(2):
        solve(scan, QUICK, callbacks=[bar])
        pictures = shown(capsys)
        assert percent(pictures)[0] == 0
        assert pictures[-1].strip() == ""


class Ends(Callback):
    """Ends a run in its third epoch: by an error, or by the wish to stop."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.epochs = error, 0

    def on_epoch(self, epoch: EpochReport) -> None:
        self.epochs += 1
        if self.epochs == 3 and self.error is not None:
            raise self.error

    def should_stop(self) -> bool:
        return self.epochs >= 3


def test_the_bar_stays_where_a_run_was_stopped(scan, capsys) -> None:
    assert solve(scan, QUICK, callbacks=[ProgressBar(), Ends()]).interrupted
    pictures = shown(capsys)
    assert 0 < percent(pictures)[-1] < 100
    assert pictures[-1].endswith("\n")


def test_the_bar_is_closed_where_a_run_fails(scan, capsys) -> None:
    with pytest.raises(ValueError, match="the third"):
        solve(scan, QUICK, callbacks=[ProgressBar(), Ends(ValueError("the third epoch"))])
    pictures = shown(capsys)
    assert 0 < percent(pictures)[-1] < 100
    assert pictures[-1].endswith("\n")


def test_a_run_without_a_plan_shows_the_share_of_its_time(capsys) -> None:
    bar = ProgressBar()
    bar.on_start(RunStart("network", "made", 100, 32, (LevelPlan(32, 0, 5),)))
    bar.on_step(StepReport(1, 32, 1, 1, 5, 0.5, 20))
    bar.on_epoch(EpochReport(1, 1, 32, 1, 4, 0.5, 100.0, elapsed_s=10.0, remaining_s=30.0))
    bar.on_event(RunEvent("time", "The time is over."))
    bar.on_end(failed=False)
    last = shown(capsys)[-1]
    assert percent([last]) == [25]
    assert "epoch 1/4, residual 0.5000, at most 30 s left" in last


def test_a_run_that_never_began_shows_nothing(capsys) -> None:
    bar = ProgressBar()
    bar.on_step(StepReport(1, 32, 1, 1, 5, 0.5, 20))
    bar.on_epoch(EpochReport(1, 1, 32, 1, 4, 0.5, 100.0, 1.0, 3.0))
    bar.on_end(failed=True)
    assert capsys.readouterr().err == ""


def test_nothing_is_loaded_for_a_bar_that_is_not_shown() -> None:
    code = "import sys, ptycho_core; ptycho_core.ProgressBar(); print('tqdm' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "False"
