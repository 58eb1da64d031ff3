"""Signals that ask a command to end: Ctrl-C, SIGTERM (`kill`, schedulers), SIGHUP (a terminal that closed).

All three mean the same, from the first line of `ptycho` on. While it is loaded nothing can be lost, and the
process ends with one line. While it works, `KeyboardInterrupt` is raised in the main thread, or, where an
image is made, `ptycho_dispatch.interrupt.Interruptible` asks for the end of the present step. The exit code
is 128 plus the number of the signal that came first.

Python hears a signal only between two steps of its own, and some of ours take long. A thread that sleeps
until one comes says after a second that it was heard, and ends the process where a second is not obeyed.

Where no thread of ours can run, as HDF5 keeps Python's lock while it reads, a process beside ours answers
(`guard.py`).

This module is loaded before all others and imports nothing that is not there anyhow.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import time

from ptycho_dispatch.guard import SAID, Guard, guarded

TYPE_CHECKING = False  # what is only needed for types takes longer to load than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

__all__ = ["ASKING", "HEARING", "Hearing", "Request", "exit_code_of"]

#: The signals, on this system.
ASKING: tuple[int, ...] = tuple(
    int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
#: After so long somebody who asked is told that it was heard.
_SAID_AFTER_S = 1.0
#: What does not end within this time, asked twice, is ended.
_ENDED_AFTER_S = 2.0
#: A shell that closes, and the terminal under it, each send SIGHUP; schedulers send SIGTERM to every process
#: of a job, and its parent passes it on. What follows so soon is the same request.
_ONE_REQUEST_S = 2.0
#: An interruption that got lost comes again after so long.
_COMES_AGAIN_S = 0.01
_HEARD = "ptycho: stopping as soon as the present step is done; Ctrl-C again ends at once.\n"
_INTERRUPTED = "ptycho: interrupted\n"


def exit_code_of(number: int) -> int:
    """Return the exit code of a command that a signal ended, as a shell counts it."""
    return 128 + number


class Request:
    """Tells a first request to end from one that is repeated with less patience.

    Attributes:
        first: the number of the first signal; None while none came.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self._came_s = 0.0

    def again(self, number: int) -> bool:
        """Note a signal; whether it asks a second time."""
        now = time.monotonic()
        if self.first is None:
            self.first, self._came_s = number, now
            return False
        return number == signal.SIGINT or now - self._came_s > _ONE_REQUEST_S


class Hearing:
    """What this process hears of signals, and what it does about them in each stage of its life."""

    def __init__(self) -> None:
        self.request = Request()
        self.listening = False
        self._stage: Callable[[int], None] = _end_at_once
        self._said = False
        self._repeated = False
        self._left_with: int | None = None
        self._guard: Guard | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code, where a signal asked for the end."""
        return None if self.request.first is None else exit_code_of(self.request.first)

    def listen(self) -> None:
        """Hear the signals from now on; one that was to be ignored, as under nohup, still is."""
        if self.listening:
            return
        self.listening = True
        for number in ASKING:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._hear)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_as_any_process)
        atexit.register(self._leave)  # before all others, so that it is called behind them

    def begin_work(self) -> None:
        """From now on something may be lost: a signal becomes a KeyboardInterrupt that everything cleans up
        after."""
        if not self.listening:
            return
        self._stage = _interrupt
        sys.unraisablehook = _once_more(sys.unraisablehook)
        self._guard = guarded(ASKING, _write, _HEARD, _INTERRUPTED)
        if self._guard is None:
            reading, writing = os.pipe()
            os.set_blocking(writing, False)
        else:
            reading, writing = self._guard.relay, self._guard.wakeup
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        from threading import Thread

        Thread(target=self._watch, args=(reading,), name="signals", daemon=True).start()

    def without_guard(self) -> None:
        """Have no part in it, as a child process."""
        if self._guard is not None:
            self._guard.leave()
            self._guard = None

    def expect_life(self, limit_s: float) -> None:
        """End this process where it neither works nor answers for so long, as where a disk is gone; 0: no
        longer."""
        if self._guard is not None:
            self._guard.watch_for_life(limit_s)

    def end_work(self, code: int) -> None:
        """From now on the result is there, and a signal ends the process with its exit code."""
        if self.listening:
            self._said = True
            self._stage = lambda number: os._exit(code)

    def close(self, code: int) -> None:
        """Hear nothing more: what comes while Python itself ends would end the process by a signal.

        Python leaves alone what is ignored, where it gives its own handlers up for the system's.

        Args:
            code: with which the process ends.
        """
        self._left_with = code
        if self.listening:
            for number in ASKING:
                signal.signal(number, signal.SIG_IGN)

    def _leave(self) -> None:
        """End with the code that was said.

        Once an interruption has passed through code that was made of a text, as dataclasses and named tuples
        make theirs, `python -m` ends itself by SIGINT, whatever became of the interruption.
        """
        if self.listening and self.request.first is not None and self._left_with is not None:
            os._exit(self._left_with)

    def leave_at_once(self) -> None:
        """End, once the code is said, without what others have asked to be called at the end.

        It is called before what was registered so far: a library that waits for processes which are gone
        would never return.
        """
        atexit.register(self._leave_with_the_code)

    def _leave_with_the_code(self) -> None:
        if self._left_with is not None:
            os._exit(self._left_with)

    def last_words(self, text: str) -> None:
        """Say a line past all buffers, where nothing else can be relied on."""
        self._said = True
        _write(f"ptycho: {text}\n")

    def was_told(self) -> None:
        """Note that whoever asked has been answered."""
        self._said = True

    def come_again(self) -> None:
        """Send the first signal once more, which is no second request."""
        time.sleep(_COMES_AGAIN_S)
        self._repeated = True
        os.kill(os.getpid(), self.request.first or signal.SIGINT)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.request.again(number)
        self._stage(number)

    def _watch(self, reading: int) -> None:
        """Answer where the main thread is busy; see the head of this module."""
        from select import select

        request, answer_s, end_s = Request(), float("inf"), float("inf")
        while True:
            now = time.monotonic()
            if now >= end_s:
                _end_at_once(request.first or signal.SIGINT)
            if now >= answer_s:
                answer_s = float("inf")
                if not self._said:
                    self._said = True
                    _write(_HEARD)
            wait_s = min(answer_s, end_s) - now
            if not select([reading], [], [], None if wait_s == float("inf") else max(0.0, wait_s))[0]:
                continue
            came = os.read(reading, 64)
            if self._guard is not None:
                if not came:  # somebody has killed the guard
                    reading, self._guard = self._guard.directly(), None
                    continue
                self._guard.taken()
            for number in came:
                if number == SAID:
                    self._said = True
                if number not in ASKING:
                    continue
                if self._repeated:
                    self._repeated = False
                    continue
                if request.again(number):
                    end_s = min(end_s, time.monotonic() + _ENDED_AFTER_S)
                elif answer_s == float("inf"):
                    answer_s = time.monotonic() + _SAID_AFTER_S


def _end_at_once(number: int) -> None:
    _write(_INTERRUPTED)
    os._exit(exit_code_of(number))


def _interrupt(number: int) -> None:
    raise KeyboardInterrupt


def _write(text: str) -> None:
    """Write a line past all buffers, which the main thread may hold."""
    try:
        os.write(2, text.encode())
    except OSError:  # whoever might have read it has gone
        return


def _once_more(before: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let an interruption come again that came where Python passes over exceptions, as in a `__del__`."""

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            # From here Python would pass over it as well.
            _thread.start_new_thread(HEARING.come_again, ())
        else:
            before(unraisable)

    return hook


def _as_any_process() -> None:
    """Let a child process hear signals as any other does; those of its parent are not its own."""
    if not HEARING.listening:
        return
    HEARING.listening = False
    signal.set_wakeup_fd(-1)
    HEARING.without_guard()
    for number in ASKING:
        if signal.getsignal(number) != signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


#: Of this process.
HEARING = Hearing()
