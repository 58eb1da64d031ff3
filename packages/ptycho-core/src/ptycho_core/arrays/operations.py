"""`Arrays`: what a library of arrays offers to the solver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

__all__ = ["Array", "Arrays", "Result"]

#: An array of whichever library computes: it has `+ - * /`, slices, `.conj()`, `.real`, `.imag`, `.shape`.
Array = Any
Result = TypeVar("Result")


@runtime_checkable
class Arrays(Protocol):
    """What a library of arrays offers to the solver. Complex is complex64, real is float32."""

    name: str
    device: str
    #: Number of threads that share a batch; 1 where a device takes all of it at once.
    threads: int
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

    def count_correction(
        self,
        intensity: Array,
        amplitude: Array,
        offset: float,
        softening: float,
        weight: Array | None,
        *,
        roots: bool,
    ) -> tuple[Array, float]:
        """Return `weight * (t / l - 1)` and the sum of the deviances of Poisson counts.

        t is `amplitude ** 2 + softening`, l is `intensity + offset`. May overwrite `intensity`.

        Args:
            roots: instead `weight * 2 (sqrt(t / l) - 1)` and the sum of `2 (sqrt(t) - sqrt(l)) ** 2`.
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

    def map_chunks(self, work: Callable[[slice], Result], n_items: int, pixels_per_item: int) -> list[Result]:
        """Call `work` on contiguous chunks that cover `range(n_items)`; results in their order."""
        ...
