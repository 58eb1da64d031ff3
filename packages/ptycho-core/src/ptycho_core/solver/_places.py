"""How the misfit depends on where the frames are: its curvature there, and better places elsewhere.

Source: to try other places and keep those that explain a frame better, A. M. Maiden et al., Ultramicroscopy
120 (2012) 64, 10.1016/j.ultramic.2012.06.001; there the trials are random and shrink, here they are a grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from ptycho_core.arrays import Array, Arrays

__all__ = ["better_places", "position_curvature"]

#: A frame is explained badly above this ratio to the median; a place is better below this ratio to the old.
_BADLY, _BETTER = 1.2, 0.9
_SEARCH_STEP_PX = 2


def position_curvature(
    xp: Arrays, canvas: Array, corners: np.ndarray, light: Array
) -> Float64[np.ndarray, "frame 2 2"]:
    """Return the curvature of the misfit by each position, in pixels of the canvas.

    Moving the probe over the object changes the wave on the detector by a ramp of phase, which nobody
    sees, and by the probe times the object's slope. So that slope counts, where there is light (n, n).
    """
    down, right = (xp.zeros(tuple(canvas.shape), complex_values=True) for _ in (0, 1))
    down[1:-1] = (canvas[2:] - canvas[:-2]) / 2
    right[:, 1:-1] = (canvas[:, 2:] - canvas[:, :-2]) / 2
    slopes = [xp.cut(image, corners, light.shape[-1]) for image in (down, right)]
    curvature = np.empty((len(corners), 2, 2))
    for a, b in ((0, 0), (0, 1), (1, 1)):
        product = (slopes[a].conj() * slopes[b]).real
        curvature[:, a, b] = curvature[:, b, a] = xp.to_numpy((product * light).sum((1, 2))) / 2
    return curvature


def better_places(
    misfits: Callable[[Any, np.ndarray], np.ndarray], reach_px: float
) -> tuple[Int[np.ndarray, " moved"], Int[np.ndarray, "moved 2"]]:
    """Find better places for the frames that are explained badly, all over their bound.

    Args:
        misfits: of some frames, moved by whole pixels (y, x).
        reach_px: the bound, in the same pixels.
    Returns:
        Which frames have one, and the moves there.
    """
    along = np.arange(-int(reach_px), int(reach_px) + 1, _SEARCH_STEP_PX)
    here = misfits(slice(None), np.zeros(2, np.int64))
    bad = np.flatnonzero(here > _BADLY * np.median(here))
    offsets = np.array([(y, x) for y in along for x in along if np.hypot(y, x) <= reach_px], np.int64)
    if not len(bad) or not len(offsets):  # all is well, or the bound lies between two steps
        return bad[:0], np.empty((0, 2), np.int64)
    found = np.stack([misfits(bad, offset) for offset in offsets])
    best = found.argmin(axis=0)
    better = found[best, np.arange(len(bad))] < _BETTER * here[bad]
    return bad[better], offsets[best[better]]
