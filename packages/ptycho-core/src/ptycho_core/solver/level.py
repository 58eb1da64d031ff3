"""One resolution level: its share of the data, the present state of its solution, and one step of descent.

At level n the solver sees the n central frequencies of every pattern and of the probe's spectrum. That is
a complete, smaller problem whose object pixel is N/n times as large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ptycho_core.arrays import Array, Arrays
from ptycho_core.kernel import FusedStep, Steps
from ptycho_core.solver.background import FlatBackground
from ptycho_core.solver.batches import Batch
from ptycho_core.solver.frame_parameters import FrameFreedoms
from ptycho_core.solver.frame_updates import FrameSteps
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.misfit import Comparison, Explained
from ptycho_core.solver.shifts import DEGREE, shift_filters
from ptycho_core.solver.state import ObjectState, ProbeState
from ptycho_core.solver.windows import MARGIN_PX, Windows

__all__ = ["OBJECT_LIMIT", "Level", "State", "Steps"]

#: A copy: the probe's spectra, the object, what the frames have of their own, and the offset.
State = tuple[Array, Array, Any, float]
#: The square root of Poisson counts is too small on the mean where they are few; with this added it is not.
#: A bias there makes the object look smoother, and a smoother object is a stretched scan.
_ANSCOMBE = 0.375
#: No object transmits more than this.
OBJECT_LIMIT = 2.0


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
        self.batches = batches
        self._xp = arrays
        self._own, self._flat = own, flat
        self._softening = softening
        self._object_floor = object_floor
        self._filters = arrays.asarray(shift_filters(size_px, degree))
        self._windows = Windows(
            frames,
            arrays,
            size_px=size_px,
            shift_px=shift_px,
            degree=degree,
            own=own,
            margin_px=margin_px,
            shape=shape,
        )
        self._parts = [self._windows.of(batch) for batch in batches]
        amplitude, good = frames.seen_at(size_px)
        offset = softening + (background if flat is None else flat.counts)
        if stabilised:
            amplitude = np.sqrt(np.square(amplitude) + np.float32(_ANSCOMBE))
            self._softening += _ANSCOMBE
            offset += _ANSCOMBE
        self.total_amplitude = float(np.sum(amplitude, dtype=np.float64))
        counts = np.einsum("fij,fij->f", amplitude, amplitude)
        self._counts_per_frame = counts_per_frame or float(counts.mean(dtype=np.float64))
        self._comparison = Comparison(arrays, amplitude, good, offset=offset)
        self._fused = self._fuse(amplitude, good)
        self._frame_steps = None
        if own is not None:
            self._frame_steps = FrameSteps(
                own, arrays, self._windows, self._comparison, counts, degree=degree
            )

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
            shift_weights=self._xp.to_numpy(self._windows.weights),
            corners=self._windows.corners,
            offset=self._comparison.offset,
            object_floor=self._object_floor,
            largest_batch=max(batch.frames.stop - batch.frames.start for batch in self.batches),
            threads=self._xp.threads,
        )

    @property
    def scale(self) -> float:
        """Canvas pixels per pixel of the full detector."""
        return self._windows.scale

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the canvas."""
        return self._windows.shape

    @property
    def spectrum(self) -> Array:
        """The probe's spectra (P, n, n), on the device."""
        return self._probe.spectrum

    @property
    def object(self) -> Array:
        """The canvas (H, W), on the device."""
        return self._object.canvas

    def kept_object(self) -> np.ndarray:
        """Return a copy of the canvas; that of a large one lies in a file as long as it is needed."""
        kept = self._object.kept()
        return kept if isinstance(kept, np.ndarray) else self._xp.to_numpy(kept)

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
        canvas = np.ones(self.shape, np.complex64) if obj is None else obj
        self._probe = ProbeState(self._xp, self._filters, spectrum, variations)
        self._object = ObjectState(self._xp, canvas, self._object_floor)

    def state(self) -> State:
        """Return copies of spectrum and object, what the frames have of their own, and the offset."""
        xp, probe = self._xp, self._probe
        own = None if self._own is None else (xp.copy(probe.variations), self._own.state())
        return xp.copy(probe.spectrum), self._object.kept(), own, self._comparison.offset

    def restore(self, state: State) -> None:
        """Go back to a copied state, at rest."""
        self._probe.spectrum = self._xp.copy(state[0])
        self._object.put_back(state[1])
        if self._own is not None:
            self._probe.variations = self._xp.copy(state[2][0])
            self._own.restore(state[2][1])
            self._windows.place(self._own)
        if self._flat is not None:
            self._flat.counts = state[3] - self._softening
            self._set_offset(state[3])
        self._probe.rest()
        self._object.rest()

    def step(self, index: int, steps: Steps) -> float:
        """Move object and probe down the gradient of one batch; return the sum of its amplitude misfits.

        The residual was measured while predicting, before the move, and so costs nothing.
        """
        xp, batch, window, n = self._xp, self.batches[index], self._parts[index], self.size_px
        if self._fused is not None:
            return self._fused(
                batch.frames,
                window,
                steps,
                spectrum=xp.host_view(self._probe.spectrum),
                spectrum_velocity=xp.host_view(self._probe.velocity),
                obj=xp.host_view(self._object.canvas),
                object_velocity=xp.host_view(self._object.velocity),
            )
        corners = self._windows.corners[batch.frames] - (window[0].start, window[1].start)
        canvas = self._object.canvas[window]
        basis, light = self._probe.basis(), self._probe.light()
        pixels = self._probe.spectrum.shape[0] * n**2

        def explain(lane: slice) -> Explained:
            frames = slice(batch.frames.start + lane.start, batch.frames.start + lane.stop)
            patches, weights = xp.cut(canvas, corners[lane], n), self._windows.weights[frames]
            return self._comparison.explain(
                frames, patches, basis, weights, with_overlaps=self._own is not None
            )

        results = xp.map_chunks(explain, len(corners), pixels)
        gradients = [r.object_gradient for r in results], [r.basis_gradient for r in results]
        moves = (
            lambda: self._object.move(window, corners, light, gradients[0], steps),
            lambda: self._probe.move(gradients[1], len(corners), steps),
        )
        xp.map_chunks(lambda lane: [move() for move in moves[lane]], len(moves), pixels * len(self._filters))
        if self._frame_steps is not None:
            overlaps = np.concatenate([r.overlaps for r in results if r.overlaps is not None])
            self._frame_steps.after_batch(
                batch.frames,
                window,
                self._probe,
                self._object,
                overlaps=overlaps,
                light=light,
                step=min(1.0, steps.object_step),
            )
        return sum(result.misfit for result in results)

    def settle(self, modulus_limit: float) -> None:
        """Give the probe the power of the measured counts, the object the inverse, and clamp its modulus.

        A scale may pass from the object to the probe without any change to the frames; unless it is fixed,
        a start probe that is far off lets the object drift into the clamp.
        """
        power = self._probe.power()
        scale = math.sqrt(self._counts_per_frame / power) if power > 0 else 1.0
        if math.isfinite(scale) and scale > 0:
            self._probe.rescale(scale)
            self._object.rescale(1 / scale)
        self._xp.clamp_modulus(self._object.canvas, modulus_limit)
        if self._flat is not None:
            self._find_background(self._flat)
        if self._frame_steps is not None:
            self._frame_steps.after_epoch(self._probe, self._object)

    def variations(self) -> np.ndarray:
        """Spectra (P, L, n, n) of what each frame adds with its own weights."""
        return self._xp.to_numpy(self._probe.variations)

    def _find_background(self, flat: FlatBackground) -> None:
        """Correct the background by what some frames say."""
        frames = flat.sample(len(self._windows), self.size_px)
        if frames is None:
            return
        corners, weights = self._windows.corners[frames], self._windows.weights[frames]
        amplitude, predicted = self._comparison.predicted(
            frames, self._object.canvas, corners, self._probe.basis(), weights
        )
        flat.fit(np.square(amplitude), predicted + np.float32(self._softening))
        self._set_offset(self._softening + flat.counts)

    def _set_offset(self, counts: float) -> None:
        self._comparison.offset = counts
        if self._fused is not None:
            self._fused.offset = counts
