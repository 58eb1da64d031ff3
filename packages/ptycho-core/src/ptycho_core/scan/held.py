"""Frames that stay in memory once they were read, where they are few.

What was read once is not read again: not later, when the file may be gone, and not another version of it.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import replace

import numpy as np

from ptycho_core.scan.lazy import ArraySource, FrameSource, LazyFrames
from ptycho_core.scan.plain import PlainSource

__all__ = ["HELD_BYTES", "HeldSource", "held", "held_alone", "unheld"]

#: Up to so many bytes, as stored, the frames of a scan are held; those of larger ones stay in the file.
HELD_BYTES = 1 << 28


class HeldSource:
    """The frames of another source, copied while they are read."""

    def __init__(self, source: FrameSource) -> None:
        """Hold nothing yet."""
        self._source = source
        self._frames = _room(source.shape, source.dtype)
        self._there = np.zeros(source.shape[0], bool)
        self._alone: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._source.shape

    @property
    def dtype(self) -> np.dtype:
        return self._source.dtype

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of a raster; None where the frames are stored in one row."""
        return getattr(self._source, "grid", None)

    @property
    def n_held(self) -> int:
        """How many frames are held by now."""
        return int(np.count_nonzero(self._there))

    def read(self, chosen: np.ndarray) -> np.ndarray:
        """Return a view that must not be changed where the frames follow each other, else a copy."""
        if self._alone is not None and not self._alone[chosen].all():
            return self._source.read(chosen)
        frames = self._frames
        new = chosen[~self._there[chosen]]
        if new.size:
            run = _run(new)
            if isinstance(self._source, PlainSource) and isinstance(run, slice):
                self._source.read_into(frames[run], new)
            else:
                frames[run] = self._source.read(new)
            self._there[new] = True
        found = frames[_run(chosen)]
        found.flags.writeable = False
        return found

    def alone(self, numbers: np.ndarray) -> HeldSource:
        """Return the same source, which holds no other frames than these."""
        source = HeldSource(self._source)
        source._alone = np.zeros(self.shape[0], bool)
        source._alone[numbers] = True
        return source

    def not_held(self) -> FrameSource:
        """Return where the frames come from."""
        return self._source

    def frames_first(self) -> FrameSource:
        turned = self._source.frames_first()
        return turned if isinstance(turned, ArraySource) else HeldSource(turned)

    def __reduce__(self) -> tuple[type[HeldSource], tuple[FrameSource]]:
        return HeldSource, (self._source,)  # another process reads the file itself


def held(frames: np.ndarray | LazyFrames) -> np.ndarray | LazyFrames:
    """Hold the frames of a file once they are read, where they are small enough."""
    if not isinstance(frames, LazyFrames) or frames.changes or frames.rows is not None:
        return frames
    return LazyFrames(HeldSource(frames.source)) if frames.nbytes <= HELD_BYTES else frames


def held_alone(frames: np.ndarray | LazyFrames, numbers: np.ndarray) -> np.ndarray | LazyFrames:
    """Return the same frames, of which no others than these are held once they were read."""
    if not isinstance(frames, LazyFrames) or not isinstance(frames.source, HeldSource):
        return frames
    in_file = numbers if frames.rows is None else frames.rows[numbers]
    return replace(frames, source=frames.source.alone(in_file))


def unheld(frames: np.ndarray | LazyFrames) -> np.ndarray | LazyFrames:
    """Return the same frames, none of which is held."""
    if not isinstance(frames, LazyFrames) or not isinstance(frames.source, HeldSource):
        return frames
    return replace(frames, source=frames.source.not_held())


def _run(numbers: np.ndarray) -> slice | np.ndarray:
    """Return the slice of numbers that follow each other."""
    if numbers.size and numbers[-1] - numbers[0] == numbers.size - 1:
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers


def _room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Make an array that takes no memory before it is written, and then small pages.

    NumPy asks for huge pages where an array is large. To put one together, where memory is in pieces, may
    take the system as long as it takes to open the scan; each of these is written once and read a few times.
    """
    n_values = math.prod(shape)
    if n_values == 0 or dtype.itemsize == 0 or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(shape, dtype)
    try:
        pages = mmap.mmap(-1, n_values * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"there is no room for {shape} values of {dtype}") from error
    return np.frombuffer(pages, dtype).reshape(shape)
