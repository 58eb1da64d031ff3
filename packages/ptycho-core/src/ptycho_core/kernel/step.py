"""Call the compiled step on the arrays of a level."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from ptycho_core.coded_frames import CodedFrames
from ptycho_core.kernel.structs import (
    ALIGNMENT,
    MOST_THREADS,
    Batch,
    Problem,
    Strain,
    address,
    aligned,
    plan_of,
    threads_for,
    transforms,
)

__all__ = [
    "BatchResult",
    "FusedStep",
    "Misfit",
    "Steps",
]

#: Of l expected and t measured counts: |sqrt(l) - sqrt(t)|, of whose square the gradient is taken; the
#: deviance of Poisson counts; 2 (sqrt(l) - sqrt(t))^2, which is the deviance where both are close and bears
#: outliers better.
Misfit = Literal["moduli", "poisson", "roots"]
_MISFITS: tuple[Misfit, ...] = get_args(Misfit)


#: Of the probe, and variations of each; see problem.h.
_MOST_MODES = 16


@dataclass(frozen=True)
class Steps:
    """Step sizes and momenta of one batch; a step of 0 leaves object or probe as it is."""

    object_step: float
    probe_step: float
    object_momentum: float
    probe_momentum: float


@dataclass(frozen=True, eq=False)
class BatchResult:
    """What a step found out about the frames of a batch, before it moved anything.

    Attributes:
        misfit: the sum of their misfits.
        overlaps: (frames, (1 + L) K) float32 of the pulled-back misfit with the basis functions, where asked
            for. Of a probe that varies, and with lines, (frames, 1 + L + K): the overlaps with each spectrum,
            moved as the frame is, and with each function of the frame's own mixture of the spectra.
        curvature: (frames, 2, 2) float64 of the misfit by each position, in pixels of the canvas, where asked
            for; the light is that before the step, the object that after it.
    """

    misfit: float
    overlaps: np.ndarray | None = None
    curvature: np.ndarray | None = None


class FusedStep:
    """The step of one level: what stays the same from batch to batch, and the room it works in.

    Attributes:
        frame_misfit: (frames,) float32, the amplitude misfit of each frame when it was last seen.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        *,
        amplitude: np.ndarray | CodedFrames,
        good: np.ndarray | None,
        filters: np.ndarray,
        offset: float,
        object_floor: float,
        largest_batch: int,
        threads: int,
        misfit: Misfit = "moduli",
        softening: float = 0.0,
        lines: np.ndarray | None = None,
    ) -> None:
        """Take the level's data; nothing is copied.

        Args:
            amplitude: (frames, n, n) float32, or coded; may be a view of larger frames, with pixels side by
                side.
            good: weights of the pixels, (n, n) or (frames, n, n) float32, or None.
            filters: (K, n, n) complex64, zero frequency in the centre.
            offset: counts per pixel added to every prediction.
            misfit: what is summed up and made small; `moduli` alone may be used to move.
            softening: counts added to those measured, a part of the offset; not for `moduli`.
            lines: (degree + 1, n) float32, see `shift_lines`; with them variations of the probe cost less.
        """
        self._library = library
        self._threads = max(1, min(threads, MOST_THREADS))
        self._object_floor = object_floor
        self._largest_batch = largest_batch
        self.frame_misfit = np.zeros(len(amplitude), np.float32)
        if isinstance(amplitude, CodedFrames):
            measured, step, added = amplitude.codes, amplitude.step, amplitude.added
        else:
            measured, step, added = amplitude, None, 0.0
        plan, table = plan_of(measured.shape[-1])
        self._problem = Problem(
            plan=plan,
            n_filters=len(filters),
            good_kind=0 if good is None else good.ndim - 1,
            offset=offset,
            misfit=_MISFITS.index(misfit),
            softening=softening,
            filters=address(filters),
            amplitude=address(measured),
            code_step=None if step is None else address(step),
            code_added=added,
            frame_stride=measured.strides[0] // measured.itemsize,
            row_stride=measured.strides[1] // measured.itemsize,
            good=None if good is None else address(good),
            frame_misfit=address(self.frame_misfit),
        )
        # What C reads by address must live as long as this object.
        self._kept = [table, filters, measured, step, good]
        self._lines = lines
        self._room: list[np.ndarray] = []
        self._window_rows = 0

    @property
    def offset(self) -> float:
        """Counts per pixel added to every prediction."""
        return float(self._problem.offset)

    @offset.setter
    def offset(self, counts: float) -> None:
        self._problem.offset = counts

    @staticmethod
    def fits(size_px: int) -> bool:
        """Return whether the kernel knows frames of this side: 2, 3, 5 and 7 are its only prime factors."""
        return transforms(size_px)

    def __call__(
        self,
        frames: slice,
        window: tuple[slice, slice],
        steps: Steps,
        *,
        corners: np.ndarray,
        weights: np.ndarray,
        spectrum: np.ndarray,
        spectrum_velocity: np.ndarray,
        obj: np.ndarray,
        object_velocity: np.ndarray,
        variations: np.ndarray | None = None,
        with_overlaps: bool = False,
        with_curvature: bool = False,
    ) -> BatchResult:
        """Move object and probe, in place, down the gradient of some frames.

        Args:
            window: the rows and columns of the canvas that hold the frames of the batch.
            corners: (frames, 2) row and column of their windows on the canvas.
            weights: (frames, (1 + L) K) float32 of the basis functions.
            spectrum, spectrum_velocity: (P, n, n) complex64.
            obj, object_velocity: the canvas, complex64.
            variations: (P, L, n, n) complex64, moved as well; None where there are none.

        Raises:
            ValueError: a window does not lie on the canvas.
        """
        return self._run(
            frames,
            window,
            steps,
            (corners, weights),
            (spectrum, spectrum_velocity, variations),
            (obj, object_velocity),
            with_overlaps=with_overlaps,
            with_curvature=with_curvature,
        )

    def gradient(
        self,
        frames: slice,
        window: tuple[slice, slice],
        *,
        corners: np.ndarray,
        weights: np.ndarray,
        spectrum: np.ndarray,
        obj: np.ndarray,
        to_spectrum: np.ndarray | None,
        to_object: np.ndarray,
        variations: np.ndarray | None = None,
    ) -> float:
        """Add up where object and probe of some frames should go; nothing moves, nothing is divided.

        Args:
            window: the rows and columns of the canvas that hold the frames of the batch.
            corners, weights: as those of a step.
            spectrum: (P, n, n) complex64. obj: the canvas, complex64.
            to_spectrum: (P, n, n) complex64, added to; None where the probe is held.
            to_object: (H, W) complex64, added to.
            variations: (P, L, n, n) complex64, held.
        Returns:
            The sum of the misfits.
        """
        still = Steps(1.0, 0.0 if to_spectrum is None else 1.0, 0.0, 0.0)
        probe_sum = spectrum if to_spectrum is None else to_spectrum
        return self._run(
            frames,
            window,
            still,
            (corners, weights),
            (spectrum, probe_sum, variations),
            (obj, to_object),
            gradient_only=True,
        ).misfit

    def _run(
        self,
        frames: slice,
        window: tuple[slice, slice],
        steps: Steps,
        placed: tuple[np.ndarray, np.ndarray],
        probe: tuple[np.ndarray, np.ndarray, np.ndarray | None],
        canvas: tuple[np.ndarray, np.ndarray],
        *,
        gradient_only: bool = False,
        with_overlaps: bool = False,
        with_curvature: bool = False,
    ) -> BatchResult:
        problem, n_frames, size = self._problem, frames.stop - frames.start, self._problem.plan.size
        (spectrum, spectrum_velocity, variations), (obj, object_velocity) = probe, canvas
        corners = np.ascontiguousarray(placed[0], np.int32)
        weights = np.ascontiguousarray(placed[1], np.float32)
        if len(spectrum) > _MOST_MODES or (variations is not None and variations.shape[1] > _MOST_MODES):
            raise ValueError(f"the compiled step knows {_MOST_MODES} modes and as many variations at most")
        if (corners < 0).any() or (corners > np.subtract(obj.shape, size)).any():
            raise ValueError("the window of a frame does not lie on the canvas")
        pixels = n_frames * len(spectrum) * size**2
        threads = threads_for(self._threads, pixels, n_frames // 2)
        n_variations = 0 if variations is None else variations.shape[1]
        lines = self._lines if n_variations else None
        problem.lines = None if lines is None else address(lines)
        problem.degree = 0 if lines is None else len(lines) - 1
        self._make_room(len(spectrum), n_variations, obj.shape[1], window[0].stop - window[0].start)
        problem.n_threads = threads
        problem.spectrum, problem.spectrum_velocity = address(spectrum), address(spectrum_velocity)
        problem.variations = address(variations) if variations is not None and n_variations else None
        problem.object, problem.object_velocity = address(obj), address(object_velocity)
        said = weights.shape[1] if lines is None else 1 + n_variations + problem.n_filters
        overlaps = np.empty((n_frames, said), np.float32) if with_overlaps else None
        curvature = np.empty((n_frames, 3), np.float32) if with_curvature else None
        batch = Batch(
            first_frame=frames.start,
            n_frames=n_frames,
            corners=address(corners),
            weights=address(weights),
            row_start=window[0].start,
            row_stop=window[0].stop,
            column_start=window[1].start,
            column_stop=window[1].stop,
            object_step=steps.object_step,
            probe_step=steps.probe_step,
            object_momentum=steps.object_momentum,
            probe_momentum=steps.probe_momentum,
            object_floor=self._object_floor,
            gradient_only=gradient_only,
            overlaps=None if overlaps is None else address(overlaps),
            curvature=None if curvature is None else address(curvature),
        )
        misfit = float(self._library.ptycho_step(ctypes.byref(problem), ctypes.byref(batch)))
        bend = None if curvature is None else curvature[:, [[0, 1], [1, 2]]].astype(np.float64)
        return BatchResult(misfit, overlaps, bend)

    def last_coverage(self, window: tuple[slice, slice]) -> Float32[np.ndarray, "h w"]:
        """Return the light that the last batch put on its part of the canvas; the next step overwrites it.

        Args:
            window: of that batch.
        """
        rows = window[0].stop - window[0].start
        stride = self._problem.canvas_width + self._library.ptycho_vector_width()
        return self._coverage[: rows * stride].reshape(rows, stride)[:, window[1]]

    def strain(
        self,
        frames: np.ndarray,
        phases: np.ndarray,
        *,
        corners: np.ndarray,
        weights: np.ndarray,
        spectrum: np.ndarray,
        variations: np.ndarray,
        obj: np.ndarray,
        count: float,
    ) -> np.ndarray:
        """Return how some frames change with a strain and with phases of the spectrum.

        Args:
            frames: (F,) int64, their numbers.
            phases: (3, n, n) float32 of the spectrum.
            corners, weights: as those of a step, of these frames; two pixels of canvas lie around windows.
            spectrum: (P, n, n) complex64. variations: (P, L, n, n) complex64. obj: the canvas, complex64.
            count: added to the expected counts where they divide.
        Returns:
            (8, 8) float64 of inner products: of the derivatives of the counts by the strain (yy, yx, xy, xx),
            by the three phases, and of half what the counts are off by; each over the root of the counts.
        """
        n_modes, n_variations = variations.shape[:2]
        size, lines = self._problem.plan.size, self._lines
        if lines is None:
            raise ValueError("a strain needs the lines of the filters")
        corners = np.ascontiguousarray(corners, np.int32)
        weights = np.ascontiguousarray(weights, np.float32)
        frames, phases = np.ascontiguousarray(frames, np.int64), np.ascontiguousarray(phases, np.float32)
        if (corners < 2).any() or (corners > np.subtract(obj.shape, size + 2)).any():
            raise ValueError("the window of a frame does not lie within the canvas")
        problem = Problem.from_buffer_copy(self._problem)
        problem.n_modes, problem.n_variations, problem.canvas_width = n_modes, n_variations, obj.shape[1]
        problem.lines, problem.degree = address(lines), len(lines) - 1
        problem.spectrum, problem.object = address(spectrum), address(obj)
        problem.variations = address(variations) if n_variations else None
        threads = threads_for(self._threads, 8 * len(frames) * n_modes * size**2, len(frames))
        floats = -(-self._library.ptycho_strain_floats(size) // 16) * 16
        scratch = aligned(threads * floats)
        normal = np.zeros((threads, 8, 8))
        strain = Strain(
            n_frames=len(frames),
            n_threads=threads,
            count=count,
            frames=address(frames),
            corners=address(corners),
            weights=address(weights),
            phases=address(phases),
            scratch=address(scratch),
            scratch_floats=floats,
            normal=address(normal),
        )
        self._library.ptycho_strain(ctypes.byref(problem), ctypes.byref(strain))
        lower = normal.sum(axis=0)
        return lower + np.tril(lower, -1).T

    def _make_room(self, n_modes: int, n_variations: int, canvas_width: int, window_rows: int) -> None:
        problem = self._problem
        have = (problem.n_modes, problem.n_variations, problem.canvas_width)
        if self._room and have == (n_modes, n_variations, canvas_width) and window_rows <= self._window_rows:
            return
        self._window_rows = window_rows
        n_basis = (1 if problem.lines else problem.n_filters) * (1 + n_variations)
        plane = self._library.ptycho_plane_floats(problem.plan.size)
        threads = min(self._threads, max(1, self._largest_batch // 2))
        problem.n_modes, problem.n_variations, problem.canvas_width = n_modes, n_variations, canvas_width
        floats = self._library.ptycho_scratch_floats(problem.plan.size, n_modes, canvas_width)
        problem.scratch_floats = -(-floats // 16) * 16
        sizes = {
            "basis": n_modes * n_basis * 2 * plane,
            "basis_gradient": threads * n_modes * n_basis * 2 * plane,
            "light": plane,
            # Vectors read on behind a row by less than their own width, which is one of these at most.
            "coverage": window_rows * (canvas_width + ALIGNMENT // 4),
            "object_gradient": self._largest_batch * 2 * plane,
            "scratch": threads * problem.scratch_floats,
        }
        self._room = []
        for name, count in sizes.items():
            room = aligned(count)
            self._room.append(room)
            if name == "coverage":
                self._coverage = room
            setattr(problem, name, address(room))
