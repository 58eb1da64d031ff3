"""The structs that Python and C share, room for what lies behind them, and the comparison of both sides."""

from __future__ import annotations

import ctypes

import numpy as np

__all__ = [
    "ALIGNMENT",
    "MOST_THREADS",
    "Batch",
    "Places",
    "Problem",
    "Proximal",
    "Strain",
    "address",
    "aligned",
    "layout_difference",
    "plan_of",
    "radices_of",
    "threads_for",
    "transforms",
]

MOST_PASSES = 12
MOST_THREADS = 64
#: Bytes of a cache line.
ALIGNMENT = 64
#: Fewer complex pixels than this for each thread are done sooner than the thread is started.
_PIXELS_WORTH_A_THREAD = 1 << 15


class Plan(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_int32),
        ("n_passes", ctypes.c_int32),
        ("radices", ctypes.c_int32 * MOST_PASSES),
        ("cosines", ctypes.c_void_p),
        ("sines", ctypes.c_void_p),
    )


class Problem(ctypes.Structure):
    _fields_ = (
        ("plan", Plan),
        ("n_modes", ctypes.c_int32),
        ("n_filters", ctypes.c_int32),
        ("n_variations", ctypes.c_int32),
        ("n_threads", ctypes.c_int32),
        ("good_kind", ctypes.c_int32),
        ("offset", ctypes.c_float),
        ("misfit", ctypes.c_int32),
        ("softening", ctypes.c_float),
        ("filters", ctypes.c_void_p),
        ("degree", ctypes.c_int32),
        ("lines", ctypes.c_void_p),
        ("amplitude", ctypes.c_void_p),
        ("code_step", ctypes.c_void_p),
        ("code_added", ctypes.c_float),
        ("frame_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("good", ctypes.c_void_p),
        ("spectrum", ctypes.c_void_p),
        ("spectrum_velocity", ctypes.c_void_p),
        ("variations", ctypes.c_void_p),
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


class Batch(ctypes.Structure):
    _fields_ = (
        ("first_frame", ctypes.c_int64),
        ("n_frames", ctypes.c_int32),
        ("corners", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
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
        ("overlaps", ctypes.c_void_p),
        ("curvature", ctypes.c_void_p),
    )


class Proximal(ctypes.Structure):
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


class Strain(ctypes.Structure):
    _fields_ = (
        ("n_frames", ctypes.c_int32),
        ("n_threads", ctypes.c_int32),
        ("count", ctypes.c_float),
        ("frames", ctypes.c_void_p),
        ("corners", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("phases", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("scratch_floats", ctypes.c_int64),
        ("normal", ctypes.c_void_p),
    )


class Places(ctypes.Structure):
    _fields_ = (
        ("plan", Plan),
        ("frame_px", ctypes.c_int32),
        ("n_modes", ctypes.c_int32),
        ("n_frames", ctypes.c_int32),
        ("n_places", ctypes.c_int32),
        ("probes", ctypes.c_void_p),
        ("object", ctypes.c_void_p),
        ("canvas_width", ctypes.c_int64),
        ("corners", ctypes.c_void_p),
        ("amplitude", ctypes.c_void_p),
        ("good", ctypes.c_void_p),
        ("good_stride", ctypes.c_int64),
        ("scratch", ctypes.c_void_p),
        ("misfits", ctypes.c_void_p),
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
    for mirror in (Plan, Problem, Batch, Proximal, Strain, Places):
        struct = mirror.__name__
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


def transforms(size_px: int) -> bool:
    """Return whether the kernel transforms this side: 2, 3, 5 and 7 are its only prime factors."""
    return 0 < len(radices_of(size_px)) <= MOST_PASSES


def plan_of(size_px: int) -> tuple[Plan, np.ndarray]:
    """Return the plan of a transform, and the table that it points to, which must live as long."""
    angles = -2 * np.pi * np.arange(size_px) / size_px
    table = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    radices = radices_of(size_px)
    plan = Plan(
        size=size_px,
        n_passes=len(radices),
        radices=(ctypes.c_int32 * MOST_PASSES)(*radices),
        cosines=address(table[0]),
        sines=address(table[1]),
    )
    return plan, table


def radices_of(size: int) -> list[int]:
    """Cut a length into radices 8, 7, 5, 4, 3 and 2; an empty list where that cannot be."""
    sevens, rest = _take_out(7, size)
    fives, rest = _take_out(5, rest)
    threes, rest = _take_out(3, rest)
    twos, rest = _take_out(2, rest)
    if rest != 1:
        return []
    pairs = min((0, 2, 1)[twos % 3], twos // 2)
    eights, one = divmod(twos - 2 * pairs, 3)
    return [8] * eights + [7] * sevens + [5] * fives + [4] * pairs + [3] * threes + [2] * one


def _take_out(factor: int, number: int) -> tuple[int, int]:
    times = 0
    while number % factor == 0:
        number //= factor
        times += 1
    return times, number


def threads_for(threads: int, pixels: int, parts: int) -> int:
    """How many of so many threads are worth it for complex pixels that can be cut into parts."""
    return max(1, min(threads, MOST_THREADS, parts, pixels // _PIXELS_WORTH_A_THREAD))


def aligned(count: int) -> np.ndarray:
    """Return float32 zeros that begin on a cache line."""
    room = np.zeros(count + ALIGNMENT // 4, np.float32)
    return room[(-room.ctypes.data % ALIGNMENT) // 4 :][:count]


def address(values: np.ndarray) -> int:
    return int(values.__array_interface__["data"][0])
