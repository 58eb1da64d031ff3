"""Move an object onto whole scan pixels: canvases begin where the smallest position wants it, other programs'
pixels are those of the scan."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex64, Float64
from scipy import ndimage

__all__ = ["on_whole_pixels"]

#: Of the spline; 5 moves a sharp object by half a pixel with a tenth of the blur of bilinear interpolation.
_ORDER = 5
#: Shifts below it, in pixels, change nothing that a frame could show.
_NOTHING = 1e-6


def on_whole_pixels(
    obj: Complex64[np.ndarray, "h w"], origin_px: Float64[np.ndarray, " 2"]
) -> tuple[Complex64[np.ndarray, "h w"], Float64[np.ndarray, " 2"]]:
    """Return the object resampled so that its pixels are whole scan coordinates, and its new origin.

    Args:
        origin_px: scan coordinate (y, x) of pixel [0, 0]; the nearest whole one is the new origin.
    """
    whole = np.floor(origin_px + 0.5)
    shift = origin_px - whole
    if np.abs(shift).max() < _NOTHING:
        return obj, whole
    moved = ndimage.shift(obj.astype(np.complex128), shift, order=_ORDER, mode="nearest")
    return moved.astype(np.complex64), whole
