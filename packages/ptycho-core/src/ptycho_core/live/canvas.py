"""A canvas that grows with the positions, at a resolution that rises."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Complex64, Float64

from ptycho_core.physics import whole_and_rest
from ptycho_core.physics.canvas import resample_object
from ptycho_core.solver.windows import MARGIN_PX

__all__ = ["LiveCanvas"]

#: A canvas that has to grow takes so much of its side more on that side, so that it grows rarely.
_AHEAD = 0.25


class LiveCanvas:
    """The object, 1 where nothing is known, and where it lies.

    Attributes:
        object: (H, W) complex64 at the pixel of the level, N / n times that of the full frame.
        coverage: (H', W') float32 at the full pixel: light that each pixel got.
        least_px: the position (y, x) whose window begins at the margin.
    """

    def __init__(self, frame_px: int, size_px: int, positions_px: Float64[np.ndarray, "frame 2"]) -> None:
        """Make a canvas for the positions that are known."""
        self.frame_px, self.size_px = frame_px, size_px
        self.least_px = np.floor(positions_px.min(axis=0))
        self._most_px = np.ceil(positions_px.max(axis=0))
        self.object = np.ones(self.shape_at(size_px), np.complex64)
        self.coverage = np.zeros(self.shape_at(frame_px), np.float32)

    @property
    def scale(self) -> float:
        """Canvas pixels per pixel of the full frame."""
        return self.size_px / self.frame_px

    @property
    def origin_px(self) -> Float64[np.ndarray, " 2"]:
        """Scan coordinate of pixel [0, 0] at the full pixel."""
        return self.least_px - MARGIN_PX - self.frame_px // 2

    def shape_at(self, size_px: int) -> tuple[int, int]:
        """Shape of the canvas at a level."""
        extent = np.ceil((self._most_px - self.least_px) * (size_px / self.frame_px)).astype(int)
        height, width = (extent + size_px + 2 * MARGIN_PX).tolist()
        return height, width

    def hold(self, positions_px: Float64[np.ndarray, "frame 2"]) -> bool:
        """Grow until the windows of all these positions fit; return whether it had to."""
        low, high = np.floor(positions_px.min(axis=0)), np.ceil(positions_px.max(axis=0))
        if (low >= self.least_px).all() and (high <= self._most_px).all():
            return False
        least, most = self.least_px.copy(), self._most_px.copy()
        ahead = _AHEAD * (most - least) + self.frame_px
        # By whole pixels of every level: what was there must not be interpolated.
        unit = self.frame_px / math.gcd(self.frame_px, self.size_px)
        for axis in (0, 1):
            if low[axis] < least[axis]:
                least[axis] -= unit * math.ceil((least[axis] - low[axis] + ahead[axis]) / unit)
            if high[axis] > most[axis]:
                most[axis] = high[axis] + ahead[axis]
        by_px = self.least_px - least
        self.least_px, self._most_px = least, np.ceil(most)
        self.object = _within(self.object, self.shape_at(self.size_px), by_px * self.scale, 1.0)
        self.coverage = _within(self.coverage, self.shape_at(self.frame_px), by_px, 0.0)
        return True

    def rise(self, size_px: int) -> None:
        """Carry the object to another level."""
        self.object, self.size_px = self.at(size_px), size_px

    def at(self, size_px: int) -> Complex64[np.ndarray, "height width"]:
        """Return the object at the pixel of a level."""
        shape = self.shape_at(size_px)
        if size_px == self.size_px:
            return self.object
        return resample_object(
            self.object,
            shape,
            margin_px=MARGIN_PX,
            old_scale=self.scale,
            new_scale=size_px / self.frame_px,
        )

    def add_coverage(self, positions_px: Float64[np.ndarray, "frame 2"], light: np.ndarray) -> None:
        """Add the light (N, N) that frames bring to their windows to the coverage."""
        corners, _ = whole_and_rest(positions_px - self.least_px + MARGIN_PX)
        side = self.frame_px
        for y, x in corners.tolist():
            self.coverage[y : y + side, x : x + side] += light


def _within(image: np.ndarray, shape: tuple[int, int], offset: np.ndarray, fill: float) -> np.ndarray:
    grown = np.full(shape, fill, image.dtype)
    y, x = np.round(offset).astype(int).tolist()
    grown[y : y + image.shape[0], x : x + image.shape[1]] = image
    return grown
