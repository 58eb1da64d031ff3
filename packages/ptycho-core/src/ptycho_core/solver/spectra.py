"""Probes as centred spectra: made of a start probe, seeded with further modes, moved, turned back."""

from __future__ import annotations

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float64

from ptycho_core.physics.canvas import frequencies
from ptycho_core.scan import Scan

__all__ = ["move_spectrum", "probe_of", "scaled_spectrum", "seed_modes", "spectrum_of"]


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


_POWER = 0.05


def seed_modes(spectrum: Complex64[np.ndarray, "n n"], n_modes: int) -> Complex64[np.ndarray, "mode n n"]:
    """Return the spectrum as mode 0 and the probe times x, y, xy, … with a twentieth of the power each.

    Args:
        spectrum: centred spectrum of the first mode.

    Source: P. Thibault and A. Menzel, Nature 494 (2013) 68, 10.1038/nature11806; the seeds are ours.
    """
    if n_modes == 1:
        return spectrum[None].copy()
    size = spectrum.shape[-1]
    probe = probe_of(spectrum[None])[0]
    x = np.linspace(-1, 1, size)
    y, x = np.meshgrid(x, x, indexing="ij")
    shapes = (x, y, x * y, x**2 - y**2, x**3, y**3, x**2 * y)
    power = np.linalg.norm(probe)
    modes = [probe * np.sqrt(1 - _POWER * (n_modes - 1))]
    for shape in shapes[: n_modes - 1]:
        mode = probe * shape
        modes.append(mode * np.sqrt(_POWER) * power / np.linalg.norm(mode))
    return spectrum_of(np.stack(modes)).astype(np.complex64)


def spectrum_of(probe: np.ndarray) -> np.ndarray:
    """Spectrum (…, N, N) of a probe with the zero frequency in the centre, orthonormal."""
    return scipy.fft.fftshift(scipy.fft.fft2(probe, norm="ortho"), axes=(-2, -1))


def scaled_spectrum(
    probe: Complex64[np.ndarray, "n n"], scan: Scan, counts_per_frame: float
) -> Complex64[np.ndarray, "n n"]:
    """Centred spectrum of the probe, scaled so that it has the mean counts on the good pixels."""
    spectrum = spectrum_of(probe)
    good = scan.good_pixels()
    good = good.any(axis=0) if good.ndim == 3 else good
    power = np.square(np.abs(spectrum[good]), dtype=np.float64).sum()
    if power == 0:
        raise ValueError("the probe has no power where the detector has good pixels")
    return (spectrum * np.sqrt(counts_per_frame / power)).astype(np.complex64)
