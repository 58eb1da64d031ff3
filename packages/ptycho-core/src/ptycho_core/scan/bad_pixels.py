"""Which pixels are no data in all frames: decided from one reading of them, with a reason for each.

A false alarm costs more than a miss: every rule asks for evidence that neither Poisson noise nor diffraction
can give. Diffraction of a probe that its window holds is smooth: a pixel that its neighbours say nothing of
is one of the detector's. A scan of few frames is not judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage

from ptycho_core.scan.shadows import dark_amid_light
from ptycho_core.scan.survey import FrameSurvey
from ptycho_core.scan.zero_frequency import find_dc

__all__ = ["FEWEST_FRAMES", "screen_pixels", "wrapped_around"]

FEWEST_FRAMES = 16
LARGEST_CONSTANT_FRACTION = 0.25  # frames that do not change at all are another fault
SMALLEST_WRAP = -100  # marks of masked pixels are -1, -2, ...
#: Photons; a pixel of so many that are the same in 16 frames is none of Poisson's.
CONSTANT_PHOTONS = 10.0
OUTLIER_FACTOR = 30.0
OUTLIER_PHOTONS = 100.0
#: So many times brighter than all of its neighbours but one. Sound scans of many kinds reached 4.1 in their
#: sums and 3.0 in their largest values.
HOT_FACTOR = 5.5
STRUCK_FACTOR = 4.5
#: Poisson noise is allowed so many standard deviations, on both sides.
SPREADS = 6.0
HOT_PHOTONS = 20.0
#: An unscattered beam may be one pixel wide: nothing is judged this near to the zero frequency, nor, in a
#: wider part of the frame around it, what holds such a part of the light.
BEAM_RADIUS_PX = 2.9
BEAM_PART = 1 / 6
BEAM_SHARE = 0.1
#: A detector with so many hot pixels has more of them.
FEWEST_OF_MANY, MANY_HOT_PART = 10, 0.003
#: By so many times what separates the upper neighbours.
SMOOTH_SPREADS = 2.0
#: Found hot pixels uncover others beside them.
ROUNDS = 4


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


@dataclass(frozen=True)
class _Photons:
    """What was read, per pixel, in photons as far as mean and variance tell how large one is."""

    n_frames: int
    total: Float64[np.ndarray, "n n"]
    lowest: Float64[np.ndarray, "n n"]
    highest: Float64[np.ndarray, "n n"]


def screen_pixels(
    survey: FrameSurvey, dtype: np.dtype, *, known: Bool[np.ndarray, "n n"] | None = None
) -> dict[str, Bool[np.ndarray, "n n"]]:
    """Find the pixels that are no data, in counts and in amplitudes.

    Args:
        survey: the reading of all frames.
        dtype: type of the frames as stored.
        known: (N, N) pixels that are bad already, True = bad, as stored.

    Returns:
        The pixels of each reason, (N, N) bool as stored, disjoint; reasons without pixels are left out.
    """
    n_frames = survey.counts_per_frame.size
    if n_frames < FEWEST_FRAMES or not np.isfinite(survey.pixel_squares).all():
        return {}
    taken = np.zeros(survey.counts_sum.shape, dtype=bool) if known is None else known.copy()
    if survey.nan_ever is not None:
        taken |= survey.nan_ever
    found: dict[str, np.ndarray] = {}

    def take(reason: str, pixels: np.ndarray) -> None:
        new = pixels & ~taken
        if new.any():
            found[reason] = new | found.get(reason, False)
            taken[...] |= new

    if dtype.kind in "iu" and dtype.itemsize > 1 and survey.maximum == np.iinfo(dtype).max:
        take("at the limit of the integer type", survey.pixel_at_maximum > n_frames / 2)
    take("negative, the mark of a masked pixel", _marked(survey))
    low, high = survey.pixel_minimum, survey.pixel_maximum
    photons = _in_photons(survey, taken)
    constant = (low == high) & (photons.highest >= CONSTANT_PHOTONS)
    if constant.mean() <= LARGEST_CONSTANT_FRACTION and (low != high)[~taken].any():
        take("equal in all frames", constant)
    rest = (photons.total - photons.highest) / (n_frames - 1)
    around = _median_around(photons.highest, taken)
    take(
        "with one absurd value (cosmic hit)",
        (photons.highest > OUTLIER_FACTOR * around + OUTLIER_PHOTONS)
        & (photons.highest > OUTLIER_FACTOR * rest + OUTLIER_PHOTONS),
    )
    take("dark amid light (dead, or a beam stop)", dark_amid_light(photons.total, photons.highest, taken))
    beam = _near_zero_frequency(photons.total, taken)
    unknown = taken.copy()
    for _ in range(ROUNDS):
        before = int(taken.sum())
        take("hot", _above_neighbours(photons.total, HOT_FACTOR, taken, unknown) & ~beam)
        take("hot now and then", _above_neighbours(photons.highest, STRUCK_FACTOR, taken, unknown) & ~beam)
        if int(taken.sum()) == before:
            break
    hot = taken & ~unknown
    if hot.sum() >= max(FEWEST_OF_MANY, MANY_HOT_PART * hot.size):
        # Where so many are hot, others stand in clusters, and in light that hides all but an excess.
        for _ in range(ROUNDS):
            before = int(taken.sum())
            take("hot", _in_clusters(photons.total, taken) & ~beam)
            take("hot", _above_smooth_light(photons.total, taken, unknown) & ~beam)
            if int(taken.sum()) == before:
                break
    return found


def _marked(survey: FrameSurvey) -> Bool[np.ndarray, "n n"]:
    """Pixels that hold one and the same negative value, in all frames or, of whole numbers, in most."""
    low, high = survey.pixel_minimum, survey.pixel_maximum
    always = (low == high) & (high < 0)
    one_value = survey.pixel_negative_sum == low * survey.pixel_negatives
    often = survey.pixel_negatives > survey.counts_per_frame.size / 2
    return always | (often & one_value) if survey.integral else always


def _in_photons(survey: FrameSurvey, taken: Bool[np.ndarray, "n n"]) -> _Photons:
    """Divide by what a photon is worth, where the values do not count photons themselves.

    The variance over the frames is at least that of the photons: where it grows with the mean it is the
    sample's, and says at most how much a photon can be. Whole numbers are then taken for photons.
    """
    n_frames = survey.counts_per_frame.size
    mean, variance = survey.pixel_sum / n_frames, survey.pixel_variance
    usable = (mean > 0) & (variance > 0) & ~taken
    ratio = (variance[usable] / mean[usable])[np.argsort(mean[usable])]
    worth = 1.0
    if ratio.size >= 10:
        dim, brighter = (float(np.median(part)) for part in np.array_split(ratio, 10)[:2])
        agreed = abs(brighter / dim - 1) < 0.15
        worth = max(1.0, dim) if survey.measurement == "counts" and agreed else worth
        worth = dim if survey.measurement == "amplitude" else worth
    square = survey.measurement == "amplitude"
    low, high = ((np.sign(v) * v**2 if square else v) for v in (survey.pixel_minimum, survey.pixel_maximum))
    return _Photons(n_frames, np.maximum(survey.pixel_sum, 0) / worth, low / worth, high / worth)


def _above_neighbours(
    values: Float64[np.ndarray, "n n"],
    factor: float,
    taken: Bool[np.ndarray, "n n"],
    unknown: Bool[np.ndarray, "n n"],
) -> Bool[np.ndarray, "n n"]:
    """Pixels far above all of their eight neighbours but one, beyond what Poisson noise allows.

    Hot neighbours that are known say nothing. Beside gaps and shadows, whose light is not known, the pixel
    has to be above all that is left of the 24 around it.
    """
    here = np.maximum(values, 0)
    padded = np.pad(np.where(taken, -1.0, here), 1, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    around = np.delete(windows.reshape(*values.shape, 9), 4, axis=-1)
    second = np.partition(around, 6, axis=-1)[..., 6]
    others = np.ones((5, 5), dtype=bool)
    others[2, 2] = False
    largest = ndimage.maximum_filter(np.where(taken, -1.0, here), footprint=others)
    beside_unknown = ndimage.uniform_filter(unknown.astype(float), 3) > 1.5 / 9
    compared = np.where(beside_unknown, largest, second)
    judged = ~taken & (compared >= 0)
    compared = np.maximum(compared, 0)
    allowed = factor * (compared + SPREADS * np.sqrt(compared) + HOT_PHOTONS)
    return judged & (here - SPREADS * np.sqrt(here) > allowed)


def _in_clusters(
    values: Float64[np.ndarray, "n n"], taken: Bool[np.ndarray, "n n"]
) -> Bool[np.ndarray, "n n"]:
    """Pixels far above all but four of the 24 around them, bad ones left aside."""
    fourth_but = np.ones((5, 5), dtype=bool)
    fourth_but[2, 2] = False
    here = np.maximum(values, 0)
    fifth = ndimage.rank_filter(np.where(taken, 0.0, here), -5, footprint=fourth_but, mode="mirror")
    return here - SPREADS * np.sqrt(here) > HOT_FACTOR * (fifth + SPREADS * np.sqrt(fifth) + HOT_PHOTONS)


def _above_smooth_light(
    values: Float64[np.ndarray, "n n"], taken: Bool[np.ndarray, "n n"], unknown: Bool[np.ndarray, "n n"]
) -> Bool[np.ndarray, "n n"]:
    """Pixels further above all eight neighbours but one than those differ among themselves."""
    here = np.maximum(values, 0)
    padded = np.pad(np.where(taken, np.nan, here), 1, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    around = np.sort(np.delete(windows.reshape(*here.shape, 9), 4, axis=-1), axis=-1)
    n_good = np.isfinite(around).sum(axis=-1)
    judged = ~taken & (n_good >= 5) & ~ndimage.binary_dilation(unknown, np.ones((3, 3), bool))
    second, third_last = (
        np.take_along_axis(around, np.maximum(n_good - k, 0)[..., None], axis=-1)[..., 0] for k in (2, 5)
    )
    with np.errstate(invalid="ignore"):
        spread = np.maximum(second - third_last, 0) + SPREADS * np.sqrt(second) + HOT_PHOTONS
        return judged & (here - SPREADS * np.sqrt(here) > second + SMOOTH_SPREADS * spread)


def _near_zero_frequency(
    total: Float64[np.ndarray, "n n"], taken: Bool[np.ndarray, "n n"]
) -> Bool[np.ndarray, "n n"]:
    """Pixels that may be an unscattered beam, a few wide, and are therefore not judged."""
    light = np.where(taken, 0.0, total)
    place, _ = find_dc(ndimage.median_filter(light, 3))
    y, x = (np.arange(side) for side in total.shape)
    if place == "center":
        away = np.hypot(y[:, None] - total.shape[0] // 2, x - total.shape[1] // 2)
    else:
        away = np.hypot(*np.ix_(np.minimum(y, total.shape[0] - y), np.minimum(x, total.shape[1] - x)))
    share = ndimage.uniform_filter(light, 3) * 9 / max(float(light.sum()), 1e-300)
    wide = (away <= BEAM_PART * max(total.shape)) & (share > BEAM_SHARE)
    return (away <= BEAM_RADIUS_PX) | wide


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
