"""A process beside ours that answers signals where Python cannot.

A library that waits for a disk which is gone may keep Python's lock while it does (HDF5 keeps it while it
reads). Then no thread of ours runs, and neither Ctrl-C nor a timeout would ever be heard. The guard is
forked before there are threads, sleeps until the system hands it a signal of ours, and passes it on. Where
our thread does not take it within a second and a half, the guard says that it was heard; where it is asked
again and still nobody answers, it kills the process, which has nothing else left. It ends with us.

    signal -> wakeup pipe -> guard -> relay pipe -> our thread -> answer pipe -> guard

Like `signals.py`, this imports nothing that is not there anyhow.
"""

from __future__ import annotations

import os
import signal
import time
import warnings

TYPE_CHECKING = False  # what is only needed for types takes longer to load than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["SAID", "Guard", "guarded"]

#: A byte that is no signal: the guard asks whether we live.
_ALIVE = 0
#: A byte that is no signal: the guard tells that it has answered for us.
SAID = 255
_TAKEN = b"A"
#: A signal that nobody takes within this time is answered by the guard.
_NOBODY_AFTER_S = 1.5
#: Asked twice, a process that takes nothing is killed after so long.
_KILLED_AFTER_S = 1.0
_ASKED_EVERY_S = 1.0
#: Who works this much of the time does not wait for a disk.
_WORKING = 0.05


class Guard:
    """Our ends of the pipes.

    Attributes:
        wakeup: where the system writes the number of each signal.
        relay: where our thread reads them.
    """

    def __init__(self, wakeup: int, relay: int, answers: int, signals: int) -> None:
        self.wakeup, self.relay = wakeup, relay
        self._answers, self._signals = answers, signals

    def taken(self) -> None:
        """Tell the guard that our thread runs."""
        self._tell(_TAKEN)

    def watch_for_life(self, limit_s: float) -> None:
        """Let the guard end this process where it neither answers nor works for so long; 0: no longer."""
        self._tell(f"L{limit_s:012.3f}".encode())

    def leave(self) -> None:
        """Close what a child process of ours has of it, or the guard would wait for that one's end too."""
        _close({self.wakeup, self._answers})

    def directly(self) -> int:
        """Return where signals are read without the guard, which is gone."""
        return self._signals

    def _tell(self, what: bytes) -> None:
        try:
            os.write(self._answers, what)
        except OSError:  # the guard is gone, as where somebody killed it
            return


def guarded(numbers: Sequence[int], say: Callable[[str], None], heard: str, gone: str) -> Guard | None:
    """Fork the guard; None where the system has no fork or no more processes.

    Args:
        numbers: of the signals. say: writes a line past all buffers.
        heard: what is said to the first signal, gone: where the process is ended.
    """
    if not hasattr(os, "fork"):
        return None
    signals, wakeup = os.pipe()
    relay, to_relay = os.pipe()
    from_answers, answers = os.pipe()
    for end in (wakeup, to_relay, answers):
        os.set_blocking(end, False)
    ours = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # the guard keeps them blocked
    try:
        with warnings.catch_warnings():
            # The threads of a library that is loaded already take no part: the guard calls the system alone.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError:  # no more processes for this user: we do without
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _close({signals, wakeup, relay, to_relay, from_answers, answers})
        return None
    if child == 0:
        try:
            # Where a standard stream was closed, one of the pipes may have its number.
            _close({0, 1, wakeup, relay, answers} - {signals, to_relay, from_answers})
            _stand(ours, numbers, signals, to_relay, from_answers, say, heard, gone)
        finally:
            os._exit(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _close({to_relay, from_answers})
    return Guard(wakeup, relay, answers, signals)


def _close(ends: set[int]) -> None:
    for end in ends:
        try:
            os.close(end)
        except OSError:  # it was closed before
            continue


def _stand(
    ours: int,
    numbers: Sequence[int],
    signals: int,
    to_relay: int,
    from_answers: int,
    say: Callable[[str], None],
    heard: str,
    gone: str,
) -> None:
    """Be the guard until the process ends."""
    from select import select

    waiting_since = again_since = float("inf")
    said, limit_s = False, 0.0
    answered, worked_s = time.monotonic(), _worked_s(ours)
    while True:
        pause_s = _ASKED_EVERY_S if limit_s else None
        if waiting_since < float("inf"):
            pause_s = 0.1
        ready = select([signals, from_answers], [], [], pause_s)[0]
        now = time.monotonic()
        if from_answers in ready:
            told = os.read(from_answers, 4096)
            if not told:
                return
            for word in told.replace(b"L", b" L").replace(b"A", b" A ").split():
                if word.startswith(b"L"):
                    limit_s = float(word[1:])
            waiting_since = again_since = float("inf")
            said, answered, worked_s = False, now, _worked_s(ours)
        if signals in ready:
            came = os.read(signals, 64)
            if not came:
                return
            _pass_on(to_relay, came)
            for number in came:
                if number in numbers and waiting_since == float("inf"):
                    waiting_since = now
                elif number in numbers and now - waiting_since > _NOBODY_AFTER_S:
                    again_since = min(again_since, now)
        if now - waiting_since > _NOBODY_AFTER_S and not said:
            said = True
            _pass_on(to_relay, bytes([SAID]))
            say(heard)
        if now - again_since > _KILLED_AFTER_S:
            say(gone)
            os.kill(ours, signal.SIGKILL)
            return
        if limit_s:
            _pass_on(to_relay, bytes([_ALIVE]))
            silent_s = now - answered
            if silent_s > limit_s and _worked_s(ours) - worked_s < _WORKING * silent_s:
                say(f"ptycho: nothing has answered for {silent_s:.0f} s. Is the disk there?\n")
                os.kill(ours, signal.SIGKILL)
                return


def _pass_on(to_relay: int, what: bytes) -> None:
    try:
        os.write(to_relay, what)
    except OSError:  # full, as nobody reads
        return


def _worked_s(process: int) -> float:
    """Processor time of a process; ever more of one that was stopped (Ctrl-Z), and where the system does not
    tell, so that nobody is ended."""
    try:
        place = os.open(f"/proc/{process}/stat", os.O_RDONLY)
        try:
            fields = os.read(place, 4096).decode(errors="replace").rpartition(")")[2].split()
        finally:
            os.close(place)
        if fields[0] in "Tt":
            return time.monotonic()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.monotonic()
