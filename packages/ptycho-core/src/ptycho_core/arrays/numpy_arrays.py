"""NumPy arrays with SciPy's FFT."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import scipy.fft

from ptycho_config.errors import BackendUnavailableError
from ptycho_core.arrays.operations import Result
from ptycho_core.arrays.threads import ChunkThreads, one_blas_thread
from ptycho_core.cores import usable_cores
from ptycho_core.physics.canvas import row_bands

__all__ = ["NumpyArrays", "divergence_allowed"]


class NumpyArrays:
    """NumPy arrays, SciPy's FFT, one thread a chunk."""

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
        self.threads = threads or usable_cores()
        self._pool = ChunkThreads(self.threads)
        self.kernel: ctypes.CDLL | None = None

    @staticmethod
    def available() -> bool:
        return True

    @staticmethod
    def sees_gpu() -> bool:
        return False

    @contextmanager
    def limits(self) -> Iterator[None]:
        # Each chunk has its thread. BLAS threads beside them would fight for the same cores, and have been
        # seen to slow small products forty-fold.
        with one_blas_thread(), divergence_allowed():
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

    def count_correction(
        self,
        intensity: np.ndarray,
        amplitude: np.ndarray,
        offset: float,
        softening: float,
        weight: np.ndarray | None,
        *,
        roots: bool,
    ) -> tuple[np.ndarray, float]:
        intensity += np.float32(offset)
        counts = np.square(amplitude)
        counts += np.float32(softening)
        ratio = counts / intensity
        if roots:
            np.sqrt(ratio, out=ratio)
            ratio -= 1
            deviance = 2 * np.square(ratio)
            deviance *= intensity
            ratio *= 2
        else:
            deviance = np.log(ratio)
            deviance *= counts
            deviance += intensity
            deviance -= counts
            ratio -= 1
        if weight is not None:
            deviance *= weight
            ratio *= weight
        return ratio, float(deviance.sum(dtype=np.float64))

    def scale(self, waves: np.ndarray, factor: np.ndarray) -> np.ndarray:
        waves *= factor
        return waves

    def peak(self, values: np.ndarray) -> float:
        return float(values.max())

    def total(self, values: np.ndarray) -> complex:
        return complex(values.sum())

    def clamp_modulus(self, values: np.ndarray, limit: float) -> None:
        for band in row_bands(values.shape):
            part = values[band]
            modulus = np.abs(part)
            excess = modulus > limit
            part[excess] *= np.float32(limit) / modulus[excess]

    def map_chunks(self, work: Callable[[slice], Result], n_items: int, pixels_per_item: int) -> list[Result]:
        return self._pool.map(partial(_quietly, work), n_items, pixels_per_item)


def _quietly(work: Callable[[slice], Result], chunk: slice) -> Result:
    # NumPy keeps this setting per thread, so every chunk has to say it again.
    with divergence_allowed():
        return work(chunk)


def divergence_allowed() -> np.errstate:
    """No warnings for overflow and NaN: the solver looks at its residual and steps back."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def _squared_modulus(waves: np.ndarray) -> np.ndarray:
    # Faster here than squaring the two strided halves: NumPy's complex product is vectorised.
    return np.square(np.abs(waves))
