"""One resolution level: its share of the data, its canvas, and one step of descent on a batch.

At level n the solver sees the n central frequencies of every pattern and of the probe's spectrum. That is
a complete, smaller problem whose object pixel is N/n times as large. The probe is held as its spectrum with
the zero frequency in the centre, so that a level is a plain crop of the data as stored; its inverse transform
is the probe times a chessboard of signs, which no modulus notices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptycho_core.arrays import Array, Arrays
from ptycho_core.kernel import FusedStep, Steps
from ptycho_core.solver._batches import Batch
from ptycho_core.solver._frames import OrderedFrames
from ptycho_core.solver._shifts import DEGREE, shift_filters, shift_weights

__all__ = ["MARGIN_PX", "OBJECT_LIMIT", "Level", "Steps"]

#: Canvas pixels around the windows of all frames, at every level.
MARGIN_PX = 4
#: No object transmits more than this.
OBJECT_LIMIT = 2.0


@dataclass(frozen=True)
class _LaneResult:
    object_gradient: Array
    basis_gradient: Array
    misfit: float


class Level:
    """The problem at one resolution, and the present state of its solution."""

    def __init__(
        self,
        frames: OrderedFrames,
        arrays: Arrays,
        *,
        batches: Sequence[Batch],
        size_px: int,
        background: float,
        softening: float,
        object_floor: float,
        shift_px: np.ndarray | None = None,
        degree: int = DEGREE,
    ) -> None:
        """Take what the level sees of the frames.

        Args:
            frames: in the order of their batches.
            background: flat counts per pixel added to every prediction.
            softening: counts per pixel that keep the square root smooth at zero.
            shift_px: (y, x) by which all positions are moved on the canvas, in pixels of the full detector.
            degree: of the series for sub-pixel shifts; a lower one is faster and less exact.
        """
        self.size_px = size_px
        self.scale = size_px / frames.frame_px
        self.batches = batches
        self._xp = arrays
        self._offset = background + softening
        self._object_floor = object_floor
        positions = frames.positions_px - frames.least_px
        if shift_px is not None:
            positions = positions + shift_px
        corners = positions * self.scale + MARGIN_PX
        self.corners = np.round(corners).astype(np.int64)
        self._weights = arrays.asarray(shift_weights(corners - self.corners, degree))
        self._filters = arrays.asarray(shift_filters(size_px, degree))
        self.shape = canvas_shape(self.corners, size_px)
        self._windows = [self._window(batch) for batch in batches]
        amplitude, good = frames.seen_at(size_px)
        self.total_amplitude = float(np.sum(amplitude, dtype=np.float64))
        per_frame = np.einsum("fij,fij->f", amplitude, amplitude)
        self._counts_per_frame = float(per_frame.mean(dtype=np.float64))
        self._amplitude = arrays.asarray(amplitude)
        self._good = None if good is None else arrays.asarray(good)
        self._fused = self._fuse(amplitude, good)

    def _fuse(self, amplitude: np.ndarray, good: np.ndarray | None) -> FusedStep | None:
        """Return the compiled step where the arrays bring one and it knows this size."""
        library = self._xp.kernel
        if library is None or not FusedStep.fits(self.size_px):
            return None
        return FusedStep(
            library,
            amplitude=amplitude,
            good=good,
            filters=self._xp.to_numpy(self._filters),
            shift_weights=self._xp.to_numpy(self._weights),
            corners=self.corners,
            offset=self._offset,
            object_floor=self._object_floor,
            largest_batch=max(batch.frames.stop - batch.frames.start for batch in self.batches),
            threads=self._xp.lanes,
        )

    def _window(self, batch: Batch) -> tuple[slice, slice]:
        if batch.cell == slice(0, len(self.corners)):
            return slice(0, self.shape[0]), slice(0, self.shape[1])
        first = self.corners[batch.cell].min(axis=0)
        last = self.corners[batch.cell].max(axis=0) + self.size_px
        return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))

    def start(self, spectrum: np.ndarray, obj: np.ndarray | None = None) -> None:
        """Take a probe spectrum (P, n, n) and an object (transparent by default) as the present state."""
        self.spectrum = self._xp.asarray(spectrum.astype(np.complex64, order="C"))
        canvas = np.ones(self.shape, np.complex64) if obj is None else obj
        self.object = self._xp.asarray(canvas.astype(np.complex64, order="C"))
        self.rest()

    def rest(self) -> None:
        """Set both velocities to zero."""
        self._spectrum_velocity = self._xp.zeros(tuple(self.spectrum.shape), complex_values=True)
        self._object_velocity = self._xp.zeros(self.shape, complex_values=True)

    def state(self) -> tuple[Array, Array]:
        """Return copies of the probe's spectrum and the object."""
        return self._xp.copy(self.spectrum), self._xp.copy(self.object)

    def restore(self, state: tuple[Array, Array]) -> None:
        """Go back to a copied state, at rest."""
        self.spectrum, self.object = (self._xp.copy(part) for part in state)
        self.rest()

    def step(self, index: int, steps: Steps) -> float:
        """Move object and probe down the gradient of one batch; return the sum of its amplitude misfits.

        The residual was measured while predicting, before the move, and so costs nothing.
        """
        xp, batch, window = self._xp, self.batches[index], self._windows[index]
        if self._fused is not None:
            return self._fused(
                batch.frames,
                window,
                steps,
                spectrum=xp.host_view(self.spectrum),
                spectrum_velocity=xp.host_view(self._spectrum_velocity),
                obj=xp.host_view(self.object),
                object_velocity=xp.host_view(self._object_velocity),
            )
        corners = self.corners[batch.frames] - (window[0].start, window[1].start)
        canvas = self.object[window]
        basis = self._basis()
        light = self._light()
        pixels = self.spectrum.shape[0] * self.size_px**2

        def explain(lane: slice) -> _LaneResult:
            frames = slice(batch.frames.start + lane.start, batch.frames.start + lane.stop)
            return self._explain(frames, xp.cut(canvas, corners[lane], self.size_px), basis)

        results = xp.run_lanes(explain, len(corners), pixels)
        moves = (
            lambda: self._move_object(window, corners, light, [r.object_gradient for r in results], steps),
            lambda: self._move_probe([r.basis_gradient for r in results], len(corners), steps),
        )
        xp.run_lanes(lambda lane: [move() for move in moves[lane]], len(moves), pixels * len(self._filters))
        return sum(result.misfit for result in results)

    def settle(self, modulus_limit: float) -> None:
        """Give the probe the power of the measured counts, the object the inverse, and clamp its modulus.

        A scale may pass from the object to the probe without any change to the frames; unless it is fixed,
        a start probe that is far off lets the object drift into the clamp.
        """
        xp = self._xp
        power = float(xp.total(xp.intensity(self.spectrum[:, None])).real)
        scale = math.sqrt(self._counts_per_frame / power) if power > 0 else 1.0
        if math.isfinite(scale) and scale > 0:
            self.spectrum *= scale
            self._spectrum_velocity *= scale
            self.object *= 1 / scale
            self._object_velocity *= 1 / scale
        xp.clamp_modulus(self.object, modulus_limit)

    def _basis(self) -> Array:
        """Inverse transforms of the filtered probe spectra: (P, K, n, n)."""
        n_modes, n_basis = self.spectrum.shape[0], self._filters.shape[0]
        basis = self._xp.zeros((n_modes, n_basis, self.size_px, self.size_px), complex_values=True)

        def fill(lane: slice) -> None:
            basis[:, lane] = self._xp.ifft2(self.spectrum[:, None] * self._filters[None, lane])

        self._xp.run_lanes(fill, n_basis, n_modes * self.size_px**2)
        return basis

    def _light(self) -> Array:
        """Sum over the modes of the probe's squared modulus, unshifted: (n, n)."""
        return self._xp.intensity(self._xp.ifft2(self._xp.copy(self.spectrum))[:, None])[0]

    def _explain(self, frames: slice, patches: Array, basis: Array) -> _LaneResult:
        """Predict some frames, compare with the measured amplitude, and pull the misfit back.

        Done block by block, so that what lies between the two transforms stays in the core's cache; the
        results take the place of the patches and the probes.
        """
        xp, weights = self._xp, self._weights[frames]
        probes = xp.combine(weights, basis)
        block_frames = max(1, xp.block_pixels // self.size_px**2)
        misfit = 0.0
        for first in range(0, len(patches), block_frames):
            block = slice(first, min(first + block_frames, len(patches)))
            probe, patch = probes[:, block], patches[block]
            waves = xp.fft2(probe * patch[None])
            measured = slice(frames.start + block.start, frames.start + block.stop)
            good = self._good if self._good is None or len(self._good.shape) == 2 else self._good[measured]
            correction, block_misfit = xp.modulus_correction(
                xp.intensity(waves), self._amplitude[measured], self._offset, good
            )
            misfit += block_misfit
            exit_change = xp.ifft2(xp.scale(waves, correction))
            pulled_to_object = probe.conj() * exit_change
            exit_change *= patch.conj()[None]
            probes[:, block] = exit_change
            patches[block] = pulled_to_object[0] if len(probes) == 1 else pulled_to_object.sum(0)
        return _LaneResult(patches, xp.project(weights, probes), misfit)

    def _move_object(
        self,
        window: tuple[slice, slice],
        corners: np.ndarray,
        light: Array,
        gradients: list[Array],
        steps: Steps,
    ) -> None:
        if not steps.object_step:
            return
        xp = self._xp
        canvas, velocity = self.object[window], self._object_velocity[window]
        covered = xp.zeros(tuple(canvas.shape))
        xp.add_patches(covered, corners, light)
        covered += self._object_floor * xp.peak(covered)
        change = xp.zeros(tuple(canvas.shape), complex_values=True)
        start = 0
        for gradient in gradients:
            xp.add_patches(change, corners[start : start + len(gradient)], gradient)
            start += len(gradient)
        xp.scale(change, steps.object_step / covered)
        velocity *= steps.object_momentum
        velocity += change
        canvas += velocity

    def _move_probe(self, gradients: list[Array], n_frames: int, steps: Steps) -> None:
        if not steps.probe_step:
            return
        xp = self._xp
        gradient = gradients[0]
        for more in gradients[1:]:
            gradient += more
        # The step should be divided by the mean transmission where the light is; `settle` keeps that at one.
        pulled_back = (self._filters.conj()[None] * xp.fft2(gradient)).sum(1)
        self._spectrum_velocity *= steps.probe_momentum
        self._spectrum_velocity += pulled_back * (steps.probe_step / n_frames)
        self.spectrum += self._spectrum_velocity


def canvas_shape(corners: np.ndarray, size_px: int) -> tuple[int, int]:
    """Shape of a canvas that holds all windows and the margin."""
    last = corners.max(axis=0) + size_px + MARGIN_PX
    return int(last[0]), int(last[1])
