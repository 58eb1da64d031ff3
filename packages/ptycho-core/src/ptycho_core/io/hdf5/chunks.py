"""The stored blocks of a data set, compared with what they must hold before HDF5 unpacks them.

The HDF5 library unpacks a block to whatever size it claims, and takes what happens to lie in memory behind
one that is too short. Each block is looked at once, when it is first read.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import h5py
import numpy as np
from h5py._objects import phil

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.hdf5.filters import Filter, filters_of, unpacked_bytes
from ptycho_core.io.hdf5.virtual import Source, opened_source, parts_of

__all__ = ["Guard", "guard_of"]

_MOST_THREADS = 8
_BLOCKS_AT_ONCE = 32


@runtime_checkable
class Guard(Protocol):
    """Looks at the blocks of a data set before they are read."""

    def require(self, axis: int, start: int, stop: int) -> None: ...

    def close(self) -> None: ...


class _ChunkGuard:
    """Looks at the blocks of a data set with values of its own, each once.

    Args:
        item: the data set, open as long as this is used.
    """

    def __init__(self, item: h5py.Dataset) -> None:
        self._item = item
        self._name = f"{Path(item.file.filename).name}: `{excerpt(str(item.name), 80)}`"
        self._filters = filters_of(item)
        self._sides = tuple(int(side) for side in item.chunks or item.shape)
        self._chunk_bytes = math.prod(self._sides) * item.dtype.itemsize
        self._list_chunks()

    def _list_chunks(self) -> None:
        starts: list[tuple[int, ...]] = []
        sizes: list[int] = []
        masks: list[int] = []

        def look(chunk: Any) -> None:  # Any: h5py's StoreInfo
            starts.append(chunk.chunk_offset)
            sizes.append(chunk.size)
            masks.append(chunk.filter_mask)

        self._item.id.chunk_iter(look)
        rank = self._item.ndim
        self._starts = np.array(starts, dtype=np.int64).reshape(-1, rank)
        self._sizes, self._masks = np.array(sizes, dtype=np.uint64), np.array(masks, dtype=np.uint32)
        self._sound = np.zeros(len(starts), dtype=bool)

    def require(self, axis: int, start: int, stop: int) -> None:
        """Refuse the data set where a block with values from `start` to `stop` of an axis is not whole.

        Raises:
            DataError: it is too short or too long.
        """
        if self._item.file.swmr_mode:  # whoever writes it may have added blocks
            self._list_chunks()
        side, first = self._sides[axis], self._starts[:, axis]
        asked = ~self._sound & (first < stop) & (first + side > start)
        if not asked.any():
            return
        plain = asked & (self._masks == 0) if not self._filters else np.zeros_like(asked)
        wrong = np.flatnonzero(plain & (self._sizes != self._chunk_bytes))
        if wrong.size:
            raise self._refused(int(wrong[0]), int(self._sizes[wrong[0]]))
        if self._filters:
            self._unpack(np.flatnonzero(asked))
        self._sound |= asked

    def close(self) -> None:
        pass

    def _unpack(self, asked: np.ndarray) -> None:
        """Ask the blocks for their sizes, several at a time: zlib computes beside Python."""
        with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
            for begin in range(0, len(asked), _BLOCKS_AT_ONCE):
                some = asked[begin : begin + _BLOCKS_AT_ONCE]
                with phil:  # h5py takes its lock for every other call; without it threads break the library
                    blocks = [self._item.id.read_direct_chunk(tuple(self._starts[one])) for one in some]
                for one, size in zip(some, threads.map(self._size_of, blocks), strict=True):
                    if size is not None and size != self._chunk_bytes:
                        raise self._refused(int(one), size)

    def _size_of(self, block: tuple[int, bytes]) -> int | None:
        mask, raw = block
        used: tuple[Filter, ...] = tuple(
            one for index, one in enumerate(self._filters) if not mask >> index & 1
        )
        return unpacked_bytes(raw, used, self._chunk_bytes)

    def _refused(self, one: int, size: int) -> DataError:
        at = tuple(int(place) for place in self._starts[one])
        said = "expands to more than" if size > self._chunk_bytes else "holds less than"
        return DataError(
            f"{self._name}: a block at {at} {said} the {self._chunk_bytes} bytes that it should have. "
            "Copy or export the file again."
        )


@dataclass(frozen=True)
class _Unguarded:
    """A data set in one piece, whose size was compared when its storage was looked at."""

    def require(self, axis: int, start: int, stop: int) -> None:
        pass

    def close(self) -> None:
        pass


class _VirtualGuard:
    """Looks at the sources of a virtual data set, each as far as it is asked for; they stay open."""

    def __init__(self, item: h5py.Dataset) -> None:
        self._item = item
        self._parts = parts_of(item)
        bounds = [(part.start, part.stop) for part in self._parts]
        self._bounds = np.array(bounds, dtype=np.int64).reshape(len(bounds), 2, item.ndim)
        self._guards: dict[Source, Guard | None] = {}
        self._open = ExitStack()

    def require(self, axis: int, start: int, stop: int) -> None:
        """Refuse the data set where a block of its sources, down to the last, is not whole.

        Raises:
            DataError: it is too short or too long.
        """
        asked = (self._bounds[:, 0, axis] < stop) & (self._bounds[:, 1, axis] > start)
        for number in np.flatnonzero(asked):
            part = self._parts[number]
            if part.source not in self._guards:
                found = self._open.enter_context(opened_source(self._item, part.source))
                self._guards[part.source] = None if found is None else guard_of(found)
            guard = self._guards[part.source]
            if guard is not None:
                guard.require(*part.in_source(axis, start, stop))

    def close(self) -> None:
        for guard in self._guards.values():
            if guard is not None:
                guard.close()
        self._guards.clear()
        self._open.close()


def guard_of(item: h5py.Dataset) -> Guard:
    """Return what looks at the blocks of a data set, whose storage was found sound."""
    if item.is_virtual:
        return _VirtualGuard(item)
    return _Unguarded() if item.chunks is None or item.ndim == 0 else _ChunkGuard(item)
