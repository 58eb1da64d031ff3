"""Call the compiled step on the arrays of a level."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

__all__ = ["FusedStep", "Misfit", "Steps", "layout_difference", "proximal_step", "radices_of"]

#: Of l expected and t measured counts: |sqrt(l) - sqrt(t)|, of whose square the gradient is taken; the
#: deviance of Poisson counts; 2 (sqrt(l) - sqrt(t))^2, which is the deviance where both are close and bears
#: outliers better.
Misfit = Literal["moduli", "poisson", "roots"]
_MISFITS: tuple[Misfit, ...] = get_args(Misfit)

_MOST_PASSES = 12
_MOST_THREADS = 64
_ALIGNMENT = 64
#: Fewer complex pixels than this for each thread are done sooner than the thread is started.
_PIXELS_WORTH_A_THREAD = 1 << 15


class _Plan(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_int32),
        ("n_passes", ctypes.c_int32),
        ("radices", ctypes.c_int32 * _MOST_PASSES),
        ("cosines", ctypes.c_void_p),
        ("sines", ctypes.c_void_p),
    )


class _Problem(ctypes.Structure):
    _fields_ = (
        ("plan", _Plan),
        ("n_modes", ctypes.c_int32),
        ("n_basis", ctypes.c_int32),
        ("n_threads", ctypes.c_int32),
        ("good_kind", ctypes.c_int32),
        ("offset", ctypes.c_float),
        ("misfit", ctypes.c_int32),
        ("softening", ctypes.c_float),
        ("filters", ctypes.c_void_p),
        ("shift_weights", ctypes.c_void_p),
        ("amplitude", ctypes.c_void_p),
        ("frame_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("good", ctypes.c_void_p),
        ("spectrum", ctypes.c_void_p),
        ("spectrum_velocity", ctypes.c_void_p),
        ("object", ctypes.c_void_p),
        ("object_velocity", ctypes.c_void_p),
        ("canvas_width", ctypes.c_int64),
        ("basis", ctypes.c_void_p),
        ("basis_gradient", ctypes.c_void_p),
        ("light", ctypes.c_void_p),
        ("coverage", ctypes.c_void_p),
        ("object_gradient", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("scratch_floats", ctypes.c_int64),
        ("frame_misfit", ctypes.c_void_p),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("first_frame", ctypes.c_int64),
        ("n_frames", ctypes.c_int32),
        ("corners", ctypes.c_void_p),
        ("row_start", ctypes.c_int32),
        ("row_stop", ctypes.c_int32),
        ("column_start", ctypes.c_int32),
        ("column_stop", ctypes.c_int32),
        ("object_step", ctypes.c_float),
        ("probe_step", ctypes.c_float),
        ("object_momentum", ctypes.c_float),
        ("probe_momentum", ctypes.c_float),
        ("object_floor", ctypes.c_float),
        ("gradient_only", ctypes.c_int32),
    )


class _Proximal(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("iterations", ctypes.c_int32),
        ("n_threads", ctypes.c_int32),
        ("smooth", ctypes.c_float),
        ("weight", ctypes.c_void_p),
        ("strength", ctypes.c_void_p),
        ("target", ctypes.c_void_p),
        ("image", ctypes.c_void_p),
        ("dual", ctypes.c_void_p),
        ("ahead", ctypes.c_void_p),
    )


class _Field(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("offset", ctypes.c_int32), ("size", ctypes.c_int32))


def layout_difference(library: ctypes.CDLL) -> str | None:
    """Compare the structs above with those that the library was compiled with.

    Returns:
        One line about the first that differs in size, place or name; None where all agree. A struct whose
        fields lie elsewhere would be read wrongly, and without a word.
    """
    library.ptycho_layout.restype = ctypes.POINTER(_Field)
    library.ptycho_layout.argtypes = []
    compiled: dict[str, tuple[int, int]] = {}
    for field in library.ptycho_layout():  # a pointer has no end; the entry without a name is the last
        if field.name is None:
            break
        compiled[field.name.decode()] = (field.offset, field.size)
    mirrored: dict[str, tuple[int, int]] = {}
    for mirror in (_Plan, _Problem, _Batch, _Proximal):
        struct = mirror.__name__.removeprefix("_")
        mirrored[struct] = (0, ctypes.sizeof(mirror))
        for name, *_ in mirror._fields_:
            place = getattr(mirror, name)
            mirrored[f"{struct}.{name}"] = (place.offset, place.size)
    for name in sorted(compiled | mirrored, key=lambda name: "." not in name):  # fields say more than structs
        if compiled.get(name) != mirrored.get(name):
            return f"`{name}`: {_place(compiled.get(name))} in C, {_place(mirrored.get(name))} in Python"
    return None


def _place(found: tuple[int, int] | None) -> str:
    return "nothing" if found is None else f"{found[1]} bytes at {found[0]}"


@dataclass(frozen=True)
class Steps:
    """Step sizes and momenta of one batch; a step of 0 leaves object or probe as it is."""

    object_step: float
    probe_step: float
    object_momentum: float
    probe_momentum: float


class FusedStep:
    """The step of one level: what stays the same from batch to batch, and the room it works in.

    Attributes:
        frame_misfit: (frames,) float32, the amplitude misfit of each frame when it was last seen.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        *,
        amplitude: np.ndarray,
        good: np.ndarray | None,
        filters: np.ndarray,
        shift_weights: np.ndarray,
        corners: np.ndarray,
        offset: float,
        object_floor: float,
        largest_batch: int,
        threads: int,
        misfit: Misfit = "moduli",
        softening: float = 0.0,
    ) -> None:
        """Take the level's data; nothing is copied but the corners.

        Args:
            amplitude: (frames, n, n) float32; may be a view of larger frames, with pixels side by side.
            good: weights of the pixels, (n, n) or (frames, n, n) float32, or None.
            filters: (K, n, n) complex64, zero frequency in the centre.
            shift_weights: (frames, K) float32.
            corners: (frames, 2) row and column of each window on the canvas.
            offset: counts per pixel added to every prediction.
            misfit: what is summed up and made small; `moduli` alone may be used to move.
            softening: counts added to those measured, a part of the offset; not for `moduli`.
        """
        self._library = library
        self._threads = max(1, min(threads, _MOST_THREADS))
        self._object_floor = object_floor
        self._largest_batch = largest_batch
        self._corners = np.ascontiguousarray(corners, np.int32)
        self.frame_misfit = np.zeros(len(amplitude), np.float32)
        size = amplitude.shape[-1]
        angles = -2 * np.pi * np.arange(size) / size
        table = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
        radices = radices_of(size)
        self._problem = _Problem(
            plan=_Plan(
                size=size,
                n_passes=len(radices),
                radices=(ctypes.c_int32 * _MOST_PASSES)(*radices),
                cosines=_address(table[0]),
                sines=_address(table[1]),
            ),
            n_basis=len(filters),
            good_kind=0 if good is None else good.ndim - 1,
            offset=offset,
            misfit=_MISFITS.index(misfit),
            softening=softening,
            filters=_address(filters),
            shift_weights=_address(shift_weights),
            amplitude=_address(amplitude),
            frame_stride=amplitude.strides[0] // amplitude.itemsize,
            row_stride=amplitude.strides[1] // amplitude.itemsize,
            good=None if good is None else _address(good),
            frame_misfit=_address(self.frame_misfit),
        )
        # What C reads by address must live as long as this object.
        self._kept = [table, filters, shift_weights, amplitude, good]
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
        """Return whether the kernel knows frames of this side ."""
        radices = radices_of(size_px)
        return size_px % 16 == 0 and 0 < len(radices) <= _MOST_PASSES

    def __call__(
        self,
        frames: slice,
        window: tuple[slice, slice],
        steps: Steps,
        *,
        spectrum: np.ndarray,
        spectrum_velocity: np.ndarray,
        obj: np.ndarray,
        object_velocity: np.ndarray,
    ) -> float:
        """Move object and probe, in place, down the gradient of some frames.

        Args:
            window: the rows and columns of the canvas that hold the frames of the batch.
            spectrum, spectrum_velocity: (P, n, n) complex64.
            obj, object_velocity: the canvas, complex64.
        Returns:
            The sum of the amplitude misfits before the move.
        """
        return self._run(frames, window, steps, spectrum, spectrum_velocity, obj, object_velocity)

    def gradient(
        self,
        frames: slice,
        window: tuple[slice, slice],
        *,
        spectrum: np.ndarray,
        obj: np.ndarray,
        to_spectrum: np.ndarray | None,
        to_object: np.ndarray,
    ) -> float:
        """Add up where object and probe of some frames should go; nothing moves, nothing is divided.

        Args:
            window: the rows and columns of the canvas that hold the frames of the batch.
            spectrum: (P, n, n) complex64. obj: the canvas, complex64.
            to_spectrum: (P, n, n) complex64, added to; None where the probe is held.
            to_object: (H, W) complex64, added to.
        Returns:
            The sum of the misfits.
        """
        still = Steps(1.0, 0.0 if to_spectrum is None else 1.0, 0.0, 0.0)
        probe_sum = spectrum if to_spectrum is None else to_spectrum
        return self._run(frames, window, still, spectrum, probe_sum, obj, to_object, gradient_only=True)

    def _run(
        self,
        frames: slice,
        window: tuple[slice, slice],
        steps: Steps,
        spectrum: np.ndarray,
        spectrum_velocity: np.ndarray,
        obj: np.ndarray,
        object_velocity: np.ndarray,
        *,
        gradient_only: bool = False,
    ) -> float:
        problem, n_frames = self._problem, frames.stop - frames.start
        pixels = n_frames * len(spectrum) * problem.plan.size**2
        threads = max(1, min(self._threads, n_frames // 2, pixels // _PIXELS_WORTH_A_THREAD))
        self._make_room(len(spectrum), obj.shape[1], window[0].stop - window[0].start)
        problem.n_threads = threads
        problem.spectrum, problem.spectrum_velocity = _address(spectrum), _address(spectrum_velocity)
        problem.object, problem.object_velocity = _address(obj), _address(object_velocity)
        batch = _Batch(
            first_frame=frames.start,
            n_frames=n_frames,
            corners=_address(self._corners[frames]),
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
        )
        return float(self._library.ptycho_step(ctypes.byref(problem), ctypes.byref(batch)))

    def _make_room(self, n_modes: int, canvas_width: int, window_rows: int) -> None:
        problem = self._problem
        fits = (problem.n_modes, problem.canvas_width) == (n_modes, canvas_width)
        if self._room and fits and window_rows <= self._window_rows:
            return
        self._window_rows = window_rows
        size, n_basis = problem.plan.size, problem.n_basis
        plane, threads = 2 * size * size, min(self._threads, max(1, self._largest_batch // 2))
        problem.n_modes, problem.canvas_width = n_modes, canvas_width
        floats = -(-self._library.ptycho_scratch_floats(size, n_modes, canvas_width) // 16) * 16
        problem.scratch_floats = floats
        sizes = {
            "basis": n_modes * n_basis * plane,
            "basis_gradient": threads * n_modes * n_basis * plane,
            "light": size * size,
            # A window of full width may end with the canvas; vectors read on by less than their own width.
            "coverage": window_rows * canvas_width + _ALIGNMENT,
            "object_gradient": self._largest_batch * plane,
            "scratch": threads * floats,
        }
        self._room = []
        for name, count in sizes.items():
            room = _aligned(count)
            self._room.append(room)
            setattr(problem, name, _address(room))


def proximal_step(
    library: ctypes.CDLL,
    *,
    target: np.ndarray,
    weight: np.ndarray,
    strength: np.ndarray,
    smooth: float,
    image: np.ndarray,
    dual: np.ndarray,
    iterations: int,
    threads: int,
) -> None:
    """Go some iterations towards the least of sum w |x - z|^2 + sum s phi(|grad x|), in place.

    Args:
        target: z, (H, W) complex64. weight: w, (H, W) float32. strength: s, (H, W) float32, above 0.
        smooth: phi is the modulus; below this, the parabola that continues it.
        image: x, (H, W) complex64, changed. dual: (2, H, W) complex64, changed.
    """
    rows, columns = image.shape
    ahead = np.empty_like(image)
    problem = _Proximal(
        rows=rows,
        columns=columns,
        iterations=iterations,
        n_threads=max(1, min(threads, _MOST_THREADS, rows, image.size // _PIXELS_WORTH_A_THREAD)),
        smooth=smooth,
        weight=_address(weight),
        strength=_address(strength),
        target=_address(target),
        image=_address(image),
        dual=_address(dual),
        ahead=_address(ahead),
    )
    library.ptycho_proximal(ctypes.byref(problem))


def radices_of(size: int) -> list[int]:
    """Cut a length into radices 8, 5, 4 and 3; an empty list where that cannot be."""
    threes, rest = _take_out(3, size)
    fives, rest = _take_out(5, rest)
    twos, rest = _take_out(2, rest)
    fours = (0, 2, 1)[twos % 3]
    if rest != 1 or twos < 2 * fours:
        return []
    return [8] * ((twos - 2 * fours) // 3) + [5] * fives + [4] * fours + [3] * threes


def _take_out(factor: int, number: int) -> tuple[int, int]:
    times = 0
    while number % factor == 0:
        number //= factor
        times += 1
    return times, number


def _aligned(count: int) -> np.ndarray:
    """Return float32 zeros that begin on a cache line."""
    room = np.zeros(count + _ALIGNMENT // 4, np.float32)
    return room[(-room.ctypes.data % _ALIGNMENT) // 4 :][:count]


def _address(values: np.ndarray) -> int:
    return int(values.__array_interface__["data"][0])
