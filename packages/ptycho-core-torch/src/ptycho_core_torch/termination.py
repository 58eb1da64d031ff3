"""SIGTERM, with which clusters end a job: heard between steps, like any other wish to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["Termination"]


class Termination:
    """Hears the signal while Lightning trains, and passes it on to the handler that was there before.

    Lightning's own handler, which this one takes the place of, talks to the other processes from wherever the
    signal finds it; in the middle of a sum over all of them that ends in waiting for ever. Lightning puts the
    former handler back when its run is over.

    Attributes:
        heard: somebody wants this process to end.
    """

    def __init__(self) -> None:
        self.heard = False
        self._before = signal.getsignal(signal.SIGTERM)

    def listen(self) -> None:
        """Begin, once Lightning has set its handlers; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = True
        if callable(self._before):
            self._before(number, frame)
