"""Lanes: threads that work on contiguous parts of a batch."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ptycho_core.arrays.operations import Answer

__all__ = ["Lanes", "usable_cores"]

#: Less complex pixels than this are done sooner than another thread is woken.
_PIXELS_WORTH_A_LANE = 1 << 16


class Lanes:
    """A fixed number of threads that work on contiguous parts of a batch, always cut the same way."""

    def __init__(self, count: int, *, prepare_thread: Callable[[], Any] | None = None) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, initializer=prepare_thread) if count > 1 else None

    def run(self, work: Callable[[slice], Answer], n_items: int, pixels_per_item: int) -> list[Answer]:
        """Call `work` on at most `count` slices of nearly equal length; answers in their order."""
        count = max(1, min(self.count, n_items, n_items * pixels_per_item // _PIXELS_WORTH_A_LANE))
        edges = [lane * n_items // count for lane in range(count + 1)]
        lanes = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
        if self._pool is None or count == 1:
            return [work(lane) for lane in lanes]
        return list(self._pool.map(work, lanes))


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
