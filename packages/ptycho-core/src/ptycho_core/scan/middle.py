"""The frames around the middle of a scan: enough of them stand for the whole."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["frames_near_the_middle"]


def frames_near_the_middle(
    positions_px: Float64[np.ndarray, "frame 2"], count: int
) -> Int64[np.ndarray, " chosen"]:
    """Return the numbers of the frames nearest to the median position, at most so many, the nearest first.

    They overlap as those of the whole scan do. Of frames at the same distance the earlier come first.
    """
    distance = np.square(positions_px - np.median(positions_px, axis=0)).sum(axis=1)
    return np.argsort(distance, kind="stable")[:count]
