"""Object and probe while they are found: in steps at one level, and as a whole from level to level.

The probe is held as its spectrum with the zero frequency in the centre, so that a level is a plain crop of
the data as stored; its inverse transform is the probe times a chessboard of signs, which no modulus
notices. The object is held on its canvas.

Source: a step divided by the light and a part of the largest light, and momentum, are those of A. Maiden,
D. Johnson and P. Li, Optica 4 (2017) 736, 10.1364/OPTICA.4.000736; here the light is that of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Complex64, Float64

from ptycho_core.arrays import Array, Arrays
from ptycho_core.kernel import Steps
from ptycho_core.physics.canvas import paste, resample_object
from ptycho_core.solver.frames import room_for
from ptycho_core.solver.windows import Window

__all__ = ["COPY_IN_MEMORY_BYTES", "ObjectState", "ProbeState", "Solution"]


@dataclass(frozen=True, eq=False)
class Solution:
    """Object and probe between two levels, at the start and at the end.

    Attributes:
        spectra: (P, N, N) complex64, spectra of the probe's modes at all frequencies of the detector.
        shift_px: (y, x) by which all positions are moved on the canvas, in pixels of the full detector.
        variations: (P, L, N, N) complex64, spectra of the OPR modes; L = 0 where there are none.
        object: (H, W) complex64 on its canvas; None where it is transparent.
        scale: canvas pixels per pixel of the full detector.
        corner: (y, x) pixel of the whole canvas at which the object begins, where it is a tile of it.
    """

    spectra: Complex64[np.ndarray, "mode n n"]
    shift_px: Float64[np.ndarray, " 2"]
    variations: Complex64[np.ndarray, "mode variation n n"]
    object: Complex64[np.ndarray, "height width"] | None = None
    scale: float = 1.0
    corner: tuple[int, int] = (0, 0)

    def object_on(
        self, shape: tuple[int, int], *, scale: float, margin_px: int, corner: tuple[int, int] = (0, 0)
    ) -> Complex64[np.ndarray, "height width"]:
        """Return the object on a canvas of that shape and scale; resampled only if they are others.

        Args:
            corner: pixel of the whole canvas of that scale at which this one begins.
        """
        if self.object is None:
            return np.ones(shape, np.complex64)
        if (self.scale, self.object.shape, self.corner) == (scale, shape, corner):
            return self.object
        if self.scale == scale and self.corner != corner:
            canvas = np.ones(shape, np.complex64)
            paste(canvas, self.object, np.subtract(corner, self.corner))
            return canvas
        return resample_object(
            self.object,
            shape,
            margin_px=margin_px,
            old_scale=self.scale,
            new_scale=scale,
            old_corner=self.corner,
            new_corner=corner,
        )


class ProbeState:
    """Spectra and their velocity, on the device.

    Attributes:
        spectrum: (P, n, n) complex64.
        variations: (P, L, n, n) complex64, spectra that each frame adds with its weights (OPR).
        velocity: (P, n, n) of the spectrum.
        filters: (K, n, n) that make the basis functions.
    """

    def __init__(self, arrays: Arrays, filters: Array, spectrum: np.ndarray, variations: np.ndarray) -> None:
        """Copy what to start from.

        Args:
            filters: (K, n, n) that make the basis functions for sub-pixel shifts.
        """
        self._xp, self.filters = arrays, filters
        self.variations = arrays.asarray(variations.astype(np.complex64, order="C"))
        self.spectrum = arrays.asarray(spectrum.astype(np.complex64, order="C"))
        self.rest()

    def rest(self) -> None:
        """Set the velocity to zero."""
        self.velocity = self._xp.zeros(tuple(self.spectrum.shape), complex_values=True)

    def power(self) -> float:
        """Counts of a frame that the probe makes, its variations included."""
        xp = self._xp
        power = float(xp.total(xp.intensity(self.spectrum[:, None])).real)
        if self.variations.shape[1]:
            power += float(np.square(np.abs(xp.to_numpy(self.variations))).sum())
        return power

    def rescale(self, factor: float) -> None:
        """Multiply all there is."""
        self.spectrum *= factor
        self.velocity *= factor
        self.variations *= factor

    def basis(self) -> Array:
        """Inverse transforms of the filtered spectra: (P, K, n, n), those of variations last."""
        n_modes, n_basis, n = self.spectrum.shape[0], self.filters.shape[0], self.spectrum.shape[-1]
        n_more = self.variations.shape[1]
        basis = self._xp.zeros((n_modes, (1 + n_more) * n_basis, n, n), complex_values=True)
        if n_more:
            for part in range(1 + n_more):
                spectrum = self.spectrum if part == 0 else self.variations[:, part - 1]
                places = slice(part * n_basis, (part + 1) * n_basis)
                basis[:, places] = self._xp.ifft2(spectrum[:, None] * self.filters[None])
            return basis

        self._xp.map_chunks(partial(self._fill, basis), n_basis, n_modes * n**2)
        return basis

    def _fill(self, basis: Array, chunk: slice) -> None:
        basis[:, chunk] = self._xp.ifft2(self.spectrum[:, None] * self.filters[None, chunk])

    def light(self) -> Array:
        """Sum over the modes of the probe's squared modulus, unshifted: (n, n)."""
        return self._xp.intensity(self._xp.ifft2(self._xp.copy(self.spectrum))[:, None])[0]

    def pulled_back(self, gradient: Array) -> Array:
        """Return the way down of the spectra (P, n, n), of that of the basis functions; variations apart."""
        gradient = gradient[:, : self.filters.shape[0]]
        return (self.filters.conj()[None] * self._xp.fft2(gradient)).sum(1)

    def move(self, gradients: list[Array], n_frames: int, steps: Steps) -> None:
        """Move down the gradients by the basis functions, one of each chunk of a batch, with momentum."""
        if not steps.probe_step:
            return
        xp, n_basis = self._xp, self.filters.shape[0]
        gradient = gradients[0]
        for more in gradients[1:]:
            gradient += more
        # The step should be divided by the mean transmission where the light is; `settle` keeps that at one.
        for part in range(self.variations.shape[1]):
            places = slice((part + 1) * n_basis, (part + 2) * n_basis)
            pulled_back = (self.filters.conj()[None] * xp.fft2(gradient[:, places])).sum(1)
            self.variations[:, part] += pulled_back * (steps.probe_step / n_frames)
        self.velocity *= steps.probe_momentum
        self.velocity += self.pulled_back(gradient) * (steps.probe_step / n_frames)
        self.spectrum += self.velocity


#: Up to here a copy of the canvas is held in memory.
COPY_IN_MEMORY_BYTES = 1 << 26


class ObjectState:
    """The transmission and its velocity, on the device.

    Attributes:
        canvas, velocity: (H, W) complex64.
        seen: (H, W) float32, the light of the batches so far, where it is asked for (`watch`).
    """

    def __init__(self, arrays: Arrays, canvas: np.ndarray, floor: float) -> None:
        """Copy what to start from.

        Args:
            floor: part of the largest light that is added everywhere to the light that divides a step.
        """
        self._xp, self._floor = arrays, floor
        self.canvas = arrays.asarray(canvas.astype(np.complex64, order="C"))
        self.seen: Array = None
        self.rest()

    def rest(self) -> None:
        """Set the velocity to zero."""
        self.velocity = self._xp.zeros(tuple(self.canvas.shape), complex_values=True)

    def watch(self) -> None:
        """Sum up from now on how much light the batches put on each pixel."""
        self.seen = self._xp.zeros(tuple(self.canvas.shape))

    def kept(self) -> Array:
        """Return a copy of the canvas: on the device, or, of a large one on the CPU, in a file."""
        if self._xp.device != "cpu" or self._n_bytes <= COPY_IN_MEMORY_BYTES:
            return self._xp.copy(self.canvas)
        height, width = self.canvas.shape
        room, _ = room_for((height, 2 * width), in_memory_bytes=COPY_IN_MEMORY_BYTES)
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
        """Move a part of the canvas down the gradients (f, n, n) of a batch's chunks, with momentum.

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
        if self.seen is not None:
            self.seen[window] += covered
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
