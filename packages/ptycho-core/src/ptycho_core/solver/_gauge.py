"""Choose one of the many pairs of object and probe that explain the frames equally well.

Exact symmetries of ptychography: the probe may move one way in its window and every position the other
way; a phase ramp may pass from the object to the probe; modes may be mixed by any unitary matrix. All
three are settled here without interpolating the object.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float32, Float64

from ptycho_core.solver._shifts import frequencies

__all__ = ["centre_shift", "move_spectrum", "orthogonal_modes", "without_ramp"]


def centre_shift(
    probe: Complex64[np.ndarray, "mode n n"], reference: Complex64[np.ndarray, "any_mode n n"]
) -> Float64[np.ndarray, " 2"]:
    """Distance (y, x) in pixels from the reference's centre of light to the probe's."""
    return _centre(probe) - _centre(reference)


def _centre(probe: np.ndarray) -> np.ndarray:
    light = np.square(np.abs(probe), dtype=np.float64).sum(axis=0)
    x = np.arange(light.shape[-1])
    return np.array([light.sum(axis=1) @ x, light.sum(axis=0) @ x]) / light.sum()


def move_spectrum(
    spectrum: Complex64[np.ndarray, "mode n n"], shift_px: Float64[np.ndarray, " 2"]
) -> Complex64[np.ndarray, "mode n n"]:
    """Move the probes of centred spectra by (y, x) pixels of the full detector."""
    k = frequencies(spectrum.shape[-1])
    phase = np.exp(-2j * np.pi * (k[:, None] * shift_px[0] + k * shift_px[1]))
    return (spectrum * phase).astype(np.complex64)


def without_ramp(
    obj: Complex64[np.ndarray, "rows columns"],
    probe: Complex64[np.ndarray, "mode n n"],
    coverage: Float32[np.ndarray, "rows columns"],
) -> tuple[Complex64[np.ndarray, "rows columns"], Complex64[np.ndarray, "mode n n"]]:
    """Hand the object's mean phase ramp and mean phase over to the probe; every modulus stays as it is."""
    rows = np.sum(obj[1:] * obj[:-1].conj() * np.minimum(coverage[1:], coverage[:-1]), dtype=np.complex128)
    columns = np.sum(
        obj[:, 1:] * obj[:, :-1].conj() * np.minimum(coverage[:, 1:], coverage[:, :-1]),
        dtype=np.complex128,
    )
    slope = np.angle([rows, columns])
    flat = (obj * _ramp(-slope, obj.shape)).astype(np.complex64)
    phase = np.exp(-1j * np.angle(np.sum(flat * coverage, dtype=np.complex128)))
    lit = (probe * _ramp(slope, probe.shape[-2:]) / phase).astype(np.complex64)
    return (flat * phase).astype(np.complex64), lit


def _ramp(slope: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    y, x = np.arange(shape[0]), np.arange(shape[1])
    return np.exp(1j * slope[0] * y)[:, None] * np.exp(1j * slope[1] * x)


def orthogonal_modes(
    probe: Complex64[np.ndarray, "mode n n"],
) -> Complex64[np.ndarray, "mode n n"]:
    """Mix the modes unitarily so that they are orthogonal and sorted by power."""
    if len(probe) == 1:
        return probe
    flat = probe.reshape(len(probe), -1).astype(np.complex128)
    _, vectors = np.linalg.eigh(flat.conj() @ flat.T)
    mixed = vectors[:, ::-1].T @ flat
    return mixed.reshape(probe.shape).astype(np.complex64)


def probe_of(spectrum: Complex64[np.ndarray, "mode n n"]) -> Complex64[np.ndarray, "mode n n"]:
    """Inverse of a centred, orthonormal spectrum."""
    return scipy.fft.ifft2(scipy.fft.ifftshift(spectrum, axes=(-2, -1)), norm="ortho").astype(np.complex64)
