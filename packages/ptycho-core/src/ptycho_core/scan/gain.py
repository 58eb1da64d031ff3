"""What a detector gives for one photon, and what else is in its noise, told from some of the frames.

Where the dimmest pixels hold one more often than two, counts are photons (`ptycho_core.scan.steps`). Else two
kinds of evidence are left, the stronger first.

Heaps: values stand in heaps at equal distances. The distance is a photon, and the heaps are as wide as the
read noise.

Variance that grows with the mean: photons have a variance equal to their mean, so values that are g times the
photons have g times their mean, and read noise adds a constant (J. R. Janesick, Photon Transfer, SPIE Press
2007). Where the sample moves light about, the variance is larger, by a part that grows with the square of the
mean; so the dimmest pixels tell, and only where groups of them agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.steps import counted_one_by_one

__all__ = ["Gain", "alike_frames", "found_gain"]

_FEWEST_FRAMES = 16
#: Frames and pixels that are looked at, at most; and where read noise blurs what they tell.
_LOOKED_AT, _PIXELS = 64, 1 << 12
_LOOKED_AT_OF_NOISY, _PIXELS_OF_NOISY = 128, 1 << 15


@dataclass(frozen=True)
class Gain:
    """What the detector gives for a photon.

    Attributes:
        counts_per_photon: the estimate.
        within: by which part it may be off.
        read_noise: standard deviation of what the detector adds, in photons; 0 where none shows.
        told_by: what told it.
    """

    counts_per_photon: float
    within: float
    read_noise: float
    told_by: Literal["heaps", "variance"]


def _looked_at(n_frames: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, n_frames - 1, min(n_frames, most)).astype(int))


#: Groups of pixels of like mean; the dimmest that tell have to agree by so much.
_GROUPS, _AGREE = 24, 0.12
_FEWEST_PIXELS = 30
#: Frames whose pattern resembles the median one so much less than most do are no frames of the sample.
_UNLIKE, _UNLIKE_SPREADS, _COMPARED = 0.1, 6.0, 1024
#: Photons in a pixel over all frames, at least: with fewer, variance is that of single photons.
_LEAST_PHOTONS = 3.0
_SMALLEST_WITHIN_OF_HEAPS, _SMALLEST_WITHIN, _SMALLEST_WITHIN_OF_MIXED = 0.01, 0.05, 0.1


def found_gain(
    frames: np.ndarray | LazyFrames, bad_pixels: Bool[np.ndarray, "n n"] | None = None, *, noisy: bool = False
) -> Gain | None:
    """Estimate the gain of frames of counts; None where they hold single photons, or do not tell.

    Args:
        frames: (M, N, N) as stored. bad_pixels: (N, N) as stored.
        noisy: values scatter around zero, so that more of them are needed.
    """
    if len(frames) < _FEWEST_FRAMES:
        return None
    most, most_pixels = (_LOOKED_AT_OF_NOISY, _PIXELS_OF_NOISY) if noisy else (_LOOKED_AT, _PIXELS)
    looked_at = _looked_at(len(frames), most)
    good = np.ones(frames.shape[1:], dtype=bool) if bad_pixels is None else ~bad_pixels
    pixels = np.flatnonzero(good)
    pixels = pixels[:: max(1, pixels.size // most_pixels)]
    values = np.stack([np.ravel(frames[number])[pixels] for number in looked_at.tolist()]).astype(np.float64)
    values = values[:, np.isfinite(values).all(axis=0)]
    values = values[alike_frames(values)]
    if len(values) < _FEWEST_FRAMES or values.shape[1] < 2 * _FEWEST_PIXELS:
        return None
    whole = bool(np.array_equal(np.rint(values), values))
    if whole and counted_one_by_one(values):
        return None
    return _by_heaps(values, whole=whole) or _by_variance(values, whole=whole)


def alike_frames(values: Float64[np.ndarray, "frame pixel"]) -> Bool[np.ndarray, " frame"]:
    """Mark the frames that are like most others; those of pure noise, or of another thing, are not."""
    root = np.sqrt(np.maximum(values[:, :: max(1, values.shape[1] // _COMPARED)], 0))
    middle = np.median(root, axis=0)
    if not np.ptp(middle) > 0:
        return np.ones(len(values), dtype=bool)
    middle = middle - middle.mean()
    root = root - root.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(root).sum(axis=1) * np.square(middle).sum())
    alike = (root @ middle) / np.maximum(size, 1e-30)
    usual = float(np.median(alike))
    spread = 1.4826 * float(np.median(np.abs(alike - usual)))
    return alike > usual - max(_UNLIKE, _UNLIKE_SPREADS * spread)


def _groups(values: Float64[np.ndarray, "frame pixel"]) -> Iterator[Float64[np.ndarray, "frame some"]]:
    """Yield the pixels in groups of like mean, the dimmest first, without those that hold nothing."""
    mean, some = values.mean(axis=0), values.any(axis=0)
    ranked = np.flatnonzero(some)[np.argsort(mean[some])]
    for group in np.array_split(ranked, _GROUPS):
        if group.size >= _FEWEST_PIXELS:
            yield values[:, group]


def _variance(values: Float64[np.ndarray, "frame pixel"]) -> float:
    """Return the mean variance of pixels over the frames, the wildest pixels left out."""
    variance = values.var(axis=0, ddof=1)
    return float(variance[variance <= np.percentile(variance, 99)].mean())


#: Fineness of the transform, longest distance of heaps in bins, bins of the middle of values with fractions.
_FINE, _LONGEST, _BINS = 1 << 16, 8192, 64
#: Height of the peak over the lowest valley before it, and in units of the noise of few values.
_PEAK, _OVER_NOISE, _PHASE = 0.02, 4.0, 0.7
#: Width of heaps over their distance, at most, of a detector without values below zero.
_SHARP = 0.25
_ASKED_FIRST = 9
_EXACT = 0.05
#: Variance over mean, in photons: at least, and at most so much of 1 + the last number x the mean.
_LEAST_RATIO, _MOST_RATIO, _CONTRAST = 0.7, 2.5, 3.0


def _by_heaps(values: Float64[np.ndarray, "frame pixel"], *, whole: bool) -> Gain | None:
    """Tell the distance of heaps of values, from the transform of how often each value stands.

    That has a peak at one over the distance, lowered by the width of the heaps.
    """
    found: list[tuple[float, float, float]] = []
    groups = list(_groups(values))
    noisy = bool((values < 0).any())
    # Sharp heaps show in all groups: where some have none, no other one needs to be asked.
    if not noisy and all(_heaps_of(group, whole=whole) is None for group in groups[::_ASKED_FIRST]):
        return None
    for group in groups:
        told = _heaps_of(group, whole=whole)
        if told is not None:
            found.append((*told, _variance(group) / max(float(group.mean()), 1e-30)))
    if len(found) < 2:
        return None
    distances = np.array([distance for distance, _, _ in found])
    distance = float(np.median(distances))
    alike = np.abs(distances / distance - 1) < _AGREE / 2
    # No heap can be of a photon if the values vary less than photons would.
    if alike.mean() < 0.6 or alike.sum() < 2 or max(ratio for _, _, ratio in found) < 0.8 * distance:
        return None
    # The more heaps, the better their distance is known: the brighter half of the groups.
    best = distances[alike][alike.sum() // 2 :]
    distance = float(np.median(best))
    within = max(_SMALLEST_WITHIN_OF_HEAPS, float(np.ptp(best)) / distance)
    width = float(np.median([width for _, width, _ in found]))
    if width > _SHARP * distance and not noisy:
        return None
    if not (noisy or (whole and width < _EXACT * distance)) and not _vary_like_photons(groups, distance):
        return None
    return Gain(distance, within, width / distance, "heaps")


def _vary_like_photons(groups: Sequence[np.ndarray], photon: float) -> bool:
    """Whether groups (frame, pixel) vary as such photons do; those spread over several pixels do not."""
    mean = np.array([group.mean() for group in groups]) / photon
    ratio = np.array([_variance(group) for group in groups]) / np.maximum(mean, 1e-30) / photon**2
    likely = (ratio > _LEAST_RATIO) & (ratio < _MOST_RATIO * (1 + _CONTRAST * mean))
    return bool(likely.mean() > 0.9)


def _heaps_of(group: Float64[np.ndarray, "frame pixel"], *, whole: bool) -> tuple[float, float] | None:
    """Return distance and width of the heaps in which the values of some pixels stand."""
    positive = group[group > 0]
    if positive.size < 200:
        return None
    bin_width = 1.0 if whole else float(np.median(positive)) / _BINS
    numbers = np.rint(group.ravel() / bin_width)
    within = np.abs(numbers) < _LONGEST
    if within.mean() < 0.9:  # the end of the range would look like a heap
        return None
    numbers = numbers[within]
    # A heap of nothing at all, of an otherwise quiet detector, hides those beside it.
    if (numbers >= 0).all():
        numbers = numbers[numbers > 0]
    if numbers.size < 200:
        return None
    heights = np.bincount((numbers + _LONGEST).astype(np.int64), minlength=2 * _LONGEST)
    spectrum = np.fft.rfft(heights, _FINE) / numbers.size
    transform = np.abs(spectrum)
    noise = 1 / np.sqrt(numbers.size)
    above = transform - np.minimum.accumulate(transform)
    if above.max() < max(_PEAK, _OVER_NOISE * noise):
        return None
    # Sharp heaps have a peak of equal height at every multiple; the first one is meant.
    peak = int(np.flatnonzero(above > 0.9 * above.max())[0])
    while peak + 1 < len(transform) and transform[peak + 1] > transform[peak]:
        peak += 1
    if peak >= len(transform) - 2 and not whole:
        return None
    # Heaps stand at multiples of their distance, not just somewhere: there the phase is that of zero.
    phase = float(np.angle(spectrum[peak] * np.exp(2j * np.pi * peak * _LONGEST / _FINE)))
    if abs(phase) > _PHASE:
        return None
    distance = bin_width * _FINE / peak
    if peak < len(transform) - 1:
        left, top, right = transform[peak - 1 : peak + 2]
        distance = bin_width * _FINE / (peak + 0.5 * (left - right) / (left - 2 * top + right))
    width = distance * float(np.sqrt(max(-2 * np.log(min(float(transform[peak]), 1.0)), 0.0))) / (2 * np.pi)
    return distance, width


#: Only pixels of fewer photons than this are fitted: the brighter, the more the sample varies them.
_FEW_PHOTONS = 1.2
_FEWEST_GROUPS, _LARGEST_WITHIN, _LARGEST_MISFIT = 5, 0.15, 0.08
#: Whole numbers that are so many for a photon, without read noise, stand in heaps.
_SURELY_IN_HEAPS = 3.0
#: Then no gain can be told where all but a few pixels vary so much more than their mean.
_TOO_WIDE, _FEW = 6.0, 0.02


def _by_variance(values: Float64[np.ndarray, "frame pixel"], *, whole: bool) -> Gain | None:
    """Tell the gain by how the variance of dim pixels grows with their mean; None where groups disagree.

    variance = read noise^2 + gain x mean + contrast of the sample x mean^2
    """
    noisy = bool((values < 0).any())
    if whole and not noisy:
        mean, variance = values.mean(axis=0), values.var(axis=0)
        if np.quantile(variance[mean > 0] / mean[mean > 0], _FEW) > _TOO_WIDE:
            return None
    # Ranked by some frames and measured on the others, or the noise of the ranking would be in the mean.
    halves = values[::2], values[1::2]
    groups = [_mean_and_variance(*pair) for pair in (halves, halves[::-1])]
    fits = [_fit(some, noisy=noisy) for some in groups]
    if fits[0] is None or fits[1] is None:
        return None
    gains = np.array([fit[0] for fit in fits if fit is not None])
    gain = float(gains.mean())
    constant = float(np.mean([fit[1] for fit in fits if fit is not None]))
    if not noisy:  # the dimmest alone say a little much, the fit may say too little
        ranked = np.concatenate(groups)
        dimmest = ranked[np.argsort(ranked[:, 0])][: len(ranked) // 6]
        above = float(dimmest[:, 1].sum() / dimmest[:, 0].sum())
        gains = np.append(gains, above)
        gain = (gain + above) / 2
    least = _SMALLEST_WITHIN_OF_MIXED if noisy else _SMALLEST_WITHIN
    within = max(least, float(np.ptp(gains)) / gain, 2 * max(fits[0][2], fits[1][2]) / gain)
    if within > _LARGEST_WITHIN or (whole and not noisy and gain > _SURELY_IN_HEAPS):
        return None
    return Gain(gain, within, float(np.sqrt(max(constant, 0.0))) / gain, "variance")


def _mean_and_variance(
    ranking: Float64[np.ndarray, "half pixel"], measured: Float64[np.ndarray, "other pixel"]
) -> Float64[np.ndarray, "group 2"]:
    """Return mean and variance of groups of pixels, by the mean of frames other than those measured."""
    some = np.flatnonzero(ranking.any(axis=0) | measured.any(axis=0))
    ranked = some[np.argsort(ranking[:, some].mean(axis=0), kind="stable")]
    groups = [group for group in np.array_split(ranked, _GROUPS) if group.size >= _FEWEST_PIXELS]
    told = [(float(measured[:, group].mean()), _variance(measured[:, group])) for group in groups]
    return np.array(told, np.float64).reshape(-1, 2)


def _fit(groups: Float64[np.ndarray, "group 2"], *, noisy: bool) -> tuple[float, float, float] | None:
    """Return gain, constant part of the variance, and how far off the gain may be (standard deviation)."""
    if len(groups) < _FEWEST_GROUPS:
        return None
    mean, variance = groups.T
    powers = (0, 1, 2) if noisy else (1, 2)
    gain, found = np.inf, None
    for _ in range(12):
        some = (mean < _FEW_PHOTONS * gain) & ((mean > 0) | noisy) & (variance > 0)
        if some.sum() < _FEWEST_GROUPS:
            return None
        columns = np.stack([mean[some] ** power for power in powers], axis=1) / variance[some, None]
        solution, *_ = np.linalg.lstsq(columns, np.ones(int(some.sum())), rcond=None)
        misfit = columns @ solution - 1
        off = float(np.sqrt(np.square(misfit).sum() / max(len(misfit) - len(powers), 1)))
        scatter = max(off, 0.01) * np.sqrt(np.diag(np.linalg.pinv(columns.T @ columns)))
        which = powers.index(1)
        found = (float(solution[which]), float(solution[0]) if noisy else 0.0, float(scatter[which]))
        if not found[0] > 0:
            return None
        if abs(found[0] - gain) < 1e-3 * gain:
            return found if off < _LARGEST_MISFIT and solution[-1] > -0.3 else None
        gain = found[0]
    return None
