"""What the client's user sees of a run: log lines on the channels that the client listens to."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ptycho_core.result.callbacks import Callback, EpochReport, RunStart
from ptycho_core.result.history import RunEvent

__all__ = ["Progress", "spoken_warnings"]


class Progress(Callback):
    """Logs the start, every epoch and every event of a run."""

    def __init__(self, log: logging.Logger, what: str, *, in_epochs: bool = True) -> None:
        """Log to `log`; `what` names the work in the first line. What has no epochs is done at once."""
        self._log, self._what, self._in_epochs = log, what, in_epochs

    def on_start(self, start: RunStart) -> None:
        """Say what begins."""
        self._log.info("%s %d frames of %d px.", self._what, start.n_frames, start.frame_px)

    def on_epoch(self, epoch: EpochReport) -> None:
        """Say how far the run is."""
        if not self._in_epochs:
            self._log.info(
                "Done in %.1f s, %.0f frames/s: residual %.4f.",
                epoch.elapsed_s,
                epoch.frames_per_second,
                epoch.residual,
            )
            return
        self._log.info(
            "Epoch %d of %d: residual %.4f, %.0f frames/s, %.0f s done, about %.0f s to go.",
            epoch.epoch,
            epoch.n_epochs,
            epoch.residual,
            epoch.frames_per_second,
            epoch.elapsed_s,
            epoch.remaining_s,
        )

    def on_event(self, event: RunEvent) -> None:
        """Pass an event on."""
        self._log.info("%s", event.message)


@contextmanager
def spoken_warnings(log: logging.Logger) -> Iterator[None]:
    """Also log warnings, since the client shows no standard output; they stay warnings."""
    before = warnings.showwarning

    def show(message: Warning | str, *where: Any, **more: Any) -> None:  # the signature of `showwarning`
        log.warning("%s", " ".join(str(message).split()))
        before(message, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        # Another thread may have taken its place in the meantime.
        if warnings.showwarning is show:
            warnings.showwarning = before
