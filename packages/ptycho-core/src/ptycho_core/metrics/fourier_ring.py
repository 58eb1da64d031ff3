"""Fourier ring correlation: up to which frequency two images agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft
from jaxtyping import Bool, Float64, Inexact
from scipy.ndimage import distance_transform_edt

HALF, ONE_SEVENTH = 0.5, 1 / 7
"""Thresholds: the usual one, and that of P. B. Rosenthal and R. Henderson, J. Mol. Biol. 333 (2003) 721,
10.1016/j.jmb.2003.07.013, who derive .143 for two halves of the data."""


@dataclass(frozen=True, eq=False)
class Cutoff:
    """Where a ring correlation falls below its threshold.

    Attributes:
        ring: ring number, linear between rings; the curve's length when it never falls.
        nyquist_fraction: the same as a fraction of the Nyquist frequency, at most 1.
        half_period_px: half the period of that frequency, in pixels; 1 at Nyquist.
    """

    ring: float
    nyquist_fraction: float
    half_period_px: float


def ring_correlation(
    first: Inexact[np.ndarray, "h w"],
    second: Inexact[np.ndarray, "h w"],
    *,
    reach: Literal["corner", "nyquist"] = "corner",
) -> Float64[np.ndarray, " ring"]:
    """Correlate two images ring by ring in Fourier space.

        FRC = |sum F1 conj(F2)| / sqrt( sum |F1|^2 sum |F2|^2 )

    Rings are numbered in units of 1/n cycles per pixel, n the shorter side; `corner` runs into the
    corners (46 rings at n = 64, 92 at 128), `nyquist` ends at n/2. Two empty rings agree (1); an empty
    ring against a filled one does not (0).

    Source: W. O. Saxton and W. Baumeister, J. Microsc. 127 (1982) 127, 10.1111/j.1365-2818.1982.tb00405.x;
    docs/reference/physics.md, "Fourier ring correlation".
    """
    n = min(first.shape)
    fy, fx = (scipy.fft.fftfreq(side) * n for side in first.shape)
    ring = np.rint(np.hypot(fy[:, None], fx[None])).astype(int)
    count = int(ring.max()) + 1 if reach == "corner" else n // 2 + 1
    one, two = (scipy.fft.fft2(image.astype(np.complex128)) for image in (first, second))
    cross = _ring_sums(ring, one * two.conj(), count)
    power = [np.real(_ring_sums(ring, np.abs(f) ** 2, count)) for f in (one, two)]
    norm = np.sqrt(power[0] * power[1])
    both_empty = (power[0] == 0) & (power[1] == 0)
    correlation = np.where(both_empty, 1.0, 0.0)
    np.divide(np.abs(cross), norm, out=correlation, where=norm > 0)
    return np.minimum(correlation, 1.0)


def _ring_sums(ring: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    flat = ring.ravel()
    real = np.bincount(flat, np.real(values).ravel(), count)[:count]
    if np.iscomplexobj(values):
        return real + 1j * np.bincount(flat, np.imag(values).ravel(), count)[:count]
    return real


def first_crossing(curve: Float64[np.ndarray, " ring"], threshold: float, *, first_ring: int = 0) -> float:
    """Return the ring number at which the curve first falls below the threshold.

    Linear between rings; the curve's length when it never does.
    """
    below = np.flatnonzero(curve[first_ring:] < threshold)
    if len(below) == 0:
        return float(len(curve))
    i = int(below[0]) + first_ring
    if i == first_ring:
        return float(i)
    return i - 1 + float((curve[i - 1] - threshold) / (curve[i - 1] - curve[i]))


def cutoff(curve: Float64[np.ndarray, " ring"], threshold: float, side_px: int) -> Cutoff:
    """Express the first crossing of a curve up to Nyquist as a frequency and as a length.

    Ring 0 is left out: the windowed images have no mean to agree about.

    Args:
        curve: rings 0 to Nyquist of images whose shorter side is `side_px`.
    """
    ring = first_crossing(curve, threshold, first_ring=1)
    fraction = min(1.0, ring / (side_px / 2))
    return Cutoff(ring=ring, nyquist_fraction=fraction, half_period_px=1 / fraction)


def windowed(
    image: Inexact[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
    *,
    taper_fraction: float = 0.25,
) -> Inexact[np.ndarray, "h w"]:
    """Remove the mean on the region and fade the image to 0 at the region's edge.

    A Tukey window for a region of any shape: 1 inside, a raised cosine over the distance to the edge.
    The cosine takes up `taper_fraction` of the way from the edge to the innermost pixel.
    """
    depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    taper = max(1.0, taper_fraction * depth.max())
    window = 0.5 * (1 - np.cos(np.pi * np.clip(depth / taper, 0, 1)))
    total = window.sum()
    return window * (image - (window * image).sum() / total if total > 0 else image)
