"""What the mean pattern tells before any work is done: scale, background, dose, and the coarse level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from ptycho_core.physics.canvas import frequencies
from ptycho_core.scan.scan import Scan

__all__ = [
    "HOPELESS_NOISE_FLOOR",
    "ScanStatistics",
    "central",
    "is_smooth",
    "mean_and_good",
    "noise_floor",
    "scan_statistics",
    "signal_pixels",
    "whole_counts",
]

#: From this noise floor of R on, noise exceeds signal: the solver leaves the object transparent.
HOPELESS_NOISE_FLOOR = 0.75
_BACKGROUND_FREQUENCY = 0.42
_SIGNAL_OVER_CORNERS, _SIGNAL_SHARE = 2.0, 0.95
#: Of more than this, a part tells as much.
_MANY_PIXELS = 1 << 16
_SAMPLED_FRAMES = 100
_COARSE_ENERGY = 0.9


@dataclass(frozen=True)
class ScanStatistics:
    """Mean counts per frame, flat background per pixel, smallest residual that photon noise allows.

    `noise_floor` is None where the frames are not photon counts, so that their noise is not known.
    `speckled_px` is the side of the central square beyond which no frame differs from the mean by more than
    its noise; the side of the frames where that cannot be told.
    """

    counts_per_frame: float
    background: float
    noise_floor: float | None
    coarse_px: int
    speckled_px: int


def central(size_px: int, frame_px: int) -> slice:
    """Slice of the `size_px` central indices of a centred axis of `frame_px`."""
    start = frame_px // 2 - size_px // 2
    return slice(start, start + size_px)


def scan_statistics(scan: Scan, *, estimate_background: bool) -> ScanStatistics:
    """Read off the mean pattern what the solver needs to know."""
    mean, good = mean_and_good(scan)
    floor = _noise_floor(scan, mean, good)
    return ScanStatistics(
        counts_per_frame=scan.mean_counts_per_frame(),
        background=_background(mean, good) if estimate_background else 0.0,
        noise_floor=floor,
        speckled_px=scan.frame_px if floor is None else speckled_px(scan, mean, good),
        coarse_px=_coarse_level(np.where(good, np.maximum(mean - _background(mean, good), 0.0), 0.0)),
    )


def noise_floor(scan: Scan) -> float | None:
    """R of the true object under Poisson noise, about; None where the frames are not photon counts."""
    return _noise_floor(scan, *mean_and_good(scan))


def mean_and_good(scan: Scan) -> tuple[Float64[np.ndarray, "n n"], Bool[np.ndarray, "n n"]]:
    """Mean counts, and the pixels that are good in any frame."""
    good = scan.good_pixels()
    return scan.mean_pattern(), np.any(good, axis=0) if good.ndim == 3 else good


def _background(mean: Float64[np.ndarray, "n n"], good: Bool[np.ndarray, "n n"]) -> float:
    """Mean counts in the detector's corners, where both frequencies are high and little signal arrives."""
    high = np.abs(frequencies(len(mean))) > _BACKGROUND_FREQUENCY
    corners = high[:, None] & high[None] & good
    return float(mean[corners].mean()) if corners.any() else 0.0


def signal_pixels(mean: Float64[np.ndarray, "n n"], good: Bool[np.ndarray, "n n"]) -> Bool[np.ndarray, "n n"]:
    """Mark the good pixels that carry signal: the brightest, with 95 % of the counts above the background.

    Dark counts, and single photons scattered far, fill the rest of a detector; however large that is, it says
    little of the sample. Where no pixel stands out, all good ones are marked.
    """
    background = _background(mean, good)
    net = np.where(good & (mean > _SIGNAL_OVER_CORNERS * background), mean - background, 0.0)
    ranked = np.sort(net, axis=None)[::-1]
    counted = np.cumsum(ranked)
    if not counted[-1] > 0:
        return good
    faintest = ranked[int(np.searchsorted(counted, _SIGNAL_SHARE * counted[-1]))]
    return net >= max(float(faintest), np.finfo(np.float64).tiny)


def whole_counts(amplitude: Float32[np.ndarray, "frame n n"]) -> bool:
    """Return whether amplitudes are the roots of whole numbers, as those of photon counts are.

    Every seventh of many pixels is looked at. Where all values are below one half, they count nothing.
    """
    counts = np.square(amplitude.reshape(-1)[:: 7 if amplitude.size > _MANY_PIXELS else 1])
    most = counts.max()
    return bool(most >= 0.5 and np.abs(counts - np.rint(counts)).max() <= 1e-2 + 1e-5 * most)


def _noise_floor(scan: Scan, mean: Float64[np.ndarray, "n n"], good: Bool[np.ndarray, "n n"]) -> float | None:
    """R of the true model under Poisson noise, over the pixels that carry signal; None where the frames are
    not photon counts.

    The mean of |sqrt(n) - sqrt(m)| is about 0.4 for bright pixels and never above sqrt(m); read noise of s
    photons raises it by sqrt(1 + s^2 / m), and alone makes it 0.41 sqrt(s).
    """
    sample = scan.amplitude(slice(None, None, max(1, scan.n_frames // _SAMPLED_FRAMES)))
    if scan.counts_per_photon is None and not whole_counts(sample):
        return None
    signal = signal_pixels(mean, good)
    measured = sample[:, signal].mean(axis=0, dtype=np.float64).sum()
    counts, read_noise = mean[signal], scan.read_noise
    bright = 0.4 * np.sqrt(1 + read_noise**2 / np.maximum(counts, 1e-30))
    noise = np.minimum(bright, np.maximum(np.sqrt(counts), 0.41 * math.sqrt(read_noise)))
    return float(noise.sum() / measured) if measured > 0 else math.inf


def _coarse_level(mean: Float64[np.ndarray, "n n"]) -> int:
    """Smallest good FFT size, at least half the frame, whose central square holds most of the counts."""
    frame_px = len(mean)
    multiple = 16 if frame_px >= 128 else 8
    total = mean.sum()
    for size in range(math.ceil(frame_px / 2 / multiple) * multiple, frame_px, multiple):
        crop = central(size, frame_px)
        if is_smooth(size) and mean[crop, crop].sum() >= _COARSE_ENERGY * total:
            return size
    return frame_px


#: Contrast squared of light that interferes; that of a beam without speckle is below it for certain.
_INCOHERENT = 0.1
_SPREADS = 3.0
#: Rings of so many of the frame's side are judged; none as bright as this part of the brightest is left out.
_RINGS, _DIM = 16, 0.2


def speckled_px(scan: Scan, mean: Float64[np.ndarray, "n n"], good: Bool[np.ndarray, "n n"]) -> int:
    """Side of the central square beyond which the frames hold light that does not interfere, if any.

    Where a coherent wave arrives, the counts of a pixel vary from frame to frame with the sample, by about
    their mean: (variance - mean) / mean^2 is the contrast squared of the speckle. Where it is 0 for certain,
    there is background alone (inelastic scattering, dark counts), to which nothing in the sample is to be
    fitted. J. W. Goodman, Speckle Phenomena in Optics (2007), chapter 4.
    """
    n, variance = scan.frame_px, scan.variance_of_counts()
    if variance is None:
        return n
    distance = np.abs(np.arange(n) - n // 2)
    distance = np.maximum(distance[:, None], distance[None])
    width = max(1, n // _RINGS)
    usable = good & (mean > 0)
    brightest, kept = 0.0, n
    rings: list[tuple[int, float, bool]] = []
    for inner in range(0, n // 2, width):
        ring = usable & (distance >= inner) & (distance < inner + width)
        if not ring.any():
            continue
        power = float(np.square(mean[ring]).sum())
        contrast = float((variance[ring] - mean[ring]).sum()) / power
        spread = math.sqrt(float((2 * np.square(mean[ring]) + mean[ring]).sum()) / scan.n_frames) / power
        blank = contrast < _SPREADS * spread and contrast + _SPREADS * spread < _INCOHERENT
        level = float(mean[ring].mean())
        brightest = max(brightest, level)
        rings.append((inner, level, blank))
    for inner, level, blank in reversed(rings):
        if not blank or level > _DIM * brightest:
            break
        kept = 2 * inner
    multiple = 16 if n >= 128 else 8
    side = multiple * math.ceil(kept / multiple)
    while side < n and not is_smooth(side):
        side += multiple
    return min(side, n)


def is_smooth(number: int) -> bool:
    """Return whether 2, 3 and 5 are its only prime factors, so that its FFT is fast."""
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1
