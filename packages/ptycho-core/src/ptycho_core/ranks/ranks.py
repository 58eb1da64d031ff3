"""What a process may ask of those that work with it."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from ptycho_config import errors
from ptycho_config.errors import RankError
from ptycho_core.ranks.wire import described, split, unsplit

__all__ = ["ALONE", "RankError", "Ranks"]

Value = TypeVar("Value")


class Ranks(ABC):
    """The processes that work together, as one of them sees them.

    Every method but those that say otherwise is collective: all ranks call it, in the same order, or none
    does. Arrays that are returned share no memory with those that were given.

    Attributes:
        rank, count: the number of this process, from 0, and how many there are.
        local_rank, local_count: the same among those on this host.
        host: the name of this host.
        bytes_sent: payload that this process sent so far; what a process keeps for itself is not counted.
        messages: how many calls sent something.
        waited_s: seconds spent in calls that wait for others, transfers included.
        failure: the last error that all ranks raised together; the rest of their talk is still in step.
            What a part of them raised together counts for the whole as well.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    def __init__(self) -> None:
        self.host = socket.gethostname()
        self.bytes_sent = 0
        self.messages = 0
        self.waited_s = 0.0
        self.failure: Exception | None = None
        self._whole: Ranks | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which prints, logs and writes; not collective."""
        return self.rank == 0

    @abstractmethod
    def sum(self, array: np.ndarray) -> np.ndarray:
        """Add up an array of the same shape and dtype from every rank.

        Returns:
            The sum, with the same bits on all ranks, and the same each time: it is taken in the order of the
            ranks.
        """

    @abstractmethod
    def from_first(self, value: Value) -> Value:
        """Return what rank 0 gives; what the others give is ignored.

        Args:
            value: numbers, texts, None, arrays of numbers, and lists and dicts (with texts as keys) of them.
                Tuples arrive as lists.
        """

    @abstractmethod
    def everyone(self, value: Any) -> list[Any]:
        """Return what each rank gives, in their order: plain values as JSON has them, no arrays."""

    @abstractmethod
    def in_turn(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """Bring an array of every rank to rank 0, one at a time and in the order of the ranks.

        Shapes may differ. Rank 0 holds one of them beside its own, and gets the next when it asks for it; it
        must take all. For the others the iterator is empty; for them the call returns when the array is sent.
        """

    @abstractmethod
    def exchange(
        self, send: Mapping[int, np.ndarray], into: Mapping[int, np.ndarray] | None = None
    ) -> dict[int, np.ndarray]:
        """Give arrays to neighbours and take theirs. Only the ranks named take part, each naming the other.

        Args:
            send: rank -> array for it; may be empty.
            into: rank -> array that is filled with what that rank sends, of the right shape and dtype, and
                contiguous. When not given, each neighbour sends the shape and dtype that is sent to it.
        Returns:
            Rank -> what it sent.
        """

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all ranks are here."""

    @abstractmethod
    def part(self, count: int) -> Ranks | None:
        """Return the first so many ranks as ranks of their own; None on the others, which have no part in it.

        Raises:
            ValueError: there are not so many ranks, or it is none.
        """

    @abstractmethod
    def largest(self, value: float) -> float:
        """Return the largest value of all ranks; NaN where one is NaN."""

    @abstractmethod
    def any(self, answer: bool) -> bool:
        """Whether any rank says yes."""

    def gather(self, array: np.ndarray) -> list[np.ndarray]:
        """Return the arrays of all ranks on rank 0, in their order; an empty list on the others."""
        return list(self.in_turn(array))

    def one(self, work: Callable[[], Value]) -> Value:
        """Do something on each rank that may fail; where it fails on one, all raise.

        The work itself must not be collective: a rank that failed would leave the others waiting in it.

        Returns:
            What the work returned on this rank.
        Raises:
            The error of the first rank that failed, of its type where it is one of ptycho_config.errors and
            RankError elsewhere; the message begins with the rank, unless all failed in the same way.
        """
        failure: Exception | None = None
        value: Any = None
        try:
            value = work()
        except Exception as error:
            failure = error
        self.agree(failure)
        return value

    def agree(self, failure: Exception | None) -> None:
        """Tell the others whether something failed here; where it did on any rank, all raise as in `one`."""
        if self.count == 1:
            if failure is not None:
                raise failure
            return
        mine = None if failure is None else [type(failure).__name__, str(failure), self.host]
        told = self.everyone(mine)
        failed = [(rank, *what) for rank, what in enumerate(told) if what is not None]
        if not failed:
            return
        rank, name, text, host = failed[0]
        alike = len(failed) == self.count and all(what[1:3] == failed[0][1:3] for what in failed)
        kind = getattr(errors, name, None)
        if not (isinstance(kind, type) and issubclass(kind, Exception)) or kind is errors.NotRegularError:
            kind, text = RankError, text or name
        told_by_all = kind(text if alike else f"rank {rank} ({host}): {text}")
        at: Ranks | None = self
        while at is not None:
            at.failure, at = told_by_all, at._whole
        raise told_by_all from failure

    def _check_part(self, count: int) -> None:
        if not 1 <= count <= self.count:
            raise ValueError(f"{count} of {self.count} ranks were asked for.")


class _Alone(Ranks):
    """One process by itself: every answer is its own."""

    def sum(self, array: np.ndarray) -> np.ndarray:
        described(array)
        return np.array(array)

    def from_first(self, value: Value) -> Value:
        text, arrays = split(value)
        whole, empty = unsplit(text)
        for source, target in zip(arrays, empty, strict=True):
            target[...] = source
        return whole

    def everyone(self, value: Any) -> list[Any]:
        return [value]

    def in_turn(self, array: np.ndarray) -> Iterator[np.ndarray]:
        described(array)
        return iter((np.array(array),))

    def exchange(
        self, send: Mapping[int, np.ndarray], into: Mapping[int, np.ndarray] | None = None
    ) -> dict[int, np.ndarray]:
        if any(rank != 0 for rank in (*send, *(into or {}))):
            raise ValueError("there is only rank 0, and an exchange with another was asked for.")
        return {rank: np.array(array) for rank, array in send.items()}

    def barrier(self) -> None:
        return

    def part(self, count: int) -> Ranks | None:
        self._check_part(count)
        return self

    def largest(self, value: float) -> float:
        return float(value)

    def any(self, answer: bool) -> bool:
        return bool(answer)


ALONE: Ranks = _Alone()
"""One process, with nobody beside it."""
