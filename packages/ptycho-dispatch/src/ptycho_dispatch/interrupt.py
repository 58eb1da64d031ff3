"""Ctrl-C: the first asks the run to stop and keeps what it reached, the second ends it at once."""

from __future__ import annotations

import logging
import signal
from types import FrameType, TracebackType

from ptycho_core.callbacks import Callback

__all__ = ["Interruptible"]

logger = logging.getLogger("ptycho")


class Interruptible(Callback):
    """A callback that hears the interrupt signal while it is entered."""

    def __init__(self) -> None:
        self.asked = False
        self._before: object = None

    def __enter__(self) -> Interruptible:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logger.warning("Stopping after this step; the image is kept. Ctrl-C again ends at once.")

    def should_stop(self) -> bool:
        return self.asked
