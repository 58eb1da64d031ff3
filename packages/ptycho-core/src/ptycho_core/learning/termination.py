"""SIGTERM, with which clusters end a job: heard between steps, like any other wish to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["Termination"]


class Termination:
    """Hears the signal during a training, and passes it on to the handler that was there before.

    Attributes:
        heard: somebody wants this process to end.
    """

    def __init__(self) -> None:
        self.heard = False
        self._before = signal.getsignal(signal.SIGTERM)

    def listen(self) -> None:
        """Begin; only the main thread may, others hear nothing."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._hear)

    def end(self) -> None:
        """Put the former handler back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = True
        if callable(self._before):
            self._before(number, frame)
