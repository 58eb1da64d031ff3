"""Where the beam meets the detector, by the mean of some frames."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

from ptycho_core.lazy import LazyFrames

__all__ = ["beam_center_px", "mean_of_sample"]

SAMPLED_FRAMES = 64
_BRIGHT = 0.1  # share of the smoothed maximum


def mean_of_sample(
    frames: np.ndarray | LazyFrames, bad: np.ndarray | None
) -> tuple[Float64[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Average some frames, evenly spread over the scan, as stored; and mark the pixels to believe."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), SAMPLED_FRAMES)).astype(int))
    total = np.zeros(frames.shape[1:])
    good = np.ones(frames.shape[1:], dtype=bool)
    for number in chosen:
        frame = np.asarray(frames[int(number)], dtype=np.float64)
        good &= np.isfinite(frame)
        with np.errstate(over="ignore", invalid="ignore"):
            total += np.where(np.isfinite(frame), frame, 0) / chosen.size
    if bad is not None:
        good &= ~(bad if bad.ndim == 2 else bad.any(axis=0))
    return np.where(good & np.isfinite(total), np.maximum(total, 0), 0), good


def beam_center_px(
    pattern: Float64[np.ndarray, "height width"], good: Bool[np.ndarray, "height width"]
) -> tuple[int, int]:
    """Find the beam in a mean pattern: the centre of its brightest spot, single hot pixels left out."""
    from scipy import ndimage  # not needed, nor waited for, where nothing is cropped

    smooth = ndimage.median_filter(pattern, size=3)
    if not smooth.max() > 0:
        smooth = pattern
    if not smooth.max() > 0:
        return pattern.shape[0] // 2, pattern.shape[1] // 2
    spots, n_spots = ndimage.label(smooth > _BRIGHT * smooth.max())  # pyright: ignore[reportGeneralTypeIssues]
    light = ndimage.sum_labels(smooth, spots, np.arange(1, n_spots + 1))
    inside = (spots == 1 + int(np.argmax(light))) & good
    weight = np.where(inside if inside.any() else spots == 1 + int(np.argmax(light)), smooth, 0)
    y, x = ndimage.center_of_mass(weight)
    return round(float(y)), round(float(x))  # pyright: ignore[reportArgumentType]
