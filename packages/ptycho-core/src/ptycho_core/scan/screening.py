"""Which pixels are no data: decided from one reading of all frames, with a reason for each.

A false alarm costs more than a miss: every rule asks for evidence that Poisson noise and diffraction
cannot give, and a scan of few frames is not judged.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from ptycho_core.scan.survey import FrameSurvey

__all__ = ["screen_pixels", "wrapped_around"]

FEWEST_FRAMES = 16
LARGEST_CONSTANT_FRACTION = 0.25  # frames that do not change at all are another fault
SMALLEST_WRAP = -100  # marks of masked pixels are -1, -2, ...
OUTLIER_FACTOR = 30.0
OUTLIER_COUNTS = 100.0
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


def _median_around(values: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Median of the 5 x 5 neighbourhood, bad pixels counted as dark."""
    return ndimage.median_filter(np.where(taken, 0, values), 5)


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
