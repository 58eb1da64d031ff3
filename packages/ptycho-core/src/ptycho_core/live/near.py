"""Which positions belong together, where one of them may be wild, or a part of a scan lies elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

__all__ = ["not_far_off", "within_a_canvas"]

#: A position so many times farther from the middle of the first ones than most of them is wild.
_WILD = 100.0


def not_far_off(positions: Sequence[np.ndarray]) -> Int64[np.ndarray, " near"]:
    """Return which of the first positions, in any unit, are not wildly far from most of them."""
    at = np.stack([np.asarray(position, np.float64) for position in positions])
    with np.errstate(over="ignore"):
        distance = np.abs(at - np.median(at, axis=0)).max(axis=1)
    usual = np.median(distance)
    near = distance <= _WILD * usual if usual > 0 else np.ones(len(at), bool)
    return np.flatnonzero(near)


def within_a_canvas(
    positions_px: Float64[np.ndarray, "frame 2"],
    inside_px: Float64[np.ndarray, "other 2"],
    frame_px: int,
    largest_px: float,
) -> Bool[np.ndarray, " frame"]:
    """Say which positions fit on one canvas with others that are on it, the nearest first.

    Args:
        inside_px: positions that are on the canvas.
        largest_px: number of pixels that it may have.
    """
    low, high = inside_px.min(axis=0), inside_px.max(axis=0)
    with np.errstate(over="ignore"):
        beyond = np.maximum(np.maximum(low - positions_px, positions_px - high), 0).max(axis=1)
        order = np.argsort(beyond, kind="stable")
        lowest = np.minimum(np.minimum.accumulate(positions_px[order], axis=0), low)
        highest = np.maximum(np.maximum.accumulate(positions_px[order], axis=0), high)
        canvas_px = np.prod(highest - lowest + frame_px, axis=1)
    fits = np.empty(len(positions_px), bool)
    fits[order] = canvas_px <= largest_px
    return fits
