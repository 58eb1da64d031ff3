"""A bar that shows how far a run is, in a notebook or in a terminal."""

from __future__ import annotations

import warnings
from typing import Any

from ptycho_config.plaintext import plain
from ptycho_core.result.callbacks import Callback, EpochReport, RunStart, StepReport
from ptycho_core.result.history import RunEvent

__all__ = ["ProgressBar"]

#: How long it may still take is told by the run, which knows that later epochs are slower.
_FORMAT = "{l_bar}{bar}| {elapsed}{postfix}"
#: Kinds of events that end a run before its plan.
_CUT_SHORT = frozenset({"stopped", "time"})


class ProgressBar(Callback):
    """Shows a bar of tqdm for a run: a widget in a notebook, a line of text elsewhere.

    Give it to whatever takes callbacks: `solve`, `train` and `reconstruct` of a network. Without the package
    ipywidgets a notebook shows the line of text as well. One bar can be given to several runs, one after the
    other.

    Args:
        leave: keep the bar on the screen when the run is over.

    Example:
        >>> from ptycho_core import ProgressBar, open_scan, solve
        >>> result = solve(open_scan("siemens-star"), callbacks=[ProgressBar()])  # doctest: +SKIP
    """

    def __init__(self, *, leave: bool = True) -> None:
        self._leave = leave
        self._bar: Any = None  # of tqdm, whose class depends on where we are
        self._steps_before: list[int] = []
        self._by_time = self._cut_short = False

    def on_start(self, start: RunStart) -> None:
        """Show an empty bar; a run that goes on with another plan begins it anew."""
        self._steps_before = [0]
        for level in start.levels:
            self._steps_before.append(self._steps_before[-1] + level.epochs * level.batches)
        # Without a plan the bar is a share of the time that the run has.
        self._by_time = start.n_steps == 0
        total = 1.0 if self._by_time else start.n_steps
        if self._bar is not None:
            self._bar.reset(total=total)
            return
        self._cut_short = False
        self._bar = _kind_of_bar()(
            desc=plain(start.scan_name),
            total=total,
            leave=self._leave,
            bar_format=_FORMAT,
            dynamic_ncols=True,
        )

    def on_step(self, step: StepReport) -> None:
        """Move the bar. Where a level settled before its last epoch, the bar moves on with the next."""
        if self._bar is not None and not self._by_time and step.level < len(self._steps_before):
            done = self._steps_before[step.level - 1] + (step.epoch - 1) * step.n_steps_in_epoch + step.step
            self._bar.update(done - self._bar.n)

    def on_epoch(self, epoch: EpochReport) -> None:
        """Tell level, epoch, residual, and how long it may still take."""
        if self._bar is None:
            return
        if self._by_time:
            share = epoch.elapsed_s / max(epoch.elapsed_s + epoch.remaining_s, 1e-9)
            self._bar.update(max(share - self._bar.n, 0.0))
        level = f"level {epoch.level}/{epoch.n_levels}, " if epoch.n_levels > 1 else ""
        left = f", at most {epoch.remaining_s:.0f} s left" if epoch.remaining_s > 0 else ""
        self._bar.set_postfix_str(
            f"{level}{epoch.size_px} px, epoch {epoch.epoch}/{epoch.n_epochs}, "
            f"residual {epoch.residual:.4f}{left}",
            refresh=False,
        )

    def on_event(self, event: RunEvent) -> None:
        """Note that the run ends early."""
        self._cut_short = self._cut_short or event.kind in _CUT_SHORT

    def on_end(self, *, failed: bool) -> None:
        """Leave the bar full where the run came to its end, and where it stood elsewhere."""
        bar, self._bar = self._bar, None
        if bar is None:
            return
        if not failed and not self._cut_short:
            bar.update(bar.total - bar.n)
        bar.close()


def _kind_of_bar() -> Any:
    """Find out which bar of tqdm suits the place; without its widget a notebook gets the line of text."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tqdm.auto import tqdm
    return tqdm
