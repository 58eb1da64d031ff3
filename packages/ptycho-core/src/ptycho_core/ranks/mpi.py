"""Ranks over MPI, by mpi4py's calls on buffers; those that pickle are not used.

Sums are taken here and not by MPI, which may add in another order next time: every rank adds up one piece of
the array in the order of the ranks, and the pieces are put together (a reduce-scatter and an all-gather, as
in R. Thakur, R. Rabenseifner and W. Gropp, Int. J. High Perform. Comput. Appl. 19, 49 (2005),
https://doi.org/10.1177/1094342005051521).
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ptycho_config.errors import BackendUnavailableError, ConfigError
from ptycho_config.launcher import Launch
from ptycho_core.ranks.ranks import Ranks
from ptycho_core.ranks.wire import as_bytes, described, made, split, unsplit

__all__ = ["MpiRanks", "open_ranks"]

Value = TypeVar("Value")
_INSTALL = "pip install 'ptycho-dispatch[mpi]'"
#: The longest piece of a message: MPI counts in 32 bits, and a sum needs as much again.
_PIECE_BYTES = 64 << 20
#: Up to so many bytes from all ranks together a sum is one call instead of two.
_SHORT_BYTES = 64 << 10
_TAG_TURN, _TAG_EXCHANGE = 11, 12
#: So long the ranks may take to find each other.
_MEETING_S = 180.0
#: So long a rank waits at full load; then it naps, the longer the longer it has waited. A long message comes
#: in several pieces, of which each look takes one: behind a nap it looks more than once.
_AT_FULL_LOAD_S = 2e-3
_LOOKS = 20
_NAP, _SHORTEST_NAP_S, _LONGEST_NAP_S = 2e-3, 5e-5, 2e-3


class MpiRanks(Ranks):
    """The ranks of an MPI communicator.

    Args:
        communicator: an `mpi4py.MPI.Comm`; a duplicate of it is used. All of its ranks must call.
        piece_bytes: no message is longer; the same on all ranks.
    """

    def __init__(self, communicator: Any, *, piece_bytes: int = _PIECE_BYTES) -> None:
        from mpi4py import MPI

        super().__init__()
        self._mpi, self._piece_bytes = MPI, piece_bytes
        self._parts: list[MpiRanks] = []
        self._comm = communicator.Dup()
        self.rank, self.count = int(self._comm.Get_rank()), int(self._comm.Get_size())
        here = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, self.local_count = int(here.Get_rank()), int(here.Get_size())
        here.Free()

    def close(self) -> None:
        """Give the communicator back, and those of its parts; all ranks must call."""
        for part in self._parts:
            part.close()
        self._parts.clear()
        self._comm.Free()

    def sum(self, array: np.ndarray) -> np.ndarray:
        described(array)
        given = np.ascontiguousarray(array).reshape(array.size)
        total = np.empty_like(given)
        step = max(1, self._piece_bytes // array.dtype.itemsize)
        for begin in range(0, array.size, step):
            piece = slice(begin, begin + step)
            self._sum_piece(given[piece], total[piece])
        return total.reshape(array.shape)

    def _sum_piece(self, given: np.ndarray, total: np.ndarray) -> None:
        if given.nbytes * self.count <= _SHORT_BYTES:
            _add_up(self._from_all(given), total)
            return
        width = given.dtype.itemsize
        bounds = np.arange(self.count + 1) * given.size // self.count
        counts = np.diff(bounds)
        mine = total[bounds[self.rank] : bounds[self.rank + 1]]
        parts = np.empty((self.count, mine.size), given.dtype)
        each = mine.size * width
        with self._call(given.nbytes - each + (self.count - 1) * each):
            self._wait(
                self._comm.Ialltoallv(
                    [as_bytes(given), (counts * width, bounds[:-1] * width), self._mpi.BYTE],
                    [
                        as_bytes(parts),
                        (np.full(self.count, each), np.arange(self.count) * each),
                        self._mpi.BYTE,
                    ],
                )
            )
            _add_up(parts, mine)
            summed = mine.copy()
            self._wait(
                self._comm.Iallgatherv(
                    [as_bytes(summed), self._mpi.BYTE],
                    [as_bytes(total), (counts * width, bounds[:-1] * width), self._mpi.BYTE],
                )
            )

    def _from_all(self, given: np.ndarray) -> np.ndarray:
        """Return the equal arrays (n,) of all ranks as (ranks, n)."""
        parts = np.empty((self.count, given.size), given.dtype)
        with self._call(given.nbytes * (self.count - 1)):
            self._wait(
                self._comm.Iallgather([as_bytes(given), self._mpi.BYTE], [as_bytes(parts), self._mpi.BYTE])
            )
        return parts

    def from_first(self, value: Value) -> Value:
        text, arrays = split(value) if self.is_first else (b"", [])
        length = np.array([len(text)], np.int64)
        self._broadcast(length)
        letters = np.empty(int(length[0]), np.uint8)
        if self.is_first:
            letters[...] = np.frombuffer(text, np.uint8)
        self._broadcast(letters)
        whole, empty = unsplit(letters.tobytes())
        for source, target in zip(arrays or empty, empty, strict=True):
            target[...] = source
            self._broadcast(target)
        return whole

    def _broadcast(self, array: np.ndarray) -> None:
        for piece in self._pieces(array):
            with self._call(piece.nbytes if self.is_first else 0):
                self._wait(self._comm.Ibcast([piece, self._mpi.BYTE], root=0))

    def everyone(self, value: Any) -> list[Any]:
        mine = np.frombuffer(json.dumps(value).encode(), np.uint8).copy()
        lengths = self._from_all(np.array([mine.size], np.int64))[:, 0]
        ends = np.cumsum(lengths)
        letters = np.empty(int(ends[-1]), np.uint8)
        with self._call(mine.size * (self.count - 1)):
            self._wait(
                self._comm.Iallgatherv(
                    [mine, self._mpi.BYTE], [letters, (lengths, ends - lengths), self._mpi.BYTE]
                )
            )
        return [
            json.loads(letters[begin:end].tobytes()) for begin, end in zip(ends - lengths, ends, strict=True)
        ]

    def in_turn(self, array: np.ndarray) -> Iterator[np.ndarray]:
        array = np.ascontiguousarray(array)
        description = described(array)
        if self.is_first:
            return self._taken_in_turn(array)
        header = np.frombuffer(json.dumps(description).encode(), np.uint8).copy()
        with self._call(header.nbytes + array.nbytes):
            for piece in (header, *self._pieces(array)):
                self._wait(self._comm.Isend([piece, self._mpi.BYTE], dest=0, tag=_TAG_TURN))
        return iter(())

    def _taken_in_turn(self, own: np.ndarray) -> Iterator[np.ndarray]:
        yield own.copy()
        for source in range(1, self.count):
            with self._call(0):
                status = self._mpi.Status()
                _until(partial(self._comm.Iprobe, source=source, tag=_TAG_TURN, status=status))
                header = np.empty(status.Get_count(self._mpi.BYTE), np.uint8)
                self._wait(self._comm.Irecv([header, self._mpi.BYTE], source=source, tag=_TAG_TURN))
                array = made(json.loads(header.tobytes()))
                for piece in self._pieces(array):
                    self._wait(self._comm.Irecv([piece, self._mpi.BYTE], source=source, tag=_TAG_TURN))
            yield array

    def exchange(
        self, send: Mapping[int, np.ndarray], into: Mapping[int, np.ndarray] | None = None
    ) -> dict[int, np.ndarray]:
        given = {rank: np.ascontiguousarray(array) for rank, array in send.items()}
        taken = {rank: np.empty_like(array) for rank, array in given.items()} if into is None else dict(into)
        wrong = [rank for rank in (*given, *taken) if not 0 <= rank < self.count]
        if wrong:
            raise ValueError(f"an exchange with rank {wrong[0]} was asked for; there are {self.count}.")
        if (self.rank in given) != (self.rank in taken):
            raise ValueError("a rank that sends to itself must take from itself.")
        if self.rank in given:
            taken[self.rank][...] = given[self.rank]
        others = [rank for rank in sorted(taken) if rank != self.rank]
        sent = {rank: array for rank, array in sorted(given.items()) if rank != self.rank}
        with self._call(sum(array.nbytes for array in sent.values())):
            waiting = [
                self._comm.Irecv([piece, self._mpi.BYTE], source=rank, tag=_TAG_EXCHANGE)
                for rank in others
                for piece in self._pieces(taken[rank])
            ]
            waiting += [
                self._comm.Isend([piece, self._mpi.BYTE], dest=rank, tag=_TAG_EXCHANGE)
                for rank, array in sent.items()
                for piece in self._pieces(array)
            ]
            _until(partial(self._mpi.Request.Testall, waiting))
        return taken

    def barrier(self) -> None:
        with self._call(0):
            self._wait(self._comm.Ibarrier())

    def part(self, count: int) -> MpiRanks | None:
        self._check_part(count)
        inside = self.rank < count
        communicator = self._comm.Split(0 if inside else self._mpi.UNDEFINED, self.rank)
        if not inside:
            return None
        part = MpiRanks(communicator, piece_bytes=self._piece_bytes)
        communicator.Free()  # `part` has a duplicate
        part._whole = self
        self._parts.append(part)
        return part

    def largest(self, value: float) -> float:
        return float(np.max(self._from_all(np.array([value], np.float64))))

    def any(self, answer: bool) -> bool:
        return bool(np.any(self._from_all(np.array([answer], np.bool_))))

    def _wait(self, request: Any) -> None:
        """Wait until a call of MPI is done, whose arrays the caller holds."""
        _until(request.Test)

    def _pieces(self, array: np.ndarray) -> list[np.ndarray]:
        """Return the memory of a contiguous array in pieces that one message holds; both sides cut alike."""
        data, step = as_bytes(array), self._piece_bytes
        return [data[begin : begin + step] for begin in range(0, data.size, step)]

    @contextmanager
    def _call(self, n_bytes: int) -> Iterator[None]:
        """Count a call and the time that it takes."""
        began = time.perf_counter()
        yield
        self.waited_s += time.perf_counter() - began
        if self.count > 1 and n_bytes > 0:
            self.bytes_sent += int(n_bytes)
            self.messages += 1


_give_way: Callable[[], None] = getattr(os, "sched_yield", lambda: time.sleep(0))


def _until(done: Callable[[], bool]) -> None:
    """Wait without keeping others from the processor.

    MPI itself waits at full load, which is the quickest way only where every rank has a core of its own.
    """
    began = time.perf_counter()
    while not any(done() for _ in range(_LOOKS)):
        waited_s = time.perf_counter() - began
        if waited_s < _AT_FULL_LOAD_S:
            _give_way()  # whoever else wants this core may have it
        else:
            time.sleep(min(max(_SHORTEST_NAP_S, waited_s * _NAP), _LONGEST_NAP_S))


def _add_up(parts: np.ndarray, total: np.ndarray) -> None:
    """Add arrays (ranks, n) in the order of the ranks, which is what the sum of two numbers depends on."""
    total[...] = parts[0]
    for part in parts[1:]:
        total += part


@contextmanager
def _ended_where_nobody_comes() -> Iterator[None]:
    """Let the system end this process where another task died before it had joined, which MPI waits for.

    Nothing of Python runs meanwhile, so the launcher is who tells ("Alarm clock").
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer") or signal.getsignal(signal.SIGALRM) != signal.SIG_DFL:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, _MEETING_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def open_ranks(launch: Launch) -> MpiRanks:
    """Meet the other tasks of a launcher's step.

    Raises:
        BackendUnavailableError: mpi4py is not installed, or finds no MPI.
        ConfigError: MPI does not see the tasks that the launcher started.
    """
    try:
        with warnings.catch_warnings():
            # mpi4py suspects another launcher; whether it is one is seen below.
            warnings.filterwarnings("ignore", "suspicious MPI execution environment")
            with _ended_where_nobody_comes():
                from mpi4py import MPI
    except ImportError as error:
        raise BackendUnavailableError(
            f"{launch.by} started {launch.count} tasks, and mpi4py, by which they find each other, is not "
            f"installed here ({error}). Type `{_INSTALL}`, or start one task."
        ) from error
    except RuntimeError as error:  # mpi4py is there, and the library of an MPI is not
        text = str(error).splitlines()[0]
        raise BackendUnavailableError(
            f"{launch.by} started {launch.count} tasks, and mpi4py finds no MPI library ({text}). Load the "
            "module of your MPI (`module load openmpi`), or `pip install mpich`."
        ) from error
    seen = int(MPI.COMM_WORLD.Get_size())
    if seen != launch.count:
        library = MPI.Get_library_version().split("\n")[0].split(",")[0].strip("\0 ")
        raise ConfigError(
            f"{launch.by} started {launch.count} tasks, and MPI ({library}) sees "
            f"{'only one' if seen == 1 else seen}: mpi4py uses another MPI than the launcher. Start the "
            "tasks by the mpiexec of that MPI, choose what srun speaks (`srun --mpi=list`, then "
            "`srun --mpi=pmi2`), or build mpi4py on the launcher's: "
            "`pip install --force-reinstall --no-binary mpi4py mpi4py`."
        )
    return MpiRanks(MPI.COMM_WORLD)
