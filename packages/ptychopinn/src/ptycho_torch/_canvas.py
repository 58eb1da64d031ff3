"""The canvas that the client makes for the positions of a scan."""

from __future__ import annotations

import math

import numpy as np

from ptycho.tf_helper import on_canvas
from ptycho_core.physics.canvas import on_whole_pixels
from ptycho_core.result.reconstruction import Reconstruction

__all__ = ["about_the_middle"]


def about_the_middle(result: Reconstruction) -> np.ndarray:
    """Lay an object onto the canvas that the client makes for the same positions.

    Its sides are the span of the positions, rounded up, and a window more; its middle, between two pixels
    where a side is even, is the middle between the outermost positions.
    """
    used_px = result.positions_px[result.frames_used]
    low, high = used_px.min(axis=0), used_px.max(axis=0)
    rows, columns = (math.ceil(span) + result.frame_px for span in (high - low).tolist())
    # Positions say where index N/2 lies, half a pixel after the middle of the window.
    first = (low + high - 1) / 2 - (np.array([rows, columns]) - 1) / 2
    obj, origin_px = on_whole_pixels(result.object, result.origin_px - first)
    return on_canvas(obj, origin_px, (rows, columns))
