"""Which way a probe is defocused, read from the shadows that the object throws on the detector."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from ptycho_core.scan import Scan

SAMPLED_PAIRS = 64
STEEPEST_SLOPE = 4.0  # detector pixels that a shadow moves per pixel of the scan
SLOPES = np.linspace(STEEPEST_SLOPE / 80, STEEPEST_SLOPE, 80)


def defocus_sign(scan: Scan) -> int:
    """Tell the sign of the quadratic phase of the probe's spectrum, +1 or -1.

    A defocused probe throws a magnified shadow of the object. When the scan moves by d, the shadow moves
    against it or with it, depending on which side of the focus the object is. So patterns of neighbours are
    correlated along the line between them, and the side with the higher peak decides. In focus both are
    alike; then the answer means nothing, and does not matter.

    Source:
        The ray at detector pixel k comes from x(k) = -(N / 2 pi) d(phase)/dk; a feature of the object seen at
        k moves by -d / (dx/dk).
    """
    first, second = _neighbours(scan.positions_px)
    steps_px = scan.positions_px[second] - scan.positions_px[first]
    mean = scan.mean_pattern()
    noise = np.sqrt(mean + 0.01 * mean.mean())
    score = np.zeros((2, SLOPES.size))
    for start, end, step in zip(first, second, steps_px, strict=True):
        pair = (scan.counts([int(start), int(end)]) - mean) / noise
        strength = float(np.sqrt((pair[0] ** 2).sum() * (pair[1] ** 2).sum()))
        if strength == 0:
            continue
        spectra = np.fft.rfft2(pair)
        correlation = np.fft.irfft2(np.conj(spectra[0]) * spectra[1], s=mean.shape) / strength
        for side, sign in enumerate((1, -1)):
            score[side] += _sample(correlation, sign * SLOPES[:, np.newaxis] * step)
    return 1 if score[0].max() >= score[1].max() else -1


def _neighbours(positions_px: Float64[np.ndarray, "frame 2"]) -> tuple[np.ndarray, np.ndarray]:
    """Pick frames evenly, and the nearest other frame of each that is not at the same place."""
    n_frames = positions_px.shape[0]
    first = np.unique(np.linspace(0, n_frames - 1, min(n_frames, SAMPLED_PAIRS)).astype(int))
    second = np.empty_like(first)
    for rank, frame in enumerate(first):
        squared = ((positions_px - positions_px[frame]) ** 2).sum(axis=1)
        squared[squared < 1e-6] = np.inf
        second[rank] = int(np.argmin(squared))
    moved = np.abs(positions_px[second] - positions_px[first]).max(axis=1) > 0
    return first[moved], second[moved]


def _sample(image: Float64[np.ndarray, "n n"], shifts_px: Float64[np.ndarray, "slope 2"]) -> np.ndarray:
    """Interpolate a periodic image bilinearly; shifts beyond a third of its side count as 0."""
    n = image.shape[0]
    whole = np.floor(shifts_px).astype(np.int64)
    rest = shifts_px - whole
    value = np.zeros(shifts_px.shape[0])
    for row in (0, 1):
        for column in (0, 1):
            weight = np.abs(1 - row - rest[:, 0]) * np.abs(1 - column - rest[:, 1])
            value += weight * image[(whole[:, 0] + row) % n, (whole[:, 1] + column) % n]
    return np.where((np.abs(shifts_px) < n / 3).all(axis=1), value, 0.0)
