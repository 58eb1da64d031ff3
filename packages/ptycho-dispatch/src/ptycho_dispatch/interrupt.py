"""Ctrl-C: the first asks the run to stop and keeps what it reached, the second ends it at once.

SIGTERM and SIGHUP ask in the same way.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from ptycho_core.result.callbacks import Callback
from ptycho_dispatch.signals import ASKING, HEARING, Request, exit_code_of

__all__ = ["Interruptible"]

logger = logging.getLogger("ptycho")


class Interruptible(Callback):
    """A callback that hears the signals while it is entered, in the main thread."""

    def __init__(self) -> None:
        self.asked = False
        self._request = Request()
        self._said = False
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int | None:
        """The exit code of a run that was asked to stop; None where it was not."""
        return None if self._request.first is None else exit_code_of(self._request.first)

    def __enter__(self) -> Interruptible:
        if threading.current_thread() is threading.main_thread():
            for number in ASKING:
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)
        if HEARING.request.first is not None:  # heard before, and what was raised then got lost on its way
            self._ask(HEARING.request.first, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # Only remembers: the signal may arrive in the middle of a write to the screen, and a second write
        # from here would be refused as re-entrant.
        HEARING.request.again(number)
        if self._request.again(number):
            raise KeyboardInterrupt
        self.asked = True

    def should_stop(self) -> bool:
        if self.asked and not self._said:
            self._said = True
            logger.warning("Stopping after this step; the image is kept. Ctrl-C again ends at once.")
            HEARING.was_told()
        return self.asked
