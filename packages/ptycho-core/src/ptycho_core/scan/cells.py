"""Which frames of a scan each of several ranks has: compact cells of as many frames each.

The scan is cut across its longer side, in the proportion of the ranks on either side, and each part is cut
again until every rank has one. All ranks cut alike from the positions, so nothing is sent for it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["FEWEST_FRAMES", "cells_of"]

#: A rank with fewer frames would see too little of the scan to go on by itself.
FEWEST_FRAMES = 4


def cells_of(
    positions_px: Float64[np.ndarray, "frame 2"], count: int
) -> tuple[Int64[np.ndarray, " frame"], Float64[np.ndarray, "rank 2 2"]]:
    """Cut a scan into so many cells; there have to be as many frames.

    Returns:
        The rank that has each frame, and the lowest and the highest position (y, x) of each rank's part of
        the plane, which has no gap and no overlap; infinite where it does not end.
    """
    everywhere = np.array([[-np.inf, -np.inf], [np.inf, np.inf]])
    rank_of, regions = np.zeros(len(positions_px), np.int64), np.empty((count, 2, 2))
    _cut(positions_px, np.arange(len(positions_px)), everywhere, range(count), rank_of, regions)
    return rank_of, regions


def _cut(
    positions_px: np.ndarray,
    members: np.ndarray,
    region: np.ndarray,
    ranks: range,
    rank_of: np.ndarray,
    regions: np.ndarray,
) -> None:
    """Give some frames in a region of the plane to some ranks, as many to each."""
    if len(ranks) == 1:
        rank_of[members], regions[ranks[0]] = ranks[0], region
        return
    axis = int(np.argmax(np.ptp(positions_px[members], axis=0)))
    ranked = members[np.argsort(positions_px[members, axis], kind="stable")]
    half = len(ranks) // 2
    at = len(ranked) * half // len(ranks)
    line = positions_px[ranked[at - 1 : at + 1], axis].mean()
    low, high = region.copy(), region.copy()
    low[1, axis] = high[0, axis] = line
    _cut(positions_px, np.sort(ranked[:at]), low, ranks[:half], rank_of, regions)
    _cut(positions_px, np.sort(ranked[at:]), high, ranks[half:], rank_of, regions)
