"""One pass over the frames of a scan: extremes, bad values, kind of numbers, sums.

Everything that reading and solving want to know about all frames at once is found here in a single
chunked reading, in bounded memory. Nothing here knows files or decides what a finding means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Num

from ptycho_core.scan.lazy import LazyFrames

CHUNK_BYTES = (
    4 << 20
)  # small enough to stay in a processor's cache while several quantities are taken from it

MOST_MARKS = 3  # -1, -2 and a third one

Measurement = Literal["amplitude", "counts"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameSurvey:
    """What one reading of all frames found; bad pixels are left out everywhere.

    Attributes:
        minimum, maximum: extremes of the stored values.
        integral: every value is a whole number.
        measurement: what the sums took the values for.
        first_infinite, first_all_nan: the first such frame, or None.
        n_nan: how many NaN were met; they count as bad.
        bad_values_per_frame: (M,) how many NaN and infinite values each frame holds.
        n_negative: how many values were below zero; they count as 0.
        nan_always, nan_ever: (N, N) pixels that are NaN or infinite in all, in some frames; as stored, None
            where all values are finite.
        counts_sum: (N, N) sum of the counts over the frames, as stored.
        counts_per_frame: (M,) counts of each frame.
        pixel_minimum, pixel_maximum: (N, N) extremes of the stored values of each pixel.
        pixel_sum, pixel_squares: (N, N) sum of its counts and of their squares, negative counts included.
        pixel_negatives, pixel_negative_sum: (N, N) how often its stored value was below zero; their sum.
        pixel_at_maximum: (N, N) how often it held `maximum`, the largest value of all.
    """

    minimum: float
    maximum: float
    integral: bool
    measurement: Measurement
    first_infinite: int | None
    first_all_nan: int | None
    n_nan: int
    bad_values_per_frame: np.ndarray
    n_negative: int
    nan_always: np.ndarray | None
    nan_ever: np.ndarray | None
    counts_sum: Float64[np.ndarray, "n n"]
    counts_per_frame: Float64[np.ndarray, " frame"]
    pixel_minimum: Float64[np.ndarray, "n n"]
    pixel_maximum: Float64[np.ndarray, "n n"]
    pixel_sum: Float64[np.ndarray, "n n"]
    pixel_squares: Float64[np.ndarray, "n n"]
    pixel_negatives: np.ndarray
    pixel_negative_sum: Float64[np.ndarray, "n n"]
    pixel_at_maximum: np.ndarray

    @property
    def pixel_variance(self) -> Float64[np.ndarray, "n n"]:
        """Variance of each pixel's counts over the frames, of which there are two or more."""
        n_frames = self.counts_per_frame.size
        mean = self.pixel_sum / n_frames
        return (self.pixel_squares - n_frames * mean**2) / (n_frames - 1)

    @property
    def negatives_are_noise(self) -> bool:
        """Whether what is below zero is noise around it; marks of masked pixels are few different numbers."""
        below = self.pixel_minimum[self.pixel_negatives > 0]
        return np.unique(below).size > MOST_MARKS

    def times(self, factor: float) -> FrameSurvey:
        """What the reading of the same counts, each multiplied by a factor, would have found."""
        linear = (
            "minimum",
            "maximum",
            "counts_sum",
            "counts_per_frame",
            "pixel_minimum",
            "pixel_maximum",
            "pixel_sum",
            "pixel_negative_sum",
        )
        changed = {name: getattr(self, name) * factor for name in linear}
        return replace(self, **changed, pixel_squares=self.pixel_squares * factor**2, integral=False)


def frame_chunks(n_frames: int, bytes_per_frame: int) -> Iterator[slice]:
    """Yield consecutive slices of frames of some megabytes each, in the order of the file."""
    step = max(1, CHUNK_BYTES // max(1, bytes_per_frame))
    for start in range(0, n_frames, step):
        yield slice(start, min(start + step, n_frames))


def working_dtype(dtype: np.dtype) -> type[np.float32] | type[np.float64]:
    """Return the narrowest float that holds every value of `dtype` to its own accuracy.

    Squaring must happen in this type, never in the stored one: a uint16 of 300 squared in place is 24464.
    """
    exact_in_float32 = dtype.itemsize <= 2 or (dtype.kind == "f" and dtype.itemsize <= 4)
    return np.float32 if exact_in_float32 else np.float64


def survey_frames(
    frames: Num[np.ndarray, "frame height width"] | Bool[np.ndarray, "frame height width"] | LazyFrames,
    *,
    bad_pixels: np.ndarray | None = None,
    measurement: Literal["auto", "amplitude", "counts"] = "auto",
    on_chunk: Callable[[np.ndarray], None] | None = None,
) -> FrameSurvey:
    """Read every frame once and report.

    With `measurement="auto"`, integers, and floats that are all whole with a maximum above 1, are counts;
    other floats are amplitudes (docs/reference/physics.md, "Counts or amplitude").

    Args:
        bad_pixels: (N, N) or (M, N, N) as stored, True = bad; whatever stands there is ignored.
        on_chunk: called with every chunk as stored, in file order, for instance to check a checksum.
    """
    collector = _Collector(frames, bad_pixels, measurement)
    for chunk in frame_chunks(frames.shape[0], frames[0].size * frames.dtype.itemsize):
        stored = frames[chunk]
        if on_chunk is not None:
            on_chunk(stored)
        collector.add(chunk, stored)
    return collector.result()


class _Collector:
    """Running totals of `survey_frames`."""

    def __init__(
        self, frames: np.ndarray | LazyFrames, bad_pixels: np.ndarray | None, measurement: str
    ) -> None:
        self.frames = frames
        self.bad_pixels = bad_pixels
        self.dtype = working_dtype(frames.dtype)
        self.float_data = frames.dtype.kind == "f"
        self.undecided = measurement == "auto" and self.float_data
        self.squared = measurement == "amplitude"
        self.minimum, self.maximum = np.inf, -np.inf
        self.integral = True
        self.first_infinite: int | None = None
        self.first_all_nan: int | None = None
        self.n_nan = self.n_negative = 0
        self.nan_count: np.ndarray | None = None
        self.bad_values = np.zeros(frames.shape[0], dtype=np.int64)
        self.counts_sum = np.zeros(frames.shape[1:])
        self.counts_per_frame = np.zeros(frames.shape[0])
        self.pixel_minimum = np.full(frames.shape[1:], np.inf)
        self.pixel_maximum = np.full(frames.shape[1:], -np.inf)
        self.pixel_sum, self.pixel_squares = np.zeros(frames.shape[1:]), np.zeros(frames.shape[1:])
        self.pixel_negatives = np.zeros(frames.shape[1:], dtype=np.int64)
        self.pixel_negative_sum = np.zeros(frames.shape[1:])
        self.pixel_at_maximum = np.zeros(frames.shape[1:], dtype=np.int64)
        #: Working copies of one block, used again for the next: new memory costs as much as the arithmetic.
        self._copy = self._whole = np.empty((0, *frames.shape[1:]), self.dtype)

    def add(self, chunk: slice, stored: np.ndarray) -> None:
        if len(self._copy) < len(stored):
            self._copy, self._whole = np.empty(stored.shape, self.dtype), np.empty(stored.shape, self.dtype)
        values = self._readable(chunk, stored, self._copy[: len(stored)])
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            self._note_bad_values(chunk, values)
            low, high = float(values.min()), float(values.max())
        self._note_maximum(values, high)
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        if self.float_data and self.integral and not self._all_whole(values):
            self.integral = False
            if self.undecided:
                self._take_for_amplitude(before=chunk.start)
        np.minimum(self.pixel_minimum, values.min(axis=0), out=self.pixel_minimum)
        np.maximum(self.pixel_maximum, values.max(axis=0), out=self.pixel_maximum)
        if low < 0:
            below = np.minimum(values, 0)
            self.n_negative += int(np.count_nonzero(below))
            self.pixel_negatives += np.count_nonzero(below, axis=0)
            self.pixel_negative_sum += below.sum(axis=0, dtype=np.float64)
        self._sum(chunk, values, low)

    def _note_maximum(self, values: np.ndarray, high: float) -> None:
        """Count how often each pixel holds the largest value met so far."""
        if high > self.maximum:
            self.pixel_at_maximum[:] = 0
        if high >= self.maximum:
            self.pixel_at_maximum += np.count_nonzero(values == high, axis=0)

    def _all_whole(self, values: np.ndarray) -> bool:
        return bool((np.rint(values, out=self._whole[: len(values)]) == values).all())

    def _readable(self, chunk: slice, stored: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Copy the chunk into `values`, aligned native floats, bad pixels set to 0."""
        np.copyto(values, stored, casting="unsafe")
        if self.bad_pixels is not None:
            bad = self.bad_pixels if self.bad_pixels.ndim == 2 else self.bad_pixels[chunk]
            np.copyto(values, 0, where=bad)
        return values

    def _note_bad_values(self, chunk: slice, values: np.ndarray) -> None:
        """Record NaN and infinite values and set them to 0."""
        infinite = np.isinf(values)
        if self.first_infinite is None and infinite.any():
            self.first_infinite = chunk.start + int(np.argmax(infinite.any(axis=(1, 2))))
        nan = np.isnan(values)
        all_nan = nan.all(axis=(1, 2))
        if self.first_all_nan is None and all_nan.any():
            self.first_all_nan = chunk.start + int(np.argmax(all_nan))
        if self.nan_count is None:
            self.nan_count = np.zeros(values.shape[1:], dtype=np.int64)
        bad = nan | infinite
        self.nan_count += bad.sum(axis=0)
        self.n_nan += int(nan.sum())
        self.bad_values[chunk] = bad.sum(axis=(1, 2))
        values[bad] = 0

    def _take_for_amplitude(self, *, before: int) -> None:
        """The first fraction has appeared: these are amplitudes, so sum the earlier chunks again, squared."""
        self.undecided, self.squared = False, True
        if before == 0 or self.maximum <= 1:  # squares of 0 and 1 are what has been summed already
            return
        for total in (self.counts_sum, self.pixel_sum, self.pixel_squares):
            total[:] = 0
        for chunk in frame_chunks(before, self.frames[0].size * self.frames.dtype.itemsize):
            stored = self.frames[chunk]
            values = self._readable(chunk, stored, np.empty(stored.shape, self.dtype))
            values = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
            self._sum(chunk, values, float(values.min()))

    def _sum(self, chunk: slice, values: np.ndarray, low: float) -> None:
        """Add the counts of a chunk; `values` may be changed."""
        with np.errstate(over="ignore", invalid="ignore"):  # values that large are refused by `maximum`
            if self.squared:
                if low < 0:
                    np.maximum(values, 0, out=values)
                values *= values
            total = values.sum(axis=0, dtype=np.float64)
            self.pixel_sum += total
            self.pixel_squares += np.einsum("kij,kij->ij", values, values, dtype=np.float64)
            if low < 0 and not self.squared:
                np.maximum(values, 0, out=values)
                total = values.sum(axis=0, dtype=np.float64)
            self.counts_sum += total
            self.counts_per_frame[chunk] = values.sum(axis=(1, 2), dtype=np.float64)

    def result(self) -> FrameSurvey:
        # Whole floats that never exceed 1 are amplitudes, and equal their own squares.
        amplitude = self.squared or (self.undecided and self.maximum <= 1)
        n_frames = self.frames.shape[0]
        return FrameSurvey(
            minimum=self.minimum,
            maximum=self.maximum,
            integral=self.integral,
            measurement="amplitude" if amplitude else "counts",
            first_infinite=self.first_infinite,
            first_all_nan=self.first_all_nan,
            n_nan=self.n_nan,
            bad_values_per_frame=self.bad_values,
            n_negative=self.n_negative,
            nan_always=None if self.nan_count is None else self.nan_count == n_frames,
            nan_ever=None if self.nan_count is None else self.nan_count > 0,
            counts_sum=self.counts_sum,
            counts_per_frame=self.counts_per_frame,
            pixel_minimum=self.pixel_minimum,
            pixel_maximum=self.pixel_maximum,
            pixel_sum=self.pixel_sum,
            pixel_squares=self.pixel_squares,
            pixel_negatives=self.pixel_negatives,
            pixel_negative_sum=self.pixel_negative_sum,
            pixel_at_maximum=self.pixel_at_maximum,
        )
