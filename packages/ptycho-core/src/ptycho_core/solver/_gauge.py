"""Choose one of the many pairs of object and probe that explain the frames equally well.

Exact symmetries of ptychography: the probe may move one way in its window and every position the other
way; a phase ramp may pass from the object to the probe; modes may be mixed by any unitary matrix. All
three are settled here without interpolating the object.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float32, Float64

from ptycho_core.gauge import linear_ramp, phase_ramp
from ptycho_core.solver._shifts import frequencies

__all__ = ["move_spectrum", "orthogonal_modes", "without_ramp"]

#: Part of the largest coverage above which a pixel counts for the mean ramp and phase.
_WELL_LIT = 0.1


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
    lit_well = coverage > _WELL_LIT
    slope = linear_ramp(obj, lit_well)
    flat = obj * phase_ramp(obj.shape, -slope)
    turn = np.exp(-1j * np.angle(np.sum(flat[lit_well])))
    tilted = probe * phase_ramp(probe.shape[-2:], slope) / turn
    return (flat * turn).astype(np.complex64), tilted.astype(np.complex64)


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
