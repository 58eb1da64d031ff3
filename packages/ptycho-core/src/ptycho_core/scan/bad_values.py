"""Which values of single frames are no data: saturated ones, and marks of pixels masked now and then.

Both need a second reading, which is made only where the first one gives reason to.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.survey import FrameSurvey, frame_chunks

__all__ = ["find_bad_values"]

#: So many values, and so many times more than at any other value nearby, end at exactly the largest.
FEWEST_AT_LIMIT = 10
SPIKE_FACTOR = 3.0
#: Of the largest value: where the others nearby are counted.
NEARBY_PART = 0.9
#: Fewer steps than that below the largest value, and photons alone end at one value often.
SMALLEST_LIMIT = 15
#: Frames that are at the limit in a larger part are a fault of the frame.
LARGEST_FRAME_PART = 0.5
#: Where frames are scaled one by one, each of them reaches the largest value once.
FEWEST_MORE_THAN_ONCE = 10
#: A pixel of so many counts on average may be marked; where it is dark now and then, it holds as many of
#: these small values as of those below zero, or a good part of them.
BRIGHT_COUNTS, SMALL_COUNTS, SMALL_PART = 10.0, 3, 0.1
#: A mark of every value takes as much memory; beyond this the pixels are marked in all frames.
LARGEST_MARKS_BYTES = 1 << 30


def find_bad_values(
    frames: np.ndarray | LazyFrames, survey: FrameSurvey, known: np.ndarray | None = None
) -> dict[str, Bool[np.ndarray, "*frame n n"]]:
    """Find values that are no data in some frames.

    Args:
        frames: (M, N, N) as stored.
        survey: the reading of all frames, known bad pixels left out.
        known: (N, N) or (M, N, N), True = bad, as stored.

    Returns:
        The values of each reason, (M, N, N) bool as stored; (N, N), their pixels, where that needs too much
        memory; reasons without values are left out.
    """
    found: dict[str, np.ndarray] = {}
    limit = survey.maximum
    if _many_at_limit(survey) and _ends_abruptly(frames, survey, known):
        reason = f"saturated in some frames (at {limit:g})"
        found[reason] = _marked(frames, survey.pixel_at_maximum > 0, known, at=limit)
    marked = _bright_but_marked(survey)
    if marked.any() and not _small_values(frames, marked, survey):
        reason = "negative in some frames, the mark of a masked pixel"
        found[reason] = _marked(frames, marked, known, below=0.0)
    return {reason: values for reason, values in found.items() if values.any()}


def _bright_but_marked(survey: FrameSurvey) -> Bool[np.ndarray, "n n"]:
    """Pixels of many counts that are below zero in some frames, where there is one negative value only."""
    faint = survey.pixel_negatives
    one_value = float(survey.pixel_negative_sum.sum()) == survey.minimum * survey.n_negative
    if not (survey.integral and survey.measurement == "counts" and survey.n_negative and one_value):
        return np.zeros(faint.shape, dtype=bool)
    n_frames = survey.counts_per_frame.size
    others = survey.pixel_sum - survey.pixel_negative_sum
    return (faint > 0) & (others >= BRIGHT_COUNTS * np.maximum(n_frames - faint, 1))


def _small_values(
    frames: np.ndarray | LazyFrames, pixels: Bool[np.ndarray, "n n"], survey: FrameSurvey
) -> bool:
    """Whether these pixels hold values just above zero as well, as where a dark level was taken off."""
    at, size = np.flatnonzero(pixels), pixels.size
    small = 0
    for chunk in frame_chunks(len(frames), size * frames.dtype.itemsize):
        values = np.asarray(frames[chunk]).reshape(-1, size)[:, at]
        small += int(np.count_nonzero((values >= 0) & (values <= SMALL_COUNTS)))
    return small > SMALL_PART * int(survey.pixel_negatives[pixels].sum())


def _many_at_limit(survey: FrameSurvey) -> bool:
    """Whether the first reading gives reason to look for a limit."""
    finest = survey.maximum if survey.integral else np.inf
    return int(survey.pixel_at_maximum.sum()) >= FEWEST_AT_LIMIT and finest >= SMALLEST_LIMIT


def _ends_abruptly(frames: np.ndarray | LazyFrames, survey: FrameSurvey, known: np.ndarray | None) -> bool:
    """Whether far more values are the largest one than any other near it, and not one in each frame."""
    limit, at = survey.maximum, np.flatnonzero(survey.pixel_at_maximum > 0)
    seen: dict[float, int] = {}
    per_frame = np.zeros(len(frames), dtype=np.int64)
    size = int(np.prod(frames.shape[1:]))
    for chunk in frame_chunks(len(frames), size * frames.dtype.itemsize):
        values = np.asarray(frames[chunk]).reshape(-1, size)[:, at]
        if known is not None and known.ndim == 3:
            values = np.where(known[chunk].reshape(-1, size)[:, at], 0, values)
        high = values == limit
        per_frame[chunk] = np.count_nonzero(high, axis=1)
        high[per_frame[chunk] > LARGEST_FRAME_PART * size] = False
        near = values[(values >= NEARBY_PART * limit) & (values < limit)]
        for value, count in zip(*np.unique(near, return_counts=True), strict=True):
            seen[float(value)] = seen.get(float(value), 0) + int(count)
    sound = per_frame <= LARGEST_FRAME_PART * size
    n_at = int(per_frame[sound].sum())
    more_than_once = n_at - int(np.count_nonzero(per_frame[sound]))
    spike = n_at >= FEWEST_AT_LIMIT and n_at > SPIKE_FACTOR * max(seen.values(), default=0)
    known_limit = survey.integral and (int(limit) + 1) & int(limit) == 0 and not per_frame[sound].all()
    return spike and (more_than_once >= FEWEST_MORE_THAN_ONCE or known_limit)


def _marked(
    frames: np.ndarray | LazyFrames,
    pixels: Bool[np.ndarray, "n n"],
    known: np.ndarray | None,
    *,
    at: float | None = None,
    below: float | None = None,
) -> Bool[np.ndarray, "*frame n n"]:
    """Mark the values of these pixels at, or below, some value; the pixels where that takes too much."""
    size = int(np.prod(frames.shape[1:]))
    if size * len(frames) > LARGEST_MARKS_BYTES:
        return pixels
    marks = np.zeros(frames.shape, dtype=bool)
    for chunk in frame_chunks(len(frames), size * frames.dtype.itemsize):
        values = np.asarray(frames[chunk])
        chosen = values == at if below is None else values < below
        chosen &= pixels
        if known is not None:
            chosen &= ~(known if known.ndim == 2 else known[chunk])
        chosen[chosen.mean(axis=(1, 2)) > LARGEST_FRAME_PART] = False
        marks[chunk] = chosen
    return marks
