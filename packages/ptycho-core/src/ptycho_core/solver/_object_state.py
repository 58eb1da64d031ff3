"""The object of a level while it is found: its canvas and its steps.

Source: a step divided by the light and a part of the largest light, and momentum, are those of A. Maiden,
D. Johnson and P. Li, Optica 4 (2017) 736, 10.1364/OPTICA.4.000736; here the light is that of a batch.
"""

from __future__ import annotations

import numpy as np

from ptycho_core.arrays import Array, Arrays
from ptycho_core.kernel import Steps
from ptycho_core.solver._canvas import Window
from ptycho_core.solver._room import room_for

__all__ = ["ObjectState"]

#: Up to here a copy of the canvas is held in memory.
_COPY_IN_MEMORY_BYTES = 1 << 26


class ObjectState:
    """The transmission and its velocity, on the device.

    Attributes:
        canvas, velocity: (H, W) complex64.
    """

    def __init__(self, arrays: Arrays, canvas: np.ndarray, floor: float) -> None:
        """Copy what to start from.

        Args:
            floor: part of the largest light that is added everywhere to the light that divides a step.
        """
        self._xp, self._floor = arrays, floor
        self.canvas = arrays.asarray(canvas.astype(np.complex64, order="C"))
        self.rest()

    def rest(self) -> None:
        """Set the velocity to zero."""
        self.velocity = self._xp.zeros(tuple(self.canvas.shape), complex_values=True)

    def kept(self) -> Array:
        """Return a copy of the canvas: on the device, or, of a large one on the CPU, in a file."""
        if self._xp.device != "cpu" or self._n_bytes <= _COPY_IN_MEMORY_BYTES:
            return self._xp.copy(self.canvas)
        height, width = self.canvas.shape
        room, _ = room_for((height, 2 * width), in_memory_bytes=_COPY_IN_MEMORY_BYTES)
        copy = room.view(np.complex64)
        copy[...] = self._xp.host_view(self.canvas)
        return copy

    def put_back(self, kept: Array) -> None:
        """Go back to a kept canvas."""
        if self._xp.device != "cpu":
            self.canvas = self._xp.copy(kept)
        else:
            host = kept if isinstance(kept, np.ndarray) else self._xp.host_view(kept)
            self._xp.host_view(self.canvas)[...] = host

    @property
    def _n_bytes(self) -> int:
        return 8 * self.canvas.shape[0] * self.canvas.shape[1]

    def rescale(self, factor: float) -> None:
        """Multiply all there is."""
        self.canvas *= factor
        self.velocity *= factor

    def move(
        self, window: Window, corners: np.ndarray, light: Array, gradients: list[Array], steps: Steps
    ) -> None:
        """Move a part of the canvas down the gradients (f, n, n) of a batch's lanes, with momentum.

        Args:
            corners: of the frames in this window.
            light: (n, n) of the probe; where much of it falls a pixel takes small steps.
        """
        if not steps.object_step:
            return
        xp = self._xp
        canvas, velocity = self.canvas[window], self.velocity[window]
        covered = xp.zeros(tuple(canvas.shape))
        xp.add_patches(covered, corners, light)
        covered += self._floor * xp.peak(covered)
        change = xp.zeros(tuple(canvas.shape), complex_values=True)
        start = 0
        for gradient in gradients:
            xp.add_patches(change, corners[start : start + len(gradient)], gradient)
            start += len(gradient)
        xp.scale(change, steps.object_step / covered)
        velocity *= steps.object_momentum
        velocity += change
        canvas += velocity
