"""The few array operations that the solver needs, and their NumPy form.

The solver is written once against `Arrays`. NumPy with SciPy's FFT is built in; other array libraries
register a class under the entry-point group `ptycho.arrays`, so nothing here knows their names.

Work on a batch is cut into *lanes*, contiguous runs of frames. NumPy gives each thread one lane, because
its operations use one thread each and leave the interpreter lock; a GPU takes the whole batch as one lane.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import scipy.fft
from threadpoolctl import threadpool_limits

from ptycho_config.errors import BackendUnavailableError

__all__ = [
    "Array",
    "Arrays",
    "Lanes",
    "NumpyArrays",
    "array_libraries",
    "divergence_allowed",
    "load_arrays",
    "usable_cores",
]

#: An array of whichever library computes: it has `+ - * /`, slices, `.conj()`, `.real`, `.imag`, `.shape`.
Array = Any
#: Gives the class of a library; Any, because a protocol with data members has no subclass check.
ArraysLoader = Callable[[], Any]
#: Less complex pixels than this are done sooner than another thread is woken.
_PIXELS_WORTH_A_LANE = 1 << 16
Answer = TypeVar("Answer")


@runtime_checkable
class Arrays(Protocol):
    """What a library of arrays offers to the solver. Complex is complex64, real is float32."""

    name: str
    device: str
    lanes: int
    #: Pixels of the block of frames that is carried through all steps before the next one is begun.
    block_pixels: int
    #: The solver's step as compiled code, if arrays in the host's memory are to use it.
    kernel: ctypes.CDLL | None

    def __init__(self, *, device: str = "cpu", threads: int | None = None) -> None: ...

    @staticmethod
    def available() -> bool:
        """Return whether the library can be imported here, without importing it."""
        ...

    @staticmethod
    def sees_gpu() -> bool:
        """Return whether the library sees a CUDA device; may import the library."""
        ...

    def limits(self) -> AbstractContextManager[Any]:
        """Return the context that sets the number of threads for the time of a run."""
        ...

    def asarray(self, values: np.ndarray) -> Array:
        """Move a NumPy array to the device; on the CPU it stays where it is, strides included."""
        ...

    def to_numpy(self, values: Array) -> np.ndarray:
        """Bring an array back; it shares no memory with what the solver changes later."""
        ...

    def host_view(self, values: Array) -> np.ndarray:
        """Return a contiguous array as a NumPy array on the same memory, where that is the host's."""
        ...

    def zeros(self, shape: tuple[int, ...], *, complex_values: bool = False) -> Array:
        """Return an array of zeros."""
        ...

    def copy(self, values: Array) -> Array:
        """Return an independent copy."""
        ...

    def fft2(self, waves: Array) -> Array:
        """Orthonormal 2-D Fourier transform of the last two axes; may overwrite its argument."""
        ...

    def ifft2(self, waves: Array) -> Array:
        """Inverse of `fft2`; may overwrite its argument."""
        ...

    def combine(self, coefficients: Array, basis: Array) -> Array:
        """Sum a basis with real weights: (m, K) and (P, K, n, n) -> (P, m, n, n)."""
        ...

    def project(self, coefficients: Array, waves: Array) -> Array:
        """Adjoint of `combine`: (m, K) and (P, m, n, n) -> (P, K, n, n)."""
        ...

    def overlaps(self, basis: Array, waves: Array) -> np.ndarray:
        """Real parts of the inner products, summed over the modes: (P, K, n, n), (P, m, n, n) -> (m, K)."""
        ...

    def cut(self, canvas: Array, corners: np.ndarray, size: int) -> Array:
        """Cut the square patches whose top-left corners are given: (m, n, n)."""
        ...

    def add_patches(self, canvas: Array, corners: np.ndarray, patches: Array) -> None:
        """Add patches (m, n, n), or one patch (n, n) for all corners, to the canvas in place, in order."""
        ...

    def intensity(self, waves: Array) -> Array:
        """Sum of the squared moduli over the modes: (P, m, n, n) -> (m, n, n)."""
        ...

    def modulus_correction(
        self, intensity: Array, amplitude: Array, offset: float, weight: Array | None
    ) -> tuple[Array, float]:
        """Return `weight * (amplitude / sqrt(intensity + offset) - 1)` and the sum of the misfits' moduli.

        May overwrite `intensity`.
        """
        ...

    def scale(self, waves: Array, factor: Array) -> Array:
        """Multiply complex waves by a real factor in place and return them."""
        ...

    def peak(self, values: Array) -> float:
        """Largest element of a real array."""
        ...

    def total(self, values: Array) -> complex:
        """Sum of all elements."""
        ...

    def clamp_modulus(self, values: Array, limit: float) -> None:
        """Shorten elements of modulus above the limit to it, in place."""
        ...

    def run_lanes(self, work: Callable[[slice], Answer], n_items: int, pixels_per_item: int) -> list[Answer]:
        """Call `work` on contiguous slices that cover `range(n_items)`; answers in their order."""
        ...


class Lanes:
    """A fixed number of threads that work on contiguous parts of a batch, always cut the same way."""

    def __init__(self, count: int, *, prepare_thread: Callable[[], Any] | None = None) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, initializer=prepare_thread) if count > 1 else None

    def run(self, work: Callable[[slice], Answer], n_items: int, pixels_per_item: int) -> list[Answer]:
        """Call `work` on at most `count` slices of nearly equal length; answers in their order."""
        count = max(1, min(self.count, n_items, n_items * pixels_per_item // _PIXELS_WORTH_A_LANE))
        edges = [lane * n_items // count for lane in range(count + 1)]
        lanes = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
        if self._pool is None or count == 1:
            return [work(lane) for lane in lanes]
        return list(self._pool.map(work, lanes))


class NumpyArrays:
    """NumPy arrays, SciPy's FFT, one thread a lane."""

    name = "numpy"
    # A complex block of half a megabyte: with its few temporaries it stays about in a core's own cache.
    # Two cores that share the way to memory are no faster than one beyond that.
    block_pixels = 1 << 16

    def __init__(self, *, device: str = "cpu", threads: int | None = None) -> None:
        if device != "cpu":
            raise BackendUnavailableError(
                f"NumPy arrays cannot live on `{device}`. "
                "Choose `--arrays torch` for a GPU, or `--accelerator cpu`."
            )
        self.device = "cpu"
        self.lanes = threads or usable_cores()
        self._lanes = Lanes(self.lanes)
        self.kernel: ctypes.CDLL | None = None

    @staticmethod
    def available() -> bool:
        return True

    @staticmethod
    def sees_gpu() -> bool:
        return False

    @contextmanager
    def limits(self) -> Iterator[None]:
        # The lanes are the threads. BLAS threads beside them would fight for the same cores, and libraries
        # that spin while waiting have been seen to slow small products forty-fold.
        with threadpool_limits(limits=1), divergence_allowed():
            yield

    def asarray(self, values: np.ndarray) -> np.ndarray:
        return values

    def to_numpy(self, values: np.ndarray) -> np.ndarray:
        return values.copy()

    def host_view(self, values: np.ndarray) -> np.ndarray:
        return values

    def zeros(self, shape: tuple[int, ...], *, complex_values: bool = False) -> np.ndarray:
        return np.zeros(shape, np.complex64 if complex_values else np.float32)

    def copy(self, values: np.ndarray) -> np.ndarray:
        return values.copy()

    def fft2(self, waves: np.ndarray) -> np.ndarray:
        return scipy.fft.fft2(waves, norm="ortho", overwrite_x=True)

    def ifft2(self, waves: np.ndarray) -> np.ndarray:
        return scipy.fft.ifft2(waves, norm="ortho", overwrite_x=True)

    def combine(self, coefficients: np.ndarray, basis: np.ndarray) -> np.ndarray:
        n_modes, n_basis, size, _ = basis.shape
        planes = basis.view(np.float32).reshape(n_modes, n_basis, -1)
        return (coefficients @ planes).view(np.complex64).reshape(n_modes, -1, size, size)

    def project(self, coefficients: np.ndarray, waves: np.ndarray) -> np.ndarray:
        n_modes, n_frames, size, _ = waves.shape
        planes = waves.view(np.float32).reshape(n_modes, n_frames, -1)
        return (coefficients.T @ planes).view(np.complex64).reshape(n_modes, -1, size, size)

    def overlaps(self, basis: np.ndarray, waves: np.ndarray) -> np.ndarray:
        # As planes of real numbers: the real part of <b, w> is the plain product of both halves.
        rows = waves.view(np.float32).reshape(*waves.shape[:2], -1)
        columns = basis.view(np.float32).reshape(*basis.shape[:2], -1)
        return (rows @ columns.transpose(0, 2, 1)).sum(axis=0, dtype=np.float64)

    def cut(self, canvas: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
        patches = np.empty((len(corners), size, size), canvas.dtype)
        for patch, (row, column) in zip(patches, corners.tolist(), strict=True):
            patch[...] = canvas[row : row + size, column : column + size]
        return patches

    def add_patches(self, canvas: np.ndarray, corners: np.ndarray, patches: np.ndarray) -> None:
        size = patches.shape[-1]
        stack = np.broadcast_to(patches, (len(corners), size, size))
        for patch, (row, column) in zip(stack, corners.tolist(), strict=True):
            canvas[row : row + size, column : column + size] += patch

    def intensity(self, waves: np.ndarray) -> np.ndarray:
        total = _squared_modulus(waves[0])
        for mode in waves[1:]:
            total += _squared_modulus(mode)
        return total

    def modulus_correction(
        self, intensity: np.ndarray, amplitude: np.ndarray, offset: float, weight: np.ndarray | None
    ) -> tuple[np.ndarray, float]:
        intensity += np.float32(offset)
        modulus = np.sqrt(intensity, out=intensity)
        misfit = amplitude - modulus
        if weight is not None:
            misfit *= weight
        np.divide(misfit, modulus, out=modulus)
        return modulus, float(np.abs(misfit, out=misfit).sum())

    def scale(self, waves: np.ndarray, factor: np.ndarray) -> np.ndarray:
        waves *= factor
        return waves

    def peak(self, values: np.ndarray) -> float:
        return float(values.max())

    def total(self, values: np.ndarray) -> complex:
        return complex(values.sum())

    def clamp_modulus(self, values: np.ndarray, limit: float) -> None:
        modulus = np.abs(values)
        excess = modulus > limit
        values[excess] *= np.float32(limit) / modulus[excess]

    def run_lanes(self, work: Callable[[slice], Answer], n_items: int, pixels_per_item: int) -> list[Answer]:
        return self._lanes.run(_quiet(work), n_items, pixels_per_item)


def _quiet(work: Callable[[slice], Answer]) -> Callable[[slice], Answer]:
    # NumPy keeps this setting per thread, so every lane has to say it again.
    def quiet(lane: slice) -> Answer:
        with divergence_allowed():
            return work(lane)

    return quiet


def divergence_allowed() -> np.errstate:
    """No warnings for overflow and NaN: the solver looks at its residual and steps back."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def _squared_modulus(waves: np.ndarray) -> np.ndarray:
    # Faster here than squaring the two strided halves: NumPy's complex product is vectorised.
    return np.square(np.abs(waves))


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def array_libraries() -> dict[str, ArraysLoader]:
    """Name -> loader of each registered array library, the built-in one first."""
    registered: dict[str, ArraysLoader] = {"numpy": lambda: NumpyArrays}
    for point in entry_points(group="ptycho.arrays"):
        registered[point.name] = point.load
    return registered


def load_arrays(name: str, *, device: str = "cpu", threads: int | None = None) -> Arrays:
    """Return the array library of that name on that device.

    Raises:
        BackendUnavailableError: it is not registered, or what it needs is not installed; with the command.
    """
    libraries = array_libraries()
    if name not in libraries:
        known: Sequence[str] = sorted(libraries)
        raise BackendUnavailableError(
            f"Arrays of the kind `{name}` are not installed (installed: {', '.join(known)}). "
            f"Install them: pip install 'ptycho-dispatch[{name}]'."
        )
    library = libraries[name]()
    if not library.available():
        raise BackendUnavailableError(
            f"Arrays of the kind `{name}` need a package that is not installed. "
            f"Install it: pip install 'ptycho-dispatch[{name}]'."
        )
    return library(device=device, threads=threads)
