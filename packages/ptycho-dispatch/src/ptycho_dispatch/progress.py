"""Progress of a run: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ptycho_core.result.callbacks import Callback, EpochReport, RunStart, StepReport
from ptycho_core.result.history import RunEvent
from ptycho_dispatch.log import FILE_ONLY, Screen

if TYPE_CHECKING:
    from ptycho_core.live import LiveReport

__all__ = ["Bar", "Lines", "progress_for"]

logger = logging.getLogger("ptycho")
#: Outside a terminal a line at most this often, and one at each end of a level.
_SECONDS_BETWEEN_LINES = 1.0
#: Kinds of events that are worth a warning.
_WARNINGS = frozenset(
    {
        *("dose", "frames_left_out", "ignored", "lattice", "left_out", "live_picture"),
        *("not_finished", "not_read_again", "not_taken_up", "stopped", "time"),
    }
)


def describe(epoch: EpochReport) -> str:
    """Say where a run stands, in one line."""
    return (
        f"level {epoch.level}/{epoch.n_levels} ({epoch.size_px} px), epoch {epoch.epoch}/{epoch.n_epochs}, "
        f"residual {epoch.residual:.4f}, {epoch.frames_per_second:.0f} frames/s, "
        f"at most {epoch.remaining_s:.0f} s left"
    )


def describe_live(report: LiveReport) -> str:
    """Say how a scan that is being watched stands, in one line."""
    of = "" if report.expected is None else f" of {report.expected}"
    parts = [
        f"{report.frames}{of} frames",
        f"{report.frames_per_second:.0f} frames/s",
        f"latency {report.latency_s:.2f} s",
    ]
    if report.residual == report.residual:  # a network judges none
        parts.append(f"residual {report.residual:.4f} ({report.size_px} px)")
    parts += [f"{report.left_out} broken or late"] if report.left_out else []
    return ", ".join(parts)


class Lines(Callback):
    """Writes a log line per epoch, not more than about one a second."""

    def __init__(self) -> None:
        self._last = 0.0

    def on_start(self, start: RunStart) -> None:
        levels = ", then ".join(
            f"{level.size_px} px, " + (f"up to {level.epochs} epochs" if level.epochs else "as time allows")
            for level in start.levels
        )
        logger.info("%s: %d frames of %d px; %s.", start.scan_name, start.n_frames, start.frame_px, levels)

    def on_event(self, event: RunEvent) -> None:
        logger.log(logging.WARNING if event.kind in _WARNINGS else logging.INFO, "%s", event.message)

    def on_epoch(self, epoch: EpochReport) -> None:
        now = time.monotonic()
        at_an_end = epoch.epoch in (1, epoch.n_epochs)
        if at_an_end or now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            logger.info("%s", describe(epoch))

    def on_live(self, report: LiveReport) -> None:
        """Hear how a scan that is being watched stands."""
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            logger.info("%s", describe_live(report), extra=self._live_extra)

    _live_extra: Mapping[str, bool] | None = None


class Bar(Lines):
    """Shows a bar that moves with every batch; events stay log lines above it."""

    def __init__(self, progress: Any) -> None:
        super().__init__()
        self._progress = progress
        self._task = progress.add_task("looking at the scan", total=None, state="")
        self._steps_before: list[int] = [0]

    def on_start(self, start: RunStart) -> None:
        super().on_start(start)
        for level in start.levels:
            self._steps_before.append(self._steps_before[-1] + level.epochs * level.batches)
        self._progress.update(self._task, total=start.n_steps)

    _live_extra = {FILE_ONLY: True}  # noqa: RUF012

    def on_live(self, report: LiveReport) -> None:
        super().on_live(report)
        self._progress.update(
            self._task,
            description=f"{report.frames} frames",
            total=report.expected,
            completed=report.frames,
            state=(
                f"{report.frames_per_second:.0f} frames/s  latency {report.latency_s:.2f} s  "
                f"residual {report.residual:.4f}"
            ),
        )

    def on_step(self, step: StepReport) -> None:
        # Counted from the plan: a level that has settled ends early, and the bar moves on with it.
        before = self._steps_before[step.level - 1] if step.level <= len(self._steps_before) else 0
        self._progress.update(
            self._task, completed=before + (step.epoch - 1) * step.n_steps_in_epoch + step.step
        )

    def on_epoch(self, epoch: EpochReport) -> None:
        # The log file gets the same line as without a terminal; on the screen the bar says it.
        logger.info("%s", describe(epoch), extra={FILE_ONLY: True})
        self._progress.update(
            self._task,
            description=f"level {epoch.level}/{epoch.n_levels}, {epoch.size_px} px",
            state=(
                f"epoch {epoch.epoch}/{epoch.n_epochs}  residual {epoch.residual:.4f}  "
                f"{epoch.frames_per_second:.0f} frames/s  {epoch.remaining_s:.0f} s left"
            ),
        )


def progress_for(screen: Screen) -> tuple[AbstractContextManager[Any], Lines]:
    """Return a context to run in and the callback that shows progress there."""
    if not sys.stderr.isatty() or screen.level > logging.INFO:
        return nullcontext(), Lines()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    # The words must fit 80 columns; the bar takes what is left.
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[state]}"),
    )
    progress = Progress(*columns, console=console, transient=True, expand=True)
    screen.console = console
    return progress, Bar(progress)
