"""Where the zero frequency of the frames is: by their brightness, and by the transform of a known probe."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.fft
from jaxtyping import Bool, Complex64, Float64

__all__ = ["find_dc", "probe_likeness"]


def find_dc(pattern: Float64[np.ndarray, "n n"]) -> tuple[Literal["center", "corner"], str]:
    """Find where the zero frequency is, by where a mean pattern is brighter.

    Source: docs/reference/physics.md, "Place of the zero frequency".

    Returns:
        The place, and the two mean counts that decided.
    """
    n = pattern.shape[0]
    inner = slice(n // 2 - n // 4, n // 2 + n // 4)
    corner = n // 4
    near_edges = np.r_[0:corner, n - corner : n]
    center_counts = float(pattern[inner, inner].mean())
    corner_counts = float(pattern[np.ix_(near_edges, near_edges)].mean())
    place: Literal["center", "corner"] = "corner" if corner_counts > center_counts else "center"
    return (
        place,
        f"{center_counts:.4g} counts per pixel around the centre, {corner_counts:.4g} in the corners",
    )


def probe_likeness(
    probe: Complex64[np.ndarray, "mode n n"],
    pattern: Float64[np.ndarray, "n n"],
    good: Bool[np.ndarray, "n n"] | None = None,
) -> tuple[float, float]:
    """Compare the transform of a known probe with a mean pattern, DC in the centre and in the corner.

    The object scatters the probe's own far field, so the mean pattern resembles it; where a stop hides the
    centre, brightness is no evidence and this still is.

    Args:
        pattern: mean counts as stored. good: pixels to believe, as stored; None = all.

    Returns:
        Both correlations, of the moduli, in that order.
    """
    far = scipy.fft.fftshift(scipy.fft.fft2(probe, axes=(-2, -1)), axes=(-2, -1))
    modulus = np.sqrt(np.square(np.abs(far), dtype=np.float64).sum(axis=0))
    measured = np.sqrt(np.maximum(pattern, 0))
    chosen = np.ones(pattern.shape, bool) if good is None else good

    def alike(one: np.ndarray, other: np.ndarray) -> float:
        one, other = one[chosen] - one[chosen].mean(), other[chosen] - other[chosen].mean()
        norm = float(np.linalg.norm(one) * np.linalg.norm(other))
        return float(np.dot(one, other)) / norm if norm > 0 else 0.0

    return alike(modulus, measured), alike(scipy.fft.fftshift(modulus), measured)
