"""Amplitudes of frames in two bytes a pixel: their counts where those are whole, else multiples of a step.

Each frame is kept in one of three ways, whichever is the first that can hold it:

- its counts, where all of them are whole and below 65,536: it comes back as it came, to the bit;
- its counts where they are below 49,152, and the amplitudes of brighter pixels in 16,384 steps up to the
  largest one, where nothing but those pixels stands in the way of the first;
- amplitudes as multiples of 1/65535 of the largest one, which are off by half of that at most, whatever the
  pixel, as the noise of an amplitude is about the same whatever the counts.

docs/decisions/0028-frames-in-two-bytes-a-pixel.md compares that with half-precision numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt16

__all__ = ["CodedFrames", "counts_added", "frame_sums"]

_LARGEST_CODE = 65535
#: From this code on a frame with bright pixels has amplitudes in steps; `BRIGHT` in kernel/problem.h.
_BRIGHT = 49152
_ROOT_OF_BRIGHT = np.float32(math.sqrt(_BRIGHT))
#: The smallest step that a float32 holds to its full accuracy.
_SMALLEST_STEP = np.finfo(np.float32).tiny
#: Pixels that are widened at a time.
_PIXELS = 1 << 18


class CodedFrames:
    """Frames that are written and read as float32 amplitudes, and lie in memory or a file as uint16.

    Indexing is by frames alone, with a slice or an array, and returns a copy.

    Attributes:
        codes: (m, n, n); may be the middle of larger frames.
        step: (m,) amplitude from one code of a frame to the next; 0 where its codes are counts; below 0 where
            they are counts up to those of bright pixels, whose amplitudes are minus this step apart.
        added: counts added to those of every pixel when frames are read.
    """

    def __init__(
        self,
        codes: UInt16[np.ndarray, "frame n n"],
        step: Float32[np.ndarray, " frame"] | None = None,
        *,
        added: float = 0.0,
    ) -> None:
        """Take codes that are at hand, or room for them; nothing is copied."""
        self.codes, self.added = codes, added
        self.step = np.zeros(len(codes), np.float32) if step is None else step

    @property
    def shape(self) -> tuple[int, ...]:
        """Frames, rows, columns."""
        return self.codes.shape

    def __len__(self) -> int:
        return len(self.codes)

    def __setitem__(self, frames: slice | np.ndarray, amplitude: Float32[np.ndarray, "chosen n n"]) -> None:
        """Keep amplitudes, none of them negative, of whole frames."""
        counts = np.square(amplitude, dtype=np.float32)
        np.rint(counts, out=counts)
        exact = np.sqrt(counts) == amplitude
        whole = exact.all(axis=(1, 2)) & (counts.max(axis=(1, 2)) <= _LARGEST_CODE)
        step = np.zeros(len(counts), np.float32)
        for frame in np.flatnonzero(~whole):  # few, or in an unknown unit
            bright = counts[frame] >= _BRIGHT
            if (exact[frame] | bright).all():
                counts[frame], step[frame] = _with_bright(counts[frame], amplitude[frame], bright)
            else:
                step[frame] = max(amplitude[frame].max() / _LARGEST_CODE, _SMALLEST_STEP)
                counts[frame] = np.rint(amplitude[frame] / step[frame])
        self.codes[frames], self.step[frames] = counts, step

    def __getitem__(self, frames: slice | np.ndarray) -> Float32[np.ndarray, "chosen n n"]:
        codes, step = self.codes[frames].astype(np.float32), self.step[frames, None, None]
        if not step.any():
            counts = codes if not self.added else np.add(codes, np.float32(self.added), out=codes)
            return np.sqrt(counts, out=counts)
        # Steps of all codes, or from the bright ones on; below those they are counts.
        in_steps = (step > 0) | ((step < 0) & (codes >= _BRIGHT))
        steps = np.where(step > 0, codes * step, _ROOT_OF_BRIGHT - (codes - _BRIGHT) * step)
        if not self.added:
            return np.where(in_steps, steps, np.sqrt(codes))
        return np.sqrt(np.where(in_steps, np.square(steps), codes) + np.float32(self.added))

    def select(self, frames: slice | np.ndarray) -> CodedFrames:
        """Return some of the frames as they lie; a slice shares memory with these."""
        return CodedFrames(self.codes[frames], self.step[frames], added=self.added)

    def central(self, crop: slice) -> CodedFrames:
        """Return the same frames cut to some rows, and to the same columns, in the same memory."""
        return CodedFrames(self.codes[:, crop, crop], self.step, added=self.added)

    def blocks(self) -> Iterator[slice]:
        """Runs of frames that take little room when they are widened."""
        step = max(1, _PIXELS // max(1, self.shape[-1] ** 2))
        for first in range(0, len(self), step):
            yield slice(first, min(first + step, len(self)))


def _with_bright(
    counts: np.ndarray, amplitude: np.ndarray, bright: np.ndarray
) -> tuple[Float32[np.ndarray, "n n"], np.float32]:
    """Return counts as codes, and amplitudes in steps where pixels are bright; and minus that step."""
    beyond = amplitude - _ROOT_OF_BRIGHT
    step = max(beyond.max() / np.float32(_LARGEST_CODE - _BRIGHT), _SMALLEST_STEP)
    in_steps = _BRIGHT + np.maximum(np.rint(beyond / step), 0)
    return np.where(bright, in_steps, counts), -np.float32(step)


def counts_added(amplitude: Any, counts: float) -> Any:
    """Return amplitudes, float32 or coded, whose squares are larger by some counts."""
    if isinstance(amplitude, CodedFrames):
        return CodedFrames(amplitude.codes, amplitude.step, added=amplitude.added + counts)
    more = np.square(amplitude)
    more += np.float32(counts)
    return np.sqrt(more, out=more)


def frame_sums(
    amplitude: Float32[np.ndarray, "frame n n"] | CodedFrames,
) -> tuple[Float64[np.ndarray, " frame"], Float32[np.ndarray, " frame"]]:
    """Return the sum of the amplitudes of each frame, and of its counts."""
    if not isinstance(amplitude, CodedFrames):
        sums = amplitude.sum(axis=(1, 2), dtype=np.float64)
        return sums, np.einsum("fij,fij->f", amplitude, amplitude)
    sums, counts = np.empty(len(amplitude)), np.empty(len(amplitude), np.float32)
    for block in amplitude.blocks():
        sums[block], counts[block] = frame_sums(amplitude[block])
    return sums, counts
