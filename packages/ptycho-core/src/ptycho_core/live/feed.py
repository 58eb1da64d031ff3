"""Ask a source all the time, beside the work, so that the time at which a frame came is known."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ptycho_core.live.arrival import NO_ANSWER_S, Arrival, Source

__all__ = ["Feed"]

#: Seconds between two looks at the source: a small part of the time in which a frame is to be seen.
_BETWEEN_LOOKS_S, _LONGEST_WAIT_S = 0.02, 0.2
#: How long the end waits for a look that is still under way.
_LAST_LOOK_S = 1.0
#: After a source has come to the number of frames that it declared by itself, it may still grow so long.
_GRACE_S = 2.0


class Feed:
    """A thread that takes frames from a source and decides when there will be no more.

    Attributes:
        ended: why the feed has ended, empty while it has not. A look at the source that never comes back, as
            on a disk that is gone, ends it too.
        error: what the source raised, which ended the feed.
        silent: the source has not answered, and is not to be asked again.
    """

    def __init__(self, source: Source, *, expected: int | None = None, timeout_s: float = 10.0) -> None:
        """Hold a source.

        Args:
            expected: number of frames after which the scan is complete.
            timeout_s: without a new frame for so long, the scan is taken for complete.
        """
        self._ended = ""
        self._looking_since: float | None = None
        self._source, self._expected, self._timeout_s = source, expected, timeout_s
        self._waiting: list[Arrival] = []
        self._indices: set[int] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.error: Exception | None = None
        self.silent = False
        self._thread = threading.Thread(target=self._run, name="ptycho-feed", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(_LAST_LOOK_S)  # a look that hangs is not waited for

    @property
    def ended(self) -> str:
        since = self._looking_since
        if not self._ended and since is not None:
            silent_s = time.perf_counter() - since
            if silent_s > self._timeout_s + NO_ANSWER_S:
                self._closing.set()
                self.silent = True
                self._ended = f"its source has not answered for {silent_s:.0f} s"
        return self._ended

    @contextmanager
    def _asking(self) -> Iterator[Source]:
        """Give the source, and note since when it is asked."""
        self._looking_since = time.perf_counter()
        try:
            yield self._source
        finally:
            self._looking_since = None

    def _look(self, *, last: bool = False) -> list[Arrival]:
        with self._asking() as source:
            return source.poll(last=last)

    def take(self) -> list[Arrival]:
        """Return what has come since the last call."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken

    @property
    def waiting(self) -> int:
        """Number of frames that came and were not taken."""
        with self._lock:
            return len(self._waiting)

    def _run(self) -> None:
        newest = time.perf_counter()
        try:
            while not self._closing.is_set():
                began = time.perf_counter()
                if self._pass_on(self._look()):
                    newest = time.perf_counter()
                why = self._over(time.perf_counter() - newest)
                if why:
                    self._pass_on(self._look(last=True))
                    self._ended = why
                    return
                # A large file takes long to look at, and the work needs the processor too.
                looked_s = time.perf_counter() - began
                self._closing.wait(min(max(_BETWEEN_LOOKS_S, looked_s), _LONGEST_WAIT_S))
            self._ended = self._ended or "it was stopped"
        except Exception as error:
            self.error, self._ended = error, "its source failed"

    def _pass_on(self, arrivals: list[Arrival]) -> bool:
        """Queue arrivals; return whether one of them is new."""
        if not arrivals:
            return False
        before = len(self._indices)
        self._indices.update(arrival.index for arrival in arrivals)
        with self._lock:
            self._waiting += arrivals
        return len(self._indices) > before

    def _over(self, quiet_s: float) -> str:
        count = len(self._indices)
        with self._asking() as source:
            ended, declared = source.ended, source.expected
        if ended:
            return "its source says so"
        if self._expected is not None and count >= self._expected:
            return f"all {self._expected} frames came"
        if self._expected is None and declared is not None and count >= declared and quiet_s > _GRACE_S:
            return f"all {declared} frames came"
        return f"no frame came for {self._timeout_s:g} s" if quiet_s > self._timeout_s else ""
