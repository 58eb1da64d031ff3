"""Seed further incoherent modes of the probe.

Source: P. Thibault and A. Menzel, Nature 494 (2013) 68, 10.1038/nature11806; the seeds are ours.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex64

from ptycho_core.solver._gauge import probe_of
from ptycho_core.solver._start_probe import spectrum_of

__all__ = ["seed_modes"]

_POWER = 0.05


def seed_modes(spectrum: Complex64[np.ndarray, "n n"], n_modes: int) -> Complex64[np.ndarray, "mode n n"]:
    """Return the spectrum as mode 0 and the probe times x, y, xy, … with a twentieth of the power each.

    Args:
        spectrum: centred spectrum of the first mode.
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
