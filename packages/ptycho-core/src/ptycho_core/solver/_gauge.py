"""Move probes in their window, which are held as centred spectra, and turn them back into probes."""

from __future__ import annotations

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float64

from ptycho_core.solver._shifts import frequencies

__all__ = ["move_spectrum", "probe_of"]


def move_spectrum(
    spectrum: Complex64[np.ndarray, "mode n n"], shift_px: Float64[np.ndarray, " 2"]
) -> Complex64[np.ndarray, "mode n n"]:
    """Move the probes of centred spectra by (y, x) pixels of the full detector."""
    k = frequencies(spectrum.shape[-1])
    phase = np.exp(-2j * np.pi * (k[:, None] * shift_px[0] + k * shift_px[1]))
    return (spectrum * phase).astype(np.complex64)


def probe_of(spectrum: Complex64[np.ndarray, "mode n n"]) -> Complex64[np.ndarray, "mode n n"]:
    """Inverse of a centred, orthonormal spectrum."""
    return scipy.fft.ifft2(scipy.fft.ifftshift(spectrum, axes=(-2, -1)), norm="ortho").astype(np.complex64)
