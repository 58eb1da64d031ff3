"""One resolution level: its share of the data, the present state of its solution, and one step of descent.

At level n the solver sees the n central frequencies of every pattern and of the probe's spectrum. That is
a complete, smaller problem whose object pixel is N/n times as large.

Source: object and probe move together, as in A. M. Maiden and J. M. Rodenburg, Ultramicroscopy 109 (2009)
1256, 10.1016/j.ultramic.2009.05.012; a batch of frames at a time, as in M. Odstrčil, A. Menzel and
M. Guizar-Sicairos, Opt. Express 26 (2018) 3108, 10.1364/OE.26.003108.
Formulas: docs/reference/physics.md, "The step".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float32

from ptycho_core.arrays import Array, Arrays
from ptycho_core.coded_frames import CodedFrames, counts_added, frame_sums
from ptycho_core.kernel import FusedStep, Misfit, Steps
from ptycho_core.physics.canvas import light_on
from ptycho_core.scan.dose import central
from ptycho_core.solver.background import FlatBackground
from ptycho_core.solver.batches import Batch, cut_evenly
from ptycho_core.solver.frame_parameters import FrameParameters, FrameValues
from ptycho_core.solver.frame_updates import FrameUpdates, position_curvature
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.misfit import AmplitudeMisfit, Gradients
from ptycho_core.solver.shifts import DEGREE, shift_filters, shift_lines
from ptycho_core.solver.state import ObjectState, ProbeState, Solution
from ptycho_core.solver.team import ON_ITS_OWN, Team
from ptycho_core.solver.tiles import Tiles
from ptycho_core.solver.windows import MARGIN_PX, Windows

__all__ = ["OBJECT_LIMIT", "FullGradient", "Level", "LevelState"]

#: The square root of Poisson counts is too small on the mean where they are few; with this added it is not.
#: A bias there makes the object look smoother, and a smoother object is a stretched scan.
#: Source: F. J. Anscombe, Biometrika 35 (1948) 246, 10.1093/biomet/35.3-4.246.
_ANSCOMBE = 0.375
#: No object transmits more than this.
OBJECT_LIMIT = 2.0
#: Several ranks agree on object and probe so often in an epoch: about as often as a frame's neighbours move
#: what it sees. Fewer times cost a part of the image (docs/decisions/0027-one-scan-over-several-ranks.md).
_ROUNDS = 12


@dataclass(frozen=True, eq=False)
class LevelState:
    """A copy of all that a step or the end of an epoch changes, to go back to.

    Attributes:
        spectra: (P, n, n) of the probe, on the device.
        variations: (P, L, n, n) of its variations, on the device.
        object: (H, W) of the canvas; a large one lies in a file.
        frame_values: None where frames have no parameters.
        offset: counts per pixel added to every prediction.
    """

    spectra: Array
    variations: Array
    object: Array
    frame_values: FrameValues | None
    offset: float


@dataclass(frozen=True, eq=False)
class FullGradient:
    """The misfit of all frames of a level and the way down, on the device.

    Attributes:
        to_object: (H, W) complex. to_spectrum: (P, n, n) complex, None where the probe is held.
    """

    misfit: float
    to_object: Array
    to_spectrum: Array | None


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
        parameters: FrameParameters | None = None,
        margin_px: int = MARGIN_PX,
        stabilised: bool = False,
        shape: tuple[int, int] | None = None,
        counts_per_frame: float | None = None,
        flat: FlatBackground | None = None,
        misfit: Misfit = "moduli",
        count_softening: float = 0.0,
        team: Team = ON_ITS_OWN,
    ) -> None:
        """Take what the level sees of the frames.

        Args:
            frames: in the order of their batches.
            background: flat counts per pixel added to every prediction.
            softening: counts per pixel that keep the square root smooth at zero.
            shift_px: (y, x) by which all positions are moved on the canvas, in pixels of the full detector.
            degree: of the series for sub-pixel shifts; a lower one is faster and less exact.
            parameters: of the frames; they are changed by the steps.
            margin_px: canvas pixels around the windows of all frames.
            stabilised: compare the roots of counts + 3/8, whose mean is hardly biased where counts are few.
            shape: of the canvas, where it is larger than these frames need.
            counts_per_frame: that the probe has to have; the mean of these frames by default.
            flat: a background to find on the way, in place of `background`; it is changed by `settle`.
            misfit: what is summed up and made small; with another than `moduli` nothing can be moved, there
                is `gradient` alone, and the parameters of the frames are held.
            count_softening: counts added to those measured and to those expected; not for `moduli`.
            team: the ranks that have the other frames. Canvas and windows are those of this rank's tile.
        """
        self.size_px = size_px
        self.batches = batches
        self._xp = arrays
        self._parameters, self._flat = parameters, flat
        self._softening = softening
        self._object_floor, self._degree = object_floor, degree
        self._filters = arrays.asarray(shift_filters(size_px, degree))
        self._windows = Windows(
            frames,
            arrays,
            size_px=size_px,
            shift_px=shift_px,
            degree=degree,
            parameters=parameters,
            margin_px=margin_px,
            shape=shape,
            team=team,
        )
        self._team, self._part = team, len(frames) / team.total(float(len(frames)))
        self._rounds = min(_ROUNDS, round(team.largest(float(len(batches)))))
        self._batch_windows = [self._windows.of(batch) for batch in batches]
        amplitude, good = frames.seen_at(size_px)
        offset = softening + (background if flat is None else flat.counts)
        self._kind: Misfit = misfit
        self.count_softening = count_softening
        if misfit != "moduli":
            offset += count_softening - softening
        if stabilised:
            amplitude = counts_added(amplitude, _ANSCOMBE)
            self._softening += _ANSCOMBE
            offset += _ANSCOMBE
        self._measured, counts = frame_sums(amplitude)  # bad pixels are 0
        self.total_amplitude = team.total(float(self._measured.sum()))
        self._counts_per_frame = counts_per_frame or team.mean(counts)
        self._misfit = AmplitudeMisfit(
            arrays, amplitude, good, offset=offset, kind=misfit, softening=count_softening
        )
        self._fused = self._fuse(amplitude, good)
        self._frame_updates = None
        if parameters is not None:
            self._frame_updates = FrameUpdates(
                parameters, arrays, self._windows, self._misfit, counts, degree=degree, fused=self._fused
            )

    def _fuse(self, amplitude: np.ndarray | CodedFrames, good: np.ndarray | None) -> FusedStep | None:
        """Return the compiled step where the arrays bring one and it knows this size."""
        library = self._xp.kernel
        if library is None or not FusedStep.fits(self.size_px):
            return None
        return FusedStep(
            library,
            amplitude=amplitude,
            good=good,
            filters=self._xp.to_numpy(self._filters),
            offset=self._misfit.offset,
            object_floor=self._object_floor,
            largest_batch=max(batch.frames.stop - batch.frames.start for batch in self.batches),
            threads=self._xp.threads,
            misfit=self._kind,
            softening=self.count_softening,
            lines=shift_lines(self.size_px, self._degree),
        )

    @property
    def scale(self) -> float:
        """Canvas pixels per pixel of the full detector."""
        return self._windows.scale

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the canvas, or of this rank's tile of it."""
        return self._windows.shape

    @property
    def tiles(self) -> Tiles:
        """Where this rank's tile lies among the others."""
        return self._windows.tiles

    @property
    def spectrum(self) -> Array:
        """The probe's spectra (P, n, n), on the device."""
        return self._probe.spectrum

    @property
    def object(self) -> Array:
        """The canvas (H, W), on the device."""
        return self._object.canvas

    def solution(self, before: Solution, *, passing: bool = False) -> Solution:
        """Return a copy of object and probe as they are now.

        Args:
            before: the solution that this level began with, whose outer frequencies it does not see.
            passing: the copy is not kept for long; a large object lies in a file.
        """
        xp, crop = self._xp, central(self.size_px, before.spectra.shape[-1])
        spectra, variations = before.spectra.copy(), before.variations.copy()
        spectra[:, crop, crop] = xp.to_numpy(self._probe.spectrum)
        variations[:, :, crop, crop] = xp.to_numpy(self._probe.variations)
        obj = self._object.kept() if passing else xp.to_numpy(self._object.canvas)
        return replace(
            before,
            spectra=spectra,
            variations=variations,
            object=obj if isinstance(obj, np.ndarray) else xp.to_numpy(obj),
            scale=self.scale,
            corner=self.tiles.origin,
        )

    def start(
        self, spectrum: np.ndarray, obj: np.ndarray | None = None, variations: np.ndarray | None = None
    ) -> None:
        """Take a probe spectrum (P, n, n) and an object (transparent by default) as the present state.

        Args:
            variations: spectra (P, L, n, n) that each frame adds with its weights; 0 by default.
        """
        if variations is None:
            count = 0 if self._parameters is None else self._parameters.model.variations
            variations = np.zeros((len(spectrum), count, self.size_px, self.size_px), np.complex64)
        canvas = np.ones(self.shape, np.complex64) if obj is None else obj
        self._probe = ProbeState(self._xp, self._filters, spectrum, variations)
        self._object = ObjectState(self._xp, canvas, self._object_floor)
        if self._team.several:
            self.tiles.as_owned(self._xp, (self._object.canvas,))

    def state(self) -> LevelState:
        """Return a copy of the present state."""
        return LevelState(
            spectra=self._xp.copy(self._probe.spectrum),
            variations=self._xp.copy(self._probe.variations),
            object=self._object.kept(),
            frame_values=None if self._parameters is None else self._parameters.values(),
            offset=self._misfit.offset,
        )

    def restore(self, state: LevelState) -> None:
        """Go back to a copied state, at rest."""
        self._probe.spectrum = self._xp.copy(state.spectra)
        self._probe.variations = self._xp.copy(state.variations)
        self._object.put_back(state.object)
        if self._parameters is not None and state.frame_values is not None:
            self._parameters.restore(state.frame_values)
            self._windows.place(self._parameters)
        if self._flat is not None:
            self._flat.counts = state.offset - self._softening
            self._set_offset(state.offset)
        self._probe.rest()
        self._object.rest()

    def rounds(self, random: np.random.Generator) -> Iterator[tuple[int, list[int]]]:
        """Yield the batches of an epoch in random order, each a few that are gone through before ranks agree.

        Returns:
            How many are done then, and the batches: one at a time for a rank alone, else as many rounds on
            every rank.
        """
        order, done = random.permutation(len(self.batches)).tolist(), 0
        if not self._team.several:
            yield from ((done, [index]) for done, index in enumerate(order, 1))
            return
        self._object.watch()
        for run in cut_evenly(slice(0, len(order)), self._rounds):
            done += run.stop - run.start
            yield done, order[run]

    def agreed(self, misfit: float) -> float:
        """Agree with the other ranks on object and probe; return the misfit of all of them."""
        if not self._team.several:
            return misfit
        self._agree_on_probe()
        self._agree_on_object()
        return self._team.total(misfit)

    def _agree_on_probe(self) -> None:
        """Take the mean probe, each rank's by the number of its frames; and its velocity."""
        xp, probe = self._xp, self._probe
        for name in ("spectrum", "velocity", "variations"):
            own = xp.to_numpy(getattr(probe, name))
            mean = self._team.total(own * np.float32(self._part))
            setattr(probe, name, xp.asarray(np.ascontiguousarray(mean)))

    def _agree_on_object(self) -> None:
        """Take the mean of object and velocity where tiles overlap, by the light of each rank's batches."""
        state = self._object
        self.tiles.averaged(self._xp, (state.canvas, state.velocity), self._xp.to_numpy(state.seen))
        state.watch()

    def step(self, index: int, steps: Steps) -> float:
        """Move object and probe down the gradient of one batch; return the sum of its amplitude misfits.

        The residual was measured while predicting, before the move, and so costs nothing.
        """
        xp, frames, window = self._xp, self.batches[index].frames, self._batch_windows[index]
        moving, frame_step = self._frame_updates, min(1.0, steps.object_step)
        if self._fused is not None:
            found = self._fused(
                frames,
                window,
                steps,
                **self._placed(frames),
                spectrum=xp.host_view(self._probe.spectrum),
                spectrum_velocity=xp.host_view(self._probe.velocity),
                variations=xp.host_view(self._probe.variations),
                obj=xp.host_view(self._object.canvas),
                object_velocity=xp.host_view(self._object.velocity),
                with_overlaps=moving is not None,
                with_curvature=moving is not None and moving.positions_move,
            )
            if self._object.seen is not None:
                self._object.seen[window] += self._xp.asarray(self._fused.last_coverage(window))
            if moving is not None and found.overlaps is not None:
                moving.after_batch(
                    frames, overlaps=found.overlaps, curvature=found.curvature, step=frame_step
                )
            return found.misfit
        corners = self._windows.corners[frames] - (window[0].start, window[1].start)
        canvas = self._object.canvas[window]
        basis, light = self._probe.basis(), self._probe.light()
        pixels = self._probe.spectrum.shape[0] * self.size_px**2
        work = partial(self._gradients, frames.start, canvas, corners, basis)
        chunks = xp.map_chunks(work, len(corners), pixels)
        object_parts = [gradients.object_gradient for gradients in chunks]
        probe_parts = [gradients.basis_gradient for gradients in chunks]
        moves = (
            partial(self._object.move, window, corners, light, object_parts, steps),
            partial(self._probe.move, probe_parts, len(corners), steps),
        )
        # Neither looks at the other, so two threads may move them at the same time.
        xp.map_chunks(partial(_call, moves), len(moves), pixels * len(self._filters))
        if moving is not None:
            overlaps = np.concatenate([part.overlaps for part in chunks if part.overlaps is not None])
            curvature = None
            if moving.positions_move:
                curvature = position_curvature(xp, self._object.canvas[window], corners, light)
            moving.after_batch(frames, overlaps=overlaps, curvature=curvature, step=frame_step)
        return sum(part.misfit for part in chunks)

    def _placed(self, frames: slice) -> dict[str, np.ndarray]:
        """Where some frames lie now, as the compiled step takes it."""
        weights = self._xp.host_view(self._windows.weights)
        return {"corners": self._windows.corners[frames], "weights": weights[frames]}

    def _gradients(
        self, first: int, canvas: Array, corners: np.ndarray, basis: Array, chunk: slice
    ) -> Gradients:
        """Return the gradients of some frames of a batch.

        Args:
            first: number of the batch's first frame. corners: of all its windows on its part of the canvas.
        """
        part = slice(first + chunk.start, first + chunk.stop)
        patches = self._xp.cut(canvas, corners[chunk], self.size_px)
        weights, with_overlaps = self._windows.weights[part], self._parameters is not None
        return self._misfit.gradients(part, patches, basis, weights, with_overlaps=with_overlaps)

    def gradient(self, obj: Array, spectrum: Array, *, with_probe: bool) -> FullGradient:
        """Return the misfit of all frames, and the way down, for an object (H, W) and spectra (P, n, n).

        Nothing is moved, and the way down is divided by nothing; the parameters of the frames are held.
        """
        xp = self._xp
        to_object = xp.zeros(self.shape, complex_values=True)
        to_spectrum = xp.zeros(tuple(spectrum.shape), complex_values=True) if with_probe else None
        misfit = 0.0
        if self._fused is not None:
            for batch, window in zip(self.batches, self._batch_windows, strict=True):
                misfit += self._fused.gradient(
                    batch.frames,
                    window,
                    **self._placed(batch.frames),
                    spectrum=xp.host_view(spectrum),
                    variations=xp.host_view(self._probe.variations),
                    obj=xp.host_view(obj),
                    to_spectrum=None if to_spectrum is None else xp.host_view(to_spectrum),
                    to_object=xp.host_view(to_object),
                )
            return self._of_all_ranks(misfit, to_object, to_spectrum)
        self._probe.spectrum = spectrum
        basis = self._probe.basis()
        pixels = spectrum.shape[0] * self.size_px**2
        for batch, window in zip(self.batches, self._batch_windows, strict=True):
            corners = self._windows.corners[batch.frames] - (window[0].start, window[1].start)
            work = partial(self._gradients, batch.frames.start, obj[window], corners, basis)
            start = 0
            for part in xp.map_chunks(work, len(corners), pixels):
                stop = start + len(part.object_gradient)
                xp.add_patches(to_object[window], corners[start:stop], part.object_gradient)
                start, misfit = stop, misfit + part.misfit
                if to_spectrum is not None:
                    to_spectrum += self._probe.pulled_back(part.basis_gradient)
        return self._of_all_ranks(misfit, to_object, to_spectrum)

    def _of_all_ranks(self, misfit: float, to_object: Array, to_spectrum: Array | None) -> FullGradient:
        self.tiles.summed(self._xp, (to_object,))
        if to_spectrum is not None and self._team.several:
            to_spectrum = self._xp.asarray(self._team.total(self._xp.to_numpy(to_spectrum)))
        return FullGradient(self._team.total(misfit), to_object, to_spectrum)

    def coverage(self, spectrum: Array) -> Array:
        """Return the light (H, W) that a probe with spectra (P, n, n) puts on each pixel of the canvas.

        Each frame's light lies at its whole pixel, with the frame's intensity.
        """
        light = self._own_light(spectrum)
        self.tiles.summed(self._xp, (light,))
        return light

    def _own_light(self, spectrum: Array) -> Array:
        """Return the light (H, W) of this rank's frames alone."""
        xp = self._xp
        light = xp.to_numpy(xp.intensity(xp.ifft2(xp.copy(spectrum))[:, None])[0])
        weight = None
        if self._parameters is not None and self._parameters.model.intensity:
            weight = np.square(self._parameters.weights[:, 0])
        return xp.asarray(light_on(self._windows.corners, light, self.shape, weight=weight))

    def frame_residual(self) -> Float32[np.ndarray, " frame"] | None:
        """Return R of each frame when the compiled step last saw it; None where there is no such step.

        It was measured before the move of the frame's batch, and so costs nothing.
        """
        if self._fused is None:
            return None
        found = np.full(len(self._measured), np.nan, np.float32)
        seen = self._measured > 0
        found[seen] = self._fused.frame_misfit[seen] / self._measured[seen]
        return found

    def frames_are_at_rest(self, px: float) -> bool:
        """Whether the positions of the frames are refined, and half of them move by no more than that now."""
        return self._parameters is not None and self._parameters.at_rest(px)

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
        if self._frame_updates is not None:
            self._frame_updates.after_epoch(self._probe, self._object)

    def _find_background(self, flat: FlatBackground) -> None:
        """Correct the background by the counts of some frames."""
        frames = flat.sample(len(self._windows), self.size_px)
        if frames is None:
            return
        corners, weights = self._windows.corners[frames], self._windows.weights[frames]
        amplitude, predicted = self._misfit.predicted(
            frames, self._object.canvas, corners, self._probe.basis(), weights
        )
        flat.fit(np.square(amplitude), predicted + np.float32(self._softening), self._team)
        self._set_offset(self._softening + flat.counts)

    def _set_offset(self, counts: float) -> None:
        self._misfit.offset = counts
        if self._fused is not None:
            self._fused.offset = counts


def _call(moves: Sequence[Callable[[], None]], chosen: slice) -> None:
    for move in moves[chosen]:
        move()
