"""What holds for every kind of ranks. As a program it is one task of `mpiexec`, and says which laws hold.

A law is called by all ranks at once and asserts; rank 0 prints what came of each on all ranks.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.ranks import MpiRanks, RankError, Ranks

SIZES = (0, 1, 3, 7, 1000, 20_011)


def raised(call, *arguments) -> Exception | None:
    try:
        call(*arguments)
    except Exception as error:
        return error
    return None


def numbers_are_told_apart(ranks: Ranks) -> None:
    assert ranks.everyone(ranks.rank) == list(range(ranks.count))
    assert ranks.is_first == (ranks.rank == 0)
    hosts = ranks.everyone([ranks.host, ranks.local_rank, ranks.local_count])
    here = [local for host, local, _ in hosts if host == ranks.host]
    assert sorted(here) == list(range(ranks.local_count))


def sums_are_taken_in_the_order_of_the_ranks(ranks: Ranks) -> None:
    for size in SIZES:
        for dtype in (np.float32, np.float64, np.complex64, np.int64):
            given = [
                (1e3 * np.random.default_rng(rank).normal(size=(size, 2))).astype(dtype)
                for rank in range(ranks.count)
            ]
            mine = given[ranks.rank]
            kept = mine.copy()
            total = ranks.sum(mine)
            wanted = given[0].copy()
            for other in given[1:]:
                wanted += other
            assert total.dtype == dtype
            assert total.shape == mine.shape
            assert total.tobytes() == wanted.tobytes()
            assert mine.tobytes() == kept.tobytes()
            assert not np.shares_memory(total, mine)


def a_sum_takes_what_is_not_contiguous_and_single_numbers(ranks: Ranks) -> None:
    square = np.arange(12.0).reshape(3, 4) * (ranks.rank + 1)
    factor = ranks.count * (ranks.count + 1) // 2
    assert np.array_equal(ranks.sum(square.T), np.arange(12.0).reshape(3, 4).T * factor)
    assert ranks.sum(np.array(ranks.rank)) == ranks.count * (ranks.count - 1) / 2
    assert ranks.sum(np.array(ranks.rank)).shape == ()


def the_largest_and_any(ranks: Ranks) -> None:
    assert ranks.largest(-float(ranks.rank)) == 0.0
    assert np.isnan(ranks.largest(float("nan") if ranks.rank == ranks.count - 1 else 1.0))
    assert ranks.any(ranks.rank == ranks.count - 1) is True
    assert ranks.any(False) is False


def what_the_first_gives_arrives_everywhere(ranks: Ranks) -> None:
    picture = np.arange(3000, dtype=np.complex64).reshape(50, 60).T
    sent = {
        "a": [1, 2.5, None, "ä"],
        "b": {"picture": picture, "empty": np.zeros((0, 3))},
        "c": (True, 1e300),
    }
    got = ranks.from_first(sent if ranks.is_first else None)
    assert got["a"] == sent["a"]
    assert got["c"] == [True, 1e300]
    for name, array in sent["b"].items():
        assert got["b"][name].dtype == array.dtype
        assert np.array_equal(got["b"][name], array)
        assert got["b"][name].shape == array.shape
    assert not np.shares_memory(got["b"]["picture"], picture)
    assert ranks.from_first(7 if ranks.is_first else 8) == 7


def what_each_says_is_known_to_all(ranks: Ranks) -> None:
    told = ranks.everyone({"rank": ranks.rank, "text": "x" * 100 * ranks.rank})
    assert told == [{"rank": rank, "text": "x" * 100 * rank} for rank in range(ranks.count)]


def arrays_are_gathered_one_at_a_time(ranks: Ranks) -> None:
    def of(rank: int) -> np.ndarray:
        return np.full((rank, 5, 40), rank, [np.float32, np.uint8][rank % 2])

    got = list(ranks.in_turn(of(ranks.rank)))
    assert len(got) == (ranks.count if ranks.is_first else 0)
    for rank, array in enumerate(got):
        assert array.dtype == of(rank).dtype
        assert np.array_equal(array, of(rank))
    assert len(ranks.gather(of(ranks.rank))) == len(got)


def neighbours_exchange(ranks: Ranks) -> None:
    left, right = (ranks.rank - 1) % ranks.count, (ranks.rank + 1) % ranks.count
    send = {other: np.full((300, 2), 10 * ranks.rank + other) for other in (left, right)}
    got = ranks.exchange(send)
    assert got.keys() == send.keys()
    for other, array in got.items():
        assert np.array_equal(array, np.full((300, 2), 10 * other + ranks.rank))
        assert not np.shares_memory(array, send[other])
    assert ranks.exchange({}) == {}


def neighbours_exchange_what_differs_in_size(ranks: Ranks) -> None:
    others = {ranks.rank - 1, ranks.rank + 1} & set(range(ranks.count))
    send = {other: np.full(50 + ranks.rank, ranks.rank, np.complex64)[::-1] for other in others}
    into = {other: np.zeros(50 + other, np.complex64) for other in others}
    got = ranks.exchange(send, into)
    for other in others:
        assert got[other] is into[other]
        assert np.array_equal(into[other], np.full(50 + other, other))


def an_exchange_with_nobody_is_refused(ranks: Ranks) -> None:
    assert isinstance(raised(ranks.exchange, {ranks.count: np.zeros(1)}), ValueError)
    ranks.barrier()


def work_is_done_on_each(ranks: Ranks) -> None:
    assert ranks.one(lambda: ranks.rank + 1) == ranks.rank + 1


def what_fails_on_one_fails_on_all(ranks: Ranks) -> None:
    last = ranks.count - 1

    def fail_on_the_last() -> None:
        if ranks.rank == last:
            raise DataError("scan.npz is not there.", finding="DATA-001")

    error = raised(ranks.one, fail_on_the_last)
    assert isinstance(error, DataError)
    where = f"rank {last} ({ranks.host}): " if ranks.count > 1 else ""
    assert str(error) == f"{where}DATA-001: scan.npz is not there."
    assert ranks.count == 1 or ranks.failure is error
    assert ranks.everyone(1) == [1] * ranks.count  # they are still in step


def what_fails_on_all_alike_names_nobody(ranks: Ranks) -> None:
    def fail() -> None:
        raise DataError("no such file.")

    assert str(raised(ranks.one, fail)) == "no such file."


def a_foreign_error_keeps_its_words(ranks: Ranks) -> None:
    def fail() -> None:
        raise ZeroDivisionError("by nothing")

    error = raised(ranks.one, fail)
    assert isinstance(error, ZeroDivisionError if ranks.count == 1 else RankError)
    assert "by nothing" in str(error)


def nothing_is_pickled(ranks: Ranks) -> None:
    objects = np.array([object()])
    for call in (
        ranks.sum,
        ranks.in_turn,
        lambda array: ranks.from_first(array) if ranks.is_first else 1 / 0,
    ):
        assert isinstance(raised(call, objects), TypeError | ZeroDivisionError)
    ranks.barrier()


def bytes_are_counted(ranks: Ranks) -> None:
    before = ranks.bytes_sent, ranks.messages
    ranks.exchange({other: np.zeros(1000) for other in range(ranks.count)})
    assert ranks.bytes_sent - before[0] == 8000 * (ranks.count - 1)
    assert ranks.messages - before[1] == (ranks.count > 1)
    before_sum = ranks.bytes_sent
    ranks.sum(np.zeros(100_000))
    sent = ranks.bytes_sent - before_sum
    # What a long sum sends of each number, and a short one.
    assert 2 * 800_000 * (ranks.count - 1) / ranks.count - 1000 <= sent <= 800_000 * (ranks.count - 1)
    assert ranks.count > 1 or ranks.bytes_sent == 0


def a_part_of_them_are_ranks_of_their_own(ranks: Ranks) -> None:
    for count in {1, max(1, ranks.count - 1), ranks.count}:
        part = ranks.part(count)
        assert (part is not None) == (ranks.rank < count)
        if part is not None:
            assert (part.rank, part.count, part.is_first) == (ranks.rank, count, ranks.is_first)
            assert part.everyone(part.rank) == list(range(count))
            assert part.sum(np.ones(3))[0] == count
    ranks.barrier()
    for wrong in (0, ranks.count + 1):
        assert isinstance(raised(ranks.part, wrong), ValueError)


def what_a_part_raised_together_the_whole_knows(ranks: Ranks) -> None:
    def fail() -> None:
        raise DataError("no such file.")

    part = ranks.part(max(1, ranks.count - 1))
    before = ranks.failure
    error = None if part is None else raised(part.one, fail)
    if part is None:
        assert ranks.failure is before
    elif ranks.count > 2:
        assert error is part.failure is ranks.failure
    ranks.barrier()


LAWS = [
    numbers_are_told_apart,
    sums_are_taken_in_the_order_of_the_ranks,
    a_sum_takes_what_is_not_contiguous_and_single_numbers,
    the_largest_and_any,
    what_the_first_gives_arrives_everywhere,
    what_each_says_is_known_to_all,
    arrays_are_gathered_one_at_a_time,
    neighbours_exchange,
    neighbours_exchange_what_differs_in_size,
    an_exchange_with_nobody_is_refused,
    work_is_done_on_each,
    what_fails_on_one_fails_on_all,
    what_fails_on_all_alike_names_nobody,
    a_foreign_error_keeps_its_words,
    a_part_of_them_are_ranks_of_their_own,
    what_a_part_raised_together_the_whole_knows,
    nothing_is_pickled,
    bytes_are_counted,
]


def main() -> None:
    """Try all laws with messages in one piece, and cut into pieces of some bytes."""
    from mpi4py import MPI

    came: dict[str, list[str]] = {}
    for piece_bytes in (64 << 20, 1000):
        ranks = MpiRanks(MPI.COMM_WORLD, piece_bytes=piece_bytes)
        for law in LAWS:
            error = raised(law, ranks)
            told = ranks.everyone("" if error is None else f"{type(error).__name__}: {error}")
            came[law.__name__] = came.get(law.__name__, []) + told
        ranks.close()
    if MPI.COMM_WORLD.Get_rank() == 0:
        json.dump(came, sys.stdout)


if __name__ == "__main__":
    main()
