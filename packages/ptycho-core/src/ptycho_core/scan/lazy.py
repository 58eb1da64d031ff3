"""Frames that stay in their file until some of them are asked for.

`LazyFrames` behaves like an array of shape (M, H, W) that can be indexed along its first axis, as frames that
lie in memory can. Where the values come from is the business of a `FrameSource`: compressed HDF5, TIFF,
several files one after the other. What is done to each block on its way is that of a `FrameChange`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

__all__ = ["ArraySource", "ChainedSource", "FrameChange", "FrameSource", "LazyFrames"]

Chosen = slice | np.ndarray


@runtime_checkable
class FrameSource(Protocol):
    """Where frames come from; can be pickled, so that other processes read the same file."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(M, H, W)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        ...

    def read(self, chosen: np.ndarray) -> np.ndarray:
        """Read the frames of these increasing numbers, none of them twice."""
        ...

    def frames_first(self) -> FrameSource:
        """Return the same values, whose last axis was the frame axis, with the frames first."""
        ...


@runtime_checkable
class FrameChange(Protocol):
    """What happens to a block of frames after it was read."""

    def shape(self, frame_shape: tuple[int, int]) -> tuple[int, int]:
        """Return (H, W) of a changed frame."""
        ...

    def dtype(self, dtype: np.dtype) -> np.dtype:
        """Return the type of changed values."""
        ...

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Change (k, H, W) frames."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Frames of an array in memory."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        m, height, width = self.array.shape
        return m, height, width

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def read(self, chosen: np.ndarray) -> np.ndarray:
        return self.array[_as_slice(chosen)]

    def frames_first(self) -> FrameSource:
        return ArraySource(np.moveaxis(self.array, 2, 0))


@dataclass(frozen=True, eq=False)
class ChainedSource:
    """The frames of several sources, one after the other."""

    parts: tuple[FrameSource, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        _, height, width = self.parts[0].shape
        return sum(part.shape[0] for part in self.parts), height, width

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*(part.dtype for part in self.parts))

    def read(self, chosen: np.ndarray) -> np.ndarray:
        blocks, first = [], 0
        for part in self.parts:
            inside = chosen[(chosen >= first) & (chosen < first + part.shape[0])]
            if inside.size:
                blocks.append(part.read(inside - first))
            first += part.shape[0]
        return np.concatenate(blocks) if len(blocks) != 1 else blocks[0]

    def frames_first(self) -> FrameSource:
        return ChainedSource(tuple(part.frames_first() for part in self.parts))


@dataclass(frozen=True, eq=False)
class _Swapped:
    """Rows become columns."""

    def shape(self, frame_shape: tuple[int, int]) -> tuple[int, int]:
        return frame_shape[1], frame_shape[0]

    def dtype(self, dtype: np.dtype) -> np.dtype:
        return dtype

    def __call__(self, block: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.swapaxes(block, 1, 2))


@dataclass(frozen=True, eq=False)
class LazyFrames:
    """(M, H, W) frames, read block by block.

    Attributes:
        source: where they are.
        changes: what is done to each block, in this order.
        rows: numbers of the frames in the source; all of them when None.
    """

    source: FrameSource
    changes: tuple[FrameChange, ...] = ()
    rows: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(M, H, W) as seen from outside."""
        m, *frame = self.source.shape
        shape = (frame[0], frame[1])
        for change in self.changes:
            shape = change.shape(shape)
        return m if self.rows is None else len(self.rows), *shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the values as seen from outside."""
        dtype = self.source.dtype
        for change in self.changes:
            dtype = change.dtype(dtype)
        return dtype

    @property
    def ndim(self) -> int:
        """Always 3."""
        return 3

    @property
    def size(self) -> int:
        """Number of values."""
        m, height, width = self.shape
        return m * height * width

    @property
    def nbytes(self) -> int:
        """What all frames would need in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: int | np.integer | Chosen) -> np.ndarray:
        """Read some frames; a single number gives a single frame."""
        if isinstance(chosen, int | np.integer):
            return self[np.array([chosen])][0]
        numbers = self._numbers(chosen)
        if numbers.size == 0:
            return np.empty((0, *self.shape[1:]), self.dtype)
        wanted, back = np.unique(numbers, return_inverse=True)
        block = self.source.read(wanted)
        for change in self.changes:
            block = change(block)
        return block if np.array_equal(wanted, numbers) else block[back]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self[:]
        if dtype is not None and values.dtype != dtype:
            return values.astype(dtype)
        # What is mapped may not be written to; NumPy leaves it to us to make the copy that it asks for.
        return values.copy() if copy and not (values.flags.owndata and values.flags.writeable) else values

    def select(self, chosen: Chosen) -> LazyFrames:
        """Return some of the frames, unread."""
        return replace(self, rows=self._numbers(chosen))

    def _numbers(self, chosen: Chosen) -> np.ndarray:
        """Return the numbers of chosen frames in the source, without a list of all: a file may declare 10^9.

        Raises:
            IndexError: there is no such frame, as NumPy says it.
        """
        if self.rows is not None:
            return self.rows[chosen]
        count = len(self)
        if isinstance(chosen, slice):
            return np.arange(*chosen.indices(count))
        asked = np.asarray(chosen)
        if asked.dtype == np.bool_:
            return np.arange(count)[asked]
        numbers = asked.astype(np.int64)
        beyond = (numbers < -count) | (numbers >= count)
        if beyond.any():
            raise IndexError(f"index {numbers[beyond][0]} is out of bounds for {count} frames")
        return np.where(numbers < 0, numbers + count, numbers)

    def then(self, change: FrameChange) -> LazyFrames:
        """Return the frames with one more change, unread."""
        return replace(self, changes=(*self.changes, change))

    def swapaxes(self, first: int, second: int) -> LazyFrames:
        """Exchange rows and columns; `numpy.swapaxes` calls this."""
        if {first % 3, second % 3} != {1, 2}:
            raise ValueError(f"axes {first} and {second}: only those of a frame can be exchanged unread")
        return self.then(_Swapped())

    def frames_first(self) -> LazyFrames:
        """Take the last axis of the source, unchanged so far, for the frame axis."""
        return LazyFrames(self.source.frames_first())


def _as_slice(numbers: np.ndarray) -> Chosen:
    """Replace consecutive numbers by a slice, which needs no copy."""
    if numbers.size and numbers[-1] - numbers[0] == numbers.size - 1:
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers
