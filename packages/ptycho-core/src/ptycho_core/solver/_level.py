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
from typing import Any

import numpy as np
import scipy.ndimage

from ptycho_core.arrays import Array, Arrays
from ptycho_core.kernel import FusedStep, Steps
from ptycho_core.solver._background import FlatBackground
from ptycho_core.solver._batches import Batch
from ptycho_core.solver._frames import OrderedFrames
from ptycho_core.solver._freedoms import Found, FrameFreedoms
from ptycho_core.solver._shifts import DEGREE, shift_filters, shift_weights
from ptycho_core.solver._strain import strain_step

__all__ = ["MARGIN_PX", "OBJECT_LIMIT", "Level", "Steps"]

#: Canvas pixels around the windows of all frames, at every level.
MARGIN_PX = 4
#: A frame is explained badly above this ratio to the median; a place is better below this ratio to the old.
_BADLY, _BETTER = 1.2, 0.9
_SEARCH_STEP_PX = 2
State = tuple[Array, Array, Any, float]
#: The square root of Poisson counts is too small on the mean where they are few; with this added it is not.
#: A bias there makes the object look smoother, and a smoother object is a stretched scan.
_ANSCOMBE = 0.375
#: No object transmits more than this.
OBJECT_LIMIT = 2.0


@dataclass(frozen=True)
class _LaneResult:
    object_gradient: Array
    basis_gradient: Array
    misfit: float
    overlaps: np.ndarray | None = None


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
        own: FrameFreedoms | None = None,
        margin_px: int = MARGIN_PX,
        stabilised: bool = False,
        shape: tuple[int, int] | None = None,
        counts_per_frame: float | None = None,
        flat: FlatBackground | None = None,
    ) -> None:
        """Take what the level sees of the frames.

        Args:
            frames: in the order of their batches.
            background: flat counts per pixel added to every prediction.
            softening: counts per pixel that keep the square root smooth at zero.
            shift_px: (y, x) by which all positions are moved on the canvas, in pixels of the full detector.
            degree: of the series for sub-pixel shifts; a lower one is faster and less exact.
            own: what each frame has of its own; it is changed by the steps.
            margin_px: canvas pixels around the windows of all frames.
            stabilised: compare the roots of counts + 3/8, whose mean is hardly biased where counts are few.
            shape: of the canvas, where it is larger than these frames need.
            counts_per_frame: that the probe has to have; the mean of these frames by default.
            flat: a background to find on the way, in place of `background`; it is changed by `settle`.
        """
        self.size_px = size_px
        self._own, self._degree = own, degree
        self.scale = size_px / frames.frame_px
        self.batches = batches
        self._xp = arrays
        self._flat = flat
        self._softening = softening
        self._offset = softening + (background if flat is None else flat.counts)
        self._object_floor = object_floor
        positions = frames.positions_px - frames.least_px
        if shift_px is not None:
            positions = positions + shift_px
        corners = positions * self.scale + margin_px
        self.corners = np.round(corners).astype(np.int64)
        self.shape = shape or canvas_shape(self.corners, size_px, margin_px)
        self._filters = arrays.asarray(shift_filters(size_px, degree))
        if own is None:
            self._weights = arrays.asarray(shift_weights(corners - self.corners, degree))
        else:
            self._nominal, self._reach = corners, margin_px
            self._place(own, slice(0, len(corners)))
        self._windows = [self._window(batch) for batch in batches]
        amplitude, good = frames.seen_at(size_px)
        if stabilised:
            amplitude = np.sqrt(np.square(amplitude) + np.float32(_ANSCOMBE))
            self._softening += _ANSCOMBE
            self._offset += _ANSCOMBE
        self.total_amplitude = float(np.sum(amplitude, dtype=np.float64))
        per_frame = np.einsum("fij,fij->f", amplitude, amplitude)
        self._counts = per_frame
        self._counts_per_frame = counts_per_frame or float(per_frame.mean(dtype=np.float64))
        self._amplitude = arrays.asarray(amplitude)
        self._good = None if good is None else arrays.asarray(good)
        self._fused = self._fuse(amplitude, good)

    def _fuse(self, amplitude: np.ndarray, good: np.ndarray | None) -> FusedStep | None:
        """Return the compiled step where the arrays bring one and it knows this size."""
        library = self._xp.kernel
        if library is None or self._own is not None or not FusedStep.fits(self.size_px):
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
        if self._own is not None:  # its frames may move
            first = np.maximum(first - self._reach, 0)
            last = np.minimum(last + self._reach, self.shape)
        return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))

    def start(
        self, spectrum: np.ndarray, obj: np.ndarray | None = None, variations: np.ndarray | None = None
    ) -> None:
        """Take a probe spectrum (P, n, n) and an object (transparent by default) as the present state.

        Args:
            variations: spectra (P, L, n, n) that each frame adds in its own measure; 0 by default.
        """
        if variations is None:
            count = 0 if self._own is None else self._own.freedoms.variations
            variations = np.zeros((len(spectrum), count, self.size_px, self.size_px), np.complex64)
        self._variations = self._xp.asarray(variations.astype(np.complex64, order="C"))
        self.spectrum = self._xp.asarray(spectrum.astype(np.complex64, order="C"))
        canvas = np.ones(self.shape, np.complex64) if obj is None else obj
        self.object = self._xp.asarray(canvas.astype(np.complex64, order="C"))
        self.rest()

    def rest(self) -> None:
        """Set both velocities to zero."""
        self._spectrum_velocity = self._xp.zeros(tuple(self.spectrum.shape), complex_values=True)
        self._object_velocity = self._xp.zeros(self.shape, complex_values=True)

    def state(self) -> State:
        """Return copies of spectrum and object, what the frames have of their own, and the offset."""
        own = None if self._own is None else (self._xp.copy(self._variations), self._own.state())
        return self._xp.copy(self.spectrum), self._xp.copy(self.object), own, self._offset

    def restore(self, state: State) -> None:
        """Go back to a copied state, at rest."""
        self.spectrum, self.object = (self._xp.copy(part) for part in state[:2])
        if self._own is not None:
            self._variations = self._xp.copy(state[2][0])
            self._own.restore(state[2][1])
            self._place(self._own, slice(0, len(self.corners)))
        if self._flat is not None:
            self._flat.counts = state[3] - self._softening
            self._set_offset(state[3])
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
        if self._own is not None:
            self._move_frames(self._own, batch, window, results, light, steps)
        return sum(result.misfit for result in results)

    def settle(self, modulus_limit: float) -> None:
        """Give the probe the power of the measured counts, the object the inverse, and clamp its modulus.

        A scale may pass from the object to the probe without any change to the frames; unless it is fixed,
        a start probe that is far off lets the object drift into the clamp.
        """
        xp = self._xp
        power = float(xp.total(xp.intensity(self.spectrum[:, None])).real)
        if self._variations.shape[1]:
            power += float(np.square(np.abs(self.variations())).sum())
        scale = math.sqrt(self._counts_per_frame / power) if power > 0 else 1.0
        if math.isfinite(scale) and scale > 0:
            self.spectrum *= scale
            self._spectrum_velocity *= scale
            self._variations *= scale
            self.object *= 1 / scale
            self._object_velocity *= 1 / scale
        xp.clamp_modulus(self.object, modulus_limit)
        if self._flat is not None:
            self._find_background(self._flat)
        if self._own is not None:
            if self._own.freedoms.variations:
                probe, variations = self._own.unmix(xp.to_numpy(self.spectrum), self.variations())
                self.spectrum = xp.asarray(probe.astype(np.complex64))
                self._variations = xp.asarray(np.ascontiguousarray(variations))
            wanted = self._own.after_epoch(full=self.scale == 1)
            if wanted == "strain":
                self._strain(self._own)
            elif wanted == "search":
                self._search(self._own)
            self._place(self._own, slice(0, len(self.corners)))

    def variations(self) -> np.ndarray:
        """Spectra (P, L, n, n) of what each frame adds with its own weights."""
        return self._xp.to_numpy(self._variations)

    def _basis(self) -> Array:
        """Inverse transforms of the filtered probe spectra: (P, K, n, n), those of variations last."""
        n_more = self._variations.shape[1]
        if n_more:
            return self._basis_with_variations(n_more)
        n_modes, n_basis = self.spectrum.shape[0], self._filters.shape[0]
        basis = self._xp.zeros((n_modes, n_basis, self.size_px, self.size_px), complex_values=True)

        def fill(lane: slice) -> None:
            basis[:, lane] = self._xp.ifft2(self.spectrum[:, None] * self._filters[None, lane])

        self._xp.run_lanes(fill, n_basis, n_modes * self.size_px**2)
        return basis

    def _basis_with_variations(self, n_more: int) -> Array:
        n_modes, n_basis, n = self.spectrum.shape[0], self._filters.shape[0], self.size_px
        basis = self._xp.zeros((n_modes, (1 + n_more) * n_basis, n, n), complex_values=True)
        for part in range(1 + n_more):
            spectrum = self.spectrum if part == 0 else self._variations[:, part - 1]
            places = slice(part * n_basis, (part + 1) * n_basis)
            basis[:, places] = self._xp.ifft2(spectrum[:, None] * self._filters[None])
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
        misfit, overlaps = 0.0, []
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
            if self._own is not None:
                overlaps.append(xp.overlaps(basis, exit_change))
            probes[:, block] = exit_change
            patches[block] = pulled_to_object[0] if len(probes) == 1 else pulled_to_object.sum(0)
        found = np.concatenate(overlaps) if overlaps else None
        return _LaneResult(patches, xp.project(weights, probes), misfit, found)

    def _place(self, own: FrameFreedoms, frames: slice) -> None:
        """Put the windows and the weights of some frames where their positions are now."""
        wanted = self._nominal[frames] + own.correction_px[frames] * self.scale
        self.corners[frames] = np.round(wanted)
        rows = own.rows(frames, wanted - self.corners[frames], self._degree)
        if frames == slice(0, len(self.corners)):
            self._weights = self._xp.asarray(rows)
        else:
            self._weights[frames] = self._xp.asarray(rows)

    def _move_frames(
        self,
        own: FrameFreedoms,
        batch: Batch,
        window: tuple[slice, slice],
        results: list[_LaneResult],
        light: Array,
        steps: Steps,
    ) -> None:
        """Correct what the frames of a batch have of their own."""
        frames = batch.frames
        corners = self.corners[frames] - (window[0].start, window[1].start)
        placed = self._nominal[frames] + own.correction_px[frames] * self.scale
        curvature = np.empty(0)
        if own.positions_move:
            curvature = self._curvature(self.object[window], corners, light)
        overlaps = np.concatenate([r.overlaps for r in results if r.overlaps is not None])
        variations = self._xp.to_numpy(self._variations)
        found = Found(
            placed - self.corners[frames],
            overlaps,
            curvature,
            counts=self._counts[frames],
            variation_power=np.square(np.abs(variations)).sum(axis=(0, 2, 3)),
        )
        own.move(frames, found, scale=self.scale, degree=self._degree, step=min(1.0, steps.object_step))
        self._place(own, frames)

    def _curvature(self, canvas: Array, corners: np.ndarray, light: Array) -> np.ndarray:
        """Return the curvature (m, 2, 2) of the misfit by each position.

        Moving the probe over the object changes the wave on the detector by a ramp of phase, which nobody
        sees, and by the probe times the object's slope. So that slope counts, where there is light.
        """
        xp, n = self._xp, self.size_px
        down, right = (xp.zeros(tuple(canvas.shape), complex_values=True) for _ in (0, 1))
        down[1:-1] = (canvas[2:] - canvas[:-2]) / 2
        right[:, 1:-1] = (canvas[:, 2:] - canvas[:, :-2]) / 2
        slopes = [xp.cut(image, corners, n) for image in (down, right)]
        curvature = np.empty((len(corners), 2, 2))
        for a, b in ((0, 0), (0, 1), (1, 1)):
            product = (slopes[a].conj() * slopes[b]).real
            curvature[:, a, b] = curvature[:, b, a] = xp.to_numpy((product * light).sum((1, 2))) / 2
        return curvature

    def _find_background(self, flat: FlatBackground) -> None:
        """Correct the background by what some frames say."""
        frames = flat.sample(len(self.corners), self.size_px)
        if frames is None:
            return
        xp = self._xp
        probes = xp.combine(self._weights[frames], self._basis())
        waves = xp.fft2(probes * xp.cut(self.object, self.corners[frames], self.size_px)[None])
        predicted, amplitude = xp.to_numpy(xp.intensity(waves)), xp.to_numpy(self._amplitude[frames])
        if self._good is not None:
            good = xp.to_numpy(self._good)
            good = np.broadcast_to(good if good.ndim == 2 else good[frames], amplitude.shape) > 0
            predicted, amplitude = predicted[good], amplitude[good]
        flat.fit(np.square(amplitude), predicted + np.float32(self._softening))
        self._set_offset(self._softening + flat.counts)

    def _set_offset(self, counts: float) -> None:
        self._offset = counts
        if self._fused is not None:
            self._fused.offset = counts

    def _search(self, own: FrameFreedoms) -> None:
        """Look for a better place of the frames that are explained badly, all over their bound."""
        reach = (own.freedoms.position_bound_px or 0.0) * self.scale
        along = np.arange(-int(reach), int(reach) + 1, _SEARCH_STEP_PX)
        here = self._misfits(slice(None), np.zeros(2, np.int64))
        bad = np.flatnonzero(here > _BADLY * np.median(here))
        offsets = [np.array([y, x]) for y in along for x in along if np.hypot(y, x) <= reach]
        found = np.stack([self._misfits(bad, offset) for offset in offsets]) if len(bad) else np.empty((1, 0))
        best = found.argmin(axis=0)
        better = found[best, np.arange(len(bad))] < _BETTER * here[bad]
        moves = np.stack(offsets)[best[better]] / self.scale
        own.relocate(bad[better], moves)

    def _misfits(self, frames: Any, offset: np.ndarray) -> np.ndarray:
        """Sum of the amplitude misfits of some frames, moved by whole pixels of the canvas."""
        xp, n = self._xp, self.size_px
        last = np.array(self.shape) - n
        corners = np.clip(self.corners[frames] + offset, 0, last)
        weights, amplitude = self._weights[frames], self._amplitude[frames]
        basis, misfits = self._basis(), np.empty(len(corners))
        step = max(1, xp.block_pixels // n**2)
        for first in range(0, len(corners), step):
            part = slice(first, first + step)
            probes = xp.combine(weights[part], basis)
            waves = xp.fft2(probes * xp.cut(self.object, corners[part], n)[None])
            modulus = (xp.intensity(waves) + self._offset) ** 0.5
            distance = abs(amplitude[part] - modulus)
            if self._good is not None:
                distance = distance * (self._good if len(self._good.shape) == 2 else self._good[frames][part])
            misfits[part] = xp.to_numpy(distance.sum((1, 2)))
        total = xp.to_numpy(amplitude.sum((1, 2)))
        return misfits / np.maximum(total, 1e-9)

    def _strain(self, own: FrameFreedoms) -> None:
        """Fit a strain of positions and object together with a quadratic phase of the probe's spectrum."""
        xp = self._xp
        frames = own.sample(len(self.corners))
        wanted = self._nominal[frames] + own.correction_px[frames] * self.scale
        good = None if self._good is None else xp.to_numpy(self._good)
        strain, phase = strain_step(
            xp.to_numpy(self.object),
            xp.to_numpy(self.spectrum),
            self.corners[frames],
            wanted - self.corners[frames],
            xp.to_numpy(self._amplitude[frames]),
            good if good is None or good.ndim == 2 else good[frames],
            offset=self._offset,
        )
        self.spectrum *= xp.asarray(np.exp(1j * phase).astype(np.complex64))
        self._stretch(own.strain(strain))

    def _stretch(self, strain: np.ndarray) -> None:
        """Let the object go along with a strain of the positions about their middle."""
        obj = self._xp.to_numpy(self.object)
        middle = (self._nominal.min(axis=0) + self._nominal.max(axis=0)) / 2 + self.size_px // 2
        back = np.linalg.inv(np.eye(2) + strain)
        offset = middle - back @ middle
        parts = [
            scipy.ndimage.affine_transform(part, back, offset, order=3, mode="nearest")
            for part in (np.real(obj), np.imag(obj))
        ]
        self.object = self._xp.asarray((parts[0] + 1j * parts[1]).astype(np.complex64))

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
        n_basis = self._filters.shape[0]
        for part in range(self._variations.shape[1]):
            places = slice((part + 1) * n_basis, (part + 2) * n_basis)
            pulled_back = (self._filters.conj()[None] * xp.fft2(gradient[:, places])).sum(1)
            self._variations[:, part] += pulled_back * (steps.probe_step / n_frames)
        gradient = gradient[:, :n_basis]
        pulled_back = (self._filters.conj()[None] * xp.fft2(gradient)).sum(1)
        self._spectrum_velocity *= steps.probe_momentum
        self._spectrum_velocity += pulled_back * (steps.probe_step / n_frames)
        self.spectrum += self._spectrum_velocity


def canvas_shape(corners: np.ndarray, size_px: int, margin_px: int = MARGIN_PX) -> tuple[int, int]:
    """Shape of a canvas that holds all windows and the margin."""
    last = corners.max(axis=0) + size_px + margin_px
    return int(last[0]), int(last[1])
