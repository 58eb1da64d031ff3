"""Threads that work on chunks of a batch, and those of BLAS, which have to keep still meanwhile."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

from ptycho_core.arrays.operations import Result

__all__ = ["ChunkThreads", "one_blas_thread"]

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


class _Limited:
    """Who works with one thread of the libraries now, and what is to be put back behind the last of them."""

    lock = threading.Lock()
    count = 0
    modules = 0
    undo = ExitStack()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep the threads of BLAS still.

    They spin for a tenth of a second behind every product, however small it was, on the cores that chunks and
    the compiled step need. Several threads of Python may be inside at a time: the last one to leave puts back
    what the first one found.
    """
    with _Limited.lock:
        # To look for libraries takes milliseconds; one may have come with a module that was loaded since.
        if not _Limited.count or _Limited.modules != len(sys.modules):
            _Limited.undo.enter_context(threadpool_limits(limits=1, user_api="blas"))
            _Limited.modules = len(sys.modules)
        _Limited.count += 1
    try:
        yield
    finally:
        with _Limited.lock:
            _Limited.count -= 1
            if not _Limited.count:
                _Limited.undo.close()
