"""Ranks that are threads of one process: for a notebook, for a look at how a scan is cut, and for tests.

They meet at barriers and hand arrays over as copies, so that one rank never sees the memory of another. NumPy
and the compiled step release the interpreter while they compute, but each rank is slower than a process.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from ptycho_core.ranks.ranks import RankError, Ranks
from ptycho_core.ranks.wire import described, split, unsplit

__all__ = ["in_threads"]

Value = TypeVar("Value")

#: What a rank says that was waiting for one that failed; the error of that one is raised.
_OTHER_FAILED = "another rank failed"


def in_threads(count: int, work: Callable[[Ranks], Value]) -> list[Value]:
    """Call a function once for each of several ranks, each in a thread of its own.

    Args:
        work: gets its rank; all of them are called at the same time.

    Returns:
        What each rank returned, in their order.
    Raises:
        The error of the first rank that failed; the others end at their next call to each other.

    Example:
        >>> from ptycho_core.ranks import in_threads
        >>> in_threads(3, lambda ranks: int(ranks.sum(np.array([ranks.rank]))[0]))
        [3, 3, 3]
    """
    meeting = _Meeting(count)
    found: list[Any] = [None] * count
    failed: list[BaseException | None] = [None] * count

    def run(rank: int) -> None:
        try:
            found[rank] = work(_ThreadRanks(rank, meeting))
        except BaseException as error:
            failed[rank] = error
            meeting.abort()

    threads = [threading.Thread(target=run, args=(rank,), name=f"rank {rank}") for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    causes = [error for error in failed if error is not None]
    if causes:
        raise next((error for error in causes if str(error) != _OTHER_FAILED), causes[0])
    return found


class _Meeting:
    """Where the ranks meet, with a place for what each of them brings."""

    def __init__(self, count: int) -> None:
        self.count, self.barrier = count, threading.Barrier(count)
        self.brought: list[Any] = [None] * count
        self.letters: dict[tuple[int, int], list[np.ndarray]] = {}
        self.arrived = threading.Condition()
        self.parts: list[_Meeting] = []

    def abort(self) -> None:
        """Let those that wait for others end, here and in its parts."""
        self.barrier.abort()
        for part in self.parts:
            part.abort()


class _ThreadRanks(Ranks):
    def __init__(self, rank: int, meeting: _Meeting) -> None:
        super().__init__()
        self.rank = self.local_rank = rank
        self.count = self.local_count = meeting.count
        self._meeting = meeting

    def barrier(self) -> None:
        began = time.perf_counter()
        try:
            self._meeting.barrier.wait()
        except threading.BrokenBarrierError:
            raise RankError(_OTHER_FAILED) from None
        self.waited_s += time.perf_counter() - began

    def _from_all(self, value: Any, n_bytes: int) -> list[Any]:
        """Return what all bring; nobody goes on before all have seen it."""
        self._meeting.brought[self.rank] = value
        self.barrier()
        brought = copy.deepcopy(self._meeting.brought)
        self.barrier()
        self._count(n_bytes * (self.count - 1))
        return brought

    def _count(self, n_bytes: int) -> None:
        self.bytes_sent += n_bytes
        self.messages += n_bytes > 0

    def sum(self, array: np.ndarray) -> np.ndarray:
        described(array)
        first, *others = self._from_all(np.array(array), 2 * array.nbytes // self.count)
        for other in others:
            first += other
        return first.reshape(array.shape)

    def from_first(self, value: Value) -> Value:
        text, arrays = split(value) if self.is_first else (b"", [])
        self._meeting.brought[self.rank] = (text, arrays)
        self.barrier()
        text, arrays = self._meeting.brought[0]
        whole, empty = unsplit(text)
        for source, target in zip(arrays, empty, strict=True):
            target[...] = source
        self.barrier()
        if self.is_first:
            self._count((len(text) + sum(array.nbytes for array in arrays)) * (self.count - 1))
        return whole

    def everyone(self, value: Any) -> list[Any]:
        text = json.dumps(value)
        return [json.loads(one) for one in self._from_all(text, len(text))]

    def in_turn(self, array: np.ndarray) -> Iterator[np.ndarray]:
        described(array)
        if self.is_first:
            return self._taken_in_turn(np.array(array))
        self._send(0, np.ascontiguousarray(array))
        self._count(array.nbytes)
        return iter(())

    def _taken_in_turn(self, own: np.ndarray) -> Iterator[np.ndarray]:
        yield own
        for rank in range(1, self.count):
            yield self._take(rank)

    def exchange(
        self, send: Mapping[int, np.ndarray], into: Mapping[int, np.ndarray] | None = None
    ) -> dict[int, np.ndarray]:
        taken = {rank: np.empty_like(array) for rank, array in send.items()} if into is None else dict(into)
        wrong = [rank for rank in (*send, *taken) if not 0 <= rank < self.count]
        if wrong:
            raise ValueError(f"an exchange with rank {wrong[0]} was asked for; there are {self.count}.")
        for rank, array in send.items():
            self._send(rank, np.ascontiguousarray(array))
        self._count(sum(array.nbytes for rank, array in send.items() if rank != self.rank))
        for rank, array in taken.items():
            array[...] = self._take(rank).reshape(array.shape)
        return taken

    def _send(self, rank: int, array: np.ndarray) -> None:
        with self._meeting.arrived:
            self._meeting.letters.setdefault((self.rank, rank), []).append(array.copy())
            self._meeting.arrived.notify_all()

    def _take(self, rank: int) -> np.ndarray:
        meeting, letters, began = self._meeting, (rank, self.rank), time.perf_counter()
        with meeting.arrived:
            while not meeting.letters.get(letters):
                if meeting.barrier.broken:
                    raise RankError(_OTHER_FAILED)
                meeting.arrived.wait(0.1)
            self.waited_s += time.perf_counter() - began
            return meeting.letters[letters].pop(0)

    def part(self, count: int) -> Ranks | None:
        self._check_part(count)
        if self.is_first:
            self._meeting.parts.append(_Meeting(count))
        self.barrier()
        meeting = self._meeting.parts[-1]
        self.barrier()
        if self.rank >= count:
            return None
        part = _ThreadRanks(self.rank, meeting)
        part._whole = self
        return part

    def largest(self, value: float) -> float:
        return float(np.max(self._from_all(float(value), 8)))

    def any(self, answer: bool) -> bool:
        return any(self._from_all(bool(answer), 1))
