"""Where the frames lie on the canvas of a level.

A window is cut at the nearest whole pixel, halves upwards as everywhere (`physics.whole_and_rest`); the rest
of the position moves the probe, by weights of its basis functions (`shifts`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from ptycho_core.arrays import Array, Arrays
from ptycho_core.physics import whole_and_rest
from ptycho_core.solver.batches import Batch
from ptycho_core.solver.frame_parameters import FrameParameters
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.shifts import shift_weights
from ptycho_core.solver.team import ON_ITS_OWN, Team
from ptycho_core.solver.tiles import Tiles, Window

__all__ = ["MARGIN_PX", "Window", "Windows", "canvas_shape"]

#: Canvas pixels around the windows of all frames, at every level.
MARGIN_PX = 4
#: What stays of it around a frame that has moved as far as it can: slopes of the object reach so far.
_RIM_PX = 2


class Windows:
    """The windows of all frames.

    Attributes:
        scale: canvas pixels per pixel of the full detector.
        corners: (m, 2) int64, top-left pixel (y, x) of each window.
        weights: (m, K) of the probe's basis functions, those of the variations behind them; on the device.
        shape: of the canvas.
        tiles: where it lies among those of other ranks; all coordinates here are those of this rank's tile.
    """

    def __init__(
        self,
        frames: OrderedFrames,
        arrays: Arrays,
        *,
        size_px: int,
        shift_px: np.ndarray | None,
        degree: int,
        parameters: FrameParameters | None,
        margin_px: int,
        shape: tuple[int, int] | None,
        team: Team = ON_ITS_OWN,
    ) -> None:
        """Place the frames; the arguments are those of `Level`."""
        self.scale = size_px / frames.frame_px
        self._xp, self._size_px, self._degree = arrays, size_px, degree
        self._reach = 0 if parameters is None else margin_px  # positions may be refined
        positions = frames.positions_px - frames.least_px
        if shift_px is not None:
            positions = positions + shift_px
        self._nominal = positions * self.scale + margin_px
        self.corners, remainders_px = whole_and_rest(self._nominal)
        moved_px = -frames.least_px if shift_px is None else shift_px - frames.least_px
        self.tiles = Tiles(
            team,
            self.corners,
            size_px=size_px,
            margin_px=margin_px,
            to_canvas=lambda positions_px: (positions_px + moved_px) * self.scale + margin_px,
        )
        self._nominal -= self.tiles.origin
        self.corners -= self.tiles.origin
        self.shape = shape or self.tiles.shape
        if parameters is None:
            self.weights: Array = arrays.asarray(shift_weights(remainders_px, degree))
        else:
            self.place(parameters)

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def middle_px(self) -> Float64[np.ndarray, " 2"]:
        """Middle (y, x) of the positions on the canvas."""
        low, high = self.tiles.team.extremes(self._nominal + self.tiles.origin)
        return (low + high) / 2 + self._size_px // 2 - self.tiles.origin

    def place(self, parameters: FrameParameters, frames: slice | None = None) -> None:
        """Put the windows and the weights of some frames, or of all, where their positions are now."""
        chosen = slice(0, len(self)) if frames is None else frames
        self.corners[chosen], remainders_px = whole_and_rest(self._positions_px(parameters, chosen))
        rows = self._xp.asarray(parameters.basis_weights(chosen, remainders_px, self._degree))
        if frames is None:
            self.weights = rows
        else:
            self.weights[frames] = rows

    def remainders_px(self, parameters: FrameParameters, frames: Any) -> Float64[np.ndarray, "frame 2"]:
        """Return what is left of the positions of some frames beside their corners."""
        return self._positions_px(parameters, frames) - self.corners[frames]

    def _positions_px(self, parameters: FrameParameters, frames: Any) -> np.ndarray:
        """Top-left corners (y, x) of some windows, fractions included; no window leaves the canvas."""
        corners = self._nominal[frames] + parameters.correction_px[frames] * self.scale
        last = np.subtract(self.shape, self._size_px + _RIM_PX)
        return np.clip(corners, _RIM_PX, last)

    def of(self, batch: Batch) -> Window:
        """Return the part of the canvas that the frames of a batch's cell can reach."""
        if batch.cell == slice(0, len(self)):
            return slice(0, self.shape[0]), slice(0, self.shape[1])
        first = np.maximum(self.corners[batch.cell].min(axis=0) - self._reach, 0)
        last = np.minimum(self.corners[batch.cell].max(axis=0) + self._size_px + self._reach, self.shape)
        return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))


def canvas_shape(corners: np.ndarray, size_px: int, margin_px: int = MARGIN_PX) -> tuple[int, int]:
    """Shape of a canvas that holds all windows and the margin."""
    last = corners.max(axis=0) + size_px + margin_px
    return int(last[0]), int(last[1])
