"""Ctrl-C: the first asks the run to stop and keeps what it reached, the second ends it at once."""

from __future__ import annotations

import logging
import signal
from types import FrameType, TracebackType

from ptycho_core.result.callbacks import Callback

__all__ = ["Interruptible"]

logger = logging.getLogger("ptycho")


class Interruptible(Callback):
    """A callback that hears the interrupt signal while it is entered."""

    def __init__(self) -> None:
        self.asked = False
        self._said = False
        self._before: object = None

    def __enter__(self) -> Interruptible:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # Only remembers: the signal may arrive in the middle of a write to the screen, and a second write
        # from here would be refused as re-entrant.
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def should_stop(self) -> bool:
        if self.asked and not self._said:
            self._said = True
            logger.warning("Stopping after this step; the image is kept. Ctrl-C again ends at once.")
        return self.asked
