"""Threads that work on chunks of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ptycho_core.arrays.operations import Result

__all__ = ["ChunkThreads"]

#: Fewer complex pixels than this are done sooner than another thread is woken.
_PIXELS_WORTH_A_THREAD = 1 << 16


class ChunkThreads:
    """A fixed number of threads that work on contiguous chunks of a batch, always cut the same way."""

    def __init__(self, count: int, *, prepare_thread: Callable[[], Any] | None = None) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, initializer=prepare_thread) if count > 1 else None

    def map(self, work: Callable[[slice], Result], n_items: int, pixels_per_item: int) -> list[Result]:
        """Call `work` on at most `count` chunks of nearly equal length; results in their order."""
        count = max(1, min(self.count, n_items, n_items * pixels_per_item // _PIXELS_WORTH_A_THREAD))
        edges = [chunk * n_items // count for chunk in range(count + 1)]
        chunks = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
        if self._pool is None or count == 1:
            return [work(chunk) for chunk in chunks]
        return list(self._pool.map(work, chunks))
