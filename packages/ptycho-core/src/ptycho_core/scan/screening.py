"""Which pixels and which frames are no data: decided from one reading of all frames, with a reason for each.

A false alarm costs more than a miss: every rule asks for evidence that Poisson noise and diffraction
cannot give, and a scan of few frames is not judged.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage
from scipy.spatial import KDTree

from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.survey import FrameSurvey

__all__ = ["screen_frames", "screen_pixels", "wrapped_around"]

FEWEST_FRAMES = 16
LARGEST_CONSTANT_FRACTION = 0.25  # frames that do not change at all are another fault
SMALLEST_WRAP = -100  # marks of masked pixels are -1, -2, ...
OUTLIER_FACTOR = 30.0
OUTLIER_COUNTS = 100.0
EMPTY_BESIDE_COUNTS = 20.0  # a frame of so many expected counts is empty by chance once in e^20
FAR_FACTOR = 3.0  # brighter or darker than its neighbours in space and in time
FAR_SPREADS = 8.0  # and so many of their own standard deviations away
FRAME_NEIGHBOURS = 9
TWIN_COUNTS = 100.0  # two frames of so many counts are never equal by chance
LARGEST_TWIN_FRACTION = 0.05  # more of them are a simulation without noise
BORDER_COUNTS = 20.0  # over all frames: a pixel beside it is zero throughout once in e^20


def wrapped_around(survey: FrameSurvey, dtype: np.dtype) -> bool:
    """Say whether negative values of a signed type go on from its positive limit.

    So it is if most pixels that were negative have neighbours, or themselves in other frames, in the upper
    half of the type's range.
    """
    if dtype.kind != "i" or survey.minimum >= SMALLEST_WRAP:
        return False
    limit = np.iinfo(dtype).max
    deep = survey.pixel_minimum < SMALLEST_WRAP
    near_limit = ndimage.maximum_filter(survey.pixel_maximum, 5) > limit / 2
    return survey.maximum > 0.9 * limit and bool(near_limit[deep].mean() > 0.5)


def screen_pixels(
    survey: FrameSurvey, dtype: np.dtype, *, known: Bool[np.ndarray, "n n"] | None = None
) -> dict[str, Bool[np.ndarray, "n n"]]:
    """Find the pixels that are no data.

    Args:
        survey: the reading of all frames; only counts are judged.
        dtype: type of the frames as stored.
        known: (N, N) pixels that are bad already, True = bad, as stored.

    Returns:
        The pixels of each reason, (N, N) bool as stored, disjoint; reasons without pixels are left out.
    """
    n_frames = survey.counts_per_frame.size
    if (
        survey.measurement != "counts"
        or n_frames < FEWEST_FRAMES
        or not np.isfinite(survey.pixel_squares).all()
    ):
        return {}
    taken = np.zeros(survey.counts_sum.shape, dtype=bool) if known is None else known.copy()
    if survey.nan_ever is not None:
        taken |= survey.nan_ever
    found: dict[str, np.ndarray] = {}

    def take(reason: str, pixels: np.ndarray) -> None:
        new = pixels & ~taken
        if new.any():
            found[reason] = new
            taken[...] |= new

    low, high = survey.pixel_minimum, survey.pixel_maximum
    if dtype.kind in "iu" and dtype.itemsize > 1:
        take("at the limit of the integer type", survey.pixel_at_limit > n_frames / 2)
        take("negative, the mark of a masked pixel", survey.pixel_negatives > n_frames / 2)
    constant = (low == high) & (high >= 10)
    if constant.mean() <= LARGEST_CONSTANT_FRACTION:
        take("equal in all frames", constant)
    rest = (survey.pixel_sum - high) / (n_frames - 1)
    around = _median_around(high, taken)
    take(
        "with one absurd value (cosmic hit)",
        (high > OUTLIER_FACTOR * around + OUTLIER_COUNTS) & (high > OUTLIER_FACTOR * rest + OUTLIER_COUNTS),
    )
    mean = survey.pixel_sum / n_frames
    variance = survey.pixel_squares / n_frames - mean**2
    above = (mean > 10 * _median_around(mean, taken) + 10) & (low > _median_around(high, taken))
    take("hot", above & (variance < 3 * mean) & ~_near_zero_frequency(mean.shape))
    take("dark amid light (dead, or a beam stop)", _dark_amid_light(survey.counts_sum, taken))
    return found


def screen_frames(
    survey: FrameSurvey,
    positions_px: Float64[np.ndarray, "frame 2"],
    frames: np.ndarray | LazyFrames,
) -> dict[str, Bool[np.ndarray, " frame"]]:
    """Find the frames that are no data.

    What the sample absorbs changes the counts of neighbours in space alike, and a beam that fades those of
    neighbours in time; a frame is judged bright or dark only where it stands far from both.

    Args:
        survey: the reading of all frames, bad pixels left out.
        positions_px: (M, 2), finite.
        frames: as stored; only frames of equal counts are read again.

    Returns:
        The frames of each reason, (M,) bool, disjoint; reasons without frames are left out.
    """
    counts = survey.counts_per_frame
    taken = np.zeros(counts.size, dtype=bool)
    found: dict[str, np.ndarray] = {}

    def take(reason: str, chosen: np.ndarray) -> None:
        new = chosen & ~taken
        if new.any() and not (taken | new).all():
            found[reason] = new
            taken[...] |= new

    take("mostly NaN or infinite", survey.bad_values_per_frame > survey.counts_sum.size / 2)
    shining = counts[(counts > 0) & ~taken]
    usual = float(np.median(shining)) if shining.size else 0.0
    if survey.measurement == "amplitude" or usual > EMPTY_BESIDE_COUNTS:
        take("empty", counts == 0)
    if counts.size - np.count_nonzero(taken) >= FEWEST_FRAMES and usual > 0:
        bright, dark = _far_from_neighbours(counts, positions_px, taken)
        take("far brighter than all around", bright)
        take("far darker than all around", dark)
        take("stored twice", _stored_twice(survey, frames, taken))
    return found


def _far_from_neighbours(
    counts: np.ndarray, positions_px: np.ndarray, taken: np.ndarray
) -> tuple[Bool[np.ndarray, " frame"], Bool[np.ndarray, " frame"]]:
    """Mark frames far brighter, far darker than their neighbours in space and than those in time.

    The edge of an absorber runs between neighbours in space: only a frame that all but two of them exceed, or
    stay below, is alone there.
    """
    usable = np.flatnonzero(~taken & (counts > 0))
    if usable.size < 2:
        return np.zeros(counts.size, dtype=bool), np.zeros(counts.size, dtype=bool)
    level = np.log(counts[usable])
    k = min(FRAME_NEIGHBOURS + 1, usable.size)
    near = np.asarray(KDTree(positions_px[usable]).query(positions_px[usable], k=k)[1])[:, 1:]
    around = np.sort(level[near], axis=1)
    above, below = level - around[:, -min(3, k - 1)], level - around[:, min(3, k - 1) - 1]
    in_time = level - ndimage.median_filter(level, min(FRAME_NEIGHBOURS, usable.size), mode="nearest")
    # Both kinds of neighbour must allow it, and Poisson noise alone never reaches it.
    noise = FAR_SPREADS / np.sqrt(np.maximum(np.median(counts[usable]), 1))
    in_space = level - np.median(around, axis=1)
    limit, in_time_limit = (
        max(np.log(FAR_FACTOR), FAR_SPREADS * 1.4826 * float(np.median(np.abs(off))), noise)
        for off in (in_space, in_time)
    )
    bright, dark = np.zeros(counts.size, dtype=bool), np.zeros(counts.size, dtype=bool)
    bright[usable] = (above > limit) & (in_time > in_time_limit)
    dark[usable] = (below < -limit) & (in_time < -in_time_limit)
    return bright, dark


def _stored_twice(
    survey: FrameSurvey, frames: np.ndarray | LazyFrames, taken: np.ndarray
) -> Bool[np.ndarray, " frame"]:
    """Mark frames that repeat the one before to the last count, as a detector that stands still writes them.

    Which of two equal frames from different times is in its place, the solver finds out.
    """
    twins = np.zeros(taken.shape, dtype=bool)
    counts = survey.counts_per_frame
    if survey.measurement != "counts" or not survey.integral:
        return twins
    suspects = np.flatnonzero((np.diff(counts) == 0) & (counts[1:] >= TWIN_COUNTS) & ~taken[1:]) + 1
    if suspects.size > LARGEST_TWIN_FRACTION * counts.size + 1:
        return twins
    for frame in suspects.tolist():
        twins[frame] = np.array_equal(np.asarray(frames[frame]), np.asarray(frames[frame - 1]))
    return twins


def _median_around(values: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Median of the 5 x 5 neighbourhood without its bad pixels; infinite where no other is left."""
    median = ndimage.median_filter(values, 5)
    near = np.argwhere(ndimage.binary_dilation(taken, np.ones((5, 5), dtype=bool)) & ~taken)
    if len(near):
        padded = np.pad(np.where(taken, np.nan, values), 2, mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))[near[:, 0], near[:, 1]]
        around = windows.reshape(len(near), 25)
        alone = np.isfinite(around).sum(axis=1) < 2
        around[alone] = np.inf
        median[near[:, 0], near[:, 1]] = np.nanmedian(around, axis=1)
    return median


def _near_zero_frequency(shape: tuple[int, ...]) -> np.ndarray:
    """Within an eighth of the frame of its centre or corners: an unscattered beam may be one pixel wide."""
    y, x = (np.arange(side) for side in shape)
    center = np.hypot(y[:, None] - shape[0] // 2, x - shape[1] // 2)
    corner = np.hypot(np.minimum(y, shape[0] - y)[:, None], np.minimum(x, shape[1] - x))
    return np.minimum(center, corner) <= max(shape) / 8


def _dark_amid_light(counts_sum: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Connected regions, zero in all frames, that light surrounds on all sides."""
    labels, n_regions = ndimage.label((counts_sum == 0) & ~taken)
    dark = np.zeros(counts_sum.shape, dtype=bool)
    level = max(BORDER_COUNTS, float(counts_sum[~taken].mean()) / 10) if not taken.all() else 0.0
    for label, box in enumerate(ndimage.find_objects(labels, n_regions), start=1):
        if any(s.start == 0 or s.stop == side for s, side in zip(box, counts_sum.shape, strict=True)):
            continue
        wide = tuple(slice(s.start - 1, s.stop + 1) for s in box)
        region = labels[wide] == label
        border = ndimage.binary_dilation(region) & ~region & ~taken[wide]
        if border.any() and counts_sum[wide][border].min() > level:
            dark[wide] |= region
    return dark
