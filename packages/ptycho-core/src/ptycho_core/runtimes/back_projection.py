"""What the graph of an exported network holds of its probe: constants, which another probe replaces.

The back-projection of a frame is linear in its amplitude a, both with the zero frequency in the centre:
F^-1[a d] g - o, with d the phase of the first mode's wave on the detector, g what divides by the mode, and o
that mode itself. It is `back_project` of the cores, divided by the number that scales it.

Source: docs/reference/physics.md, "Networks".
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float32

__all__ = ["CONSTANTS", "probe_constants"]

#: Names of the constants in the graph.
CONSTANTS = (
    "probe_direction_real",
    "probe_direction_imag",
    "probe_gain_real",
    "probe_gain_imag",
    "probe_offset",
)
#: As in the cores: of the largest wave at the detector, below which a phase is what rounding makes of it.
_UNSURE = 3e-4
_DARK = 1e-20


def probe_constants(
    probe: Complex64[np.ndarray, "mode n n"], std: float
) -> dict[str, Float32[np.ndarray, "n n"]]:
    """Give the constants of a probe by their names.

    Args:
        probe: in the gauge of the network.
        std: divisor of the back-projection that the network was trained with.
    """
    modes = probe.astype(np.complex128)
    far = scipy.fft.fftshift(scipy.fft.fft2(modes, norm="ortho"), axes=(-2, -1))
    power = np.square(np.abs(far)).sum(axis=0)
    direction = far[0] / np.sqrt(np.maximum(power + _UNSURE**2 * power.max(), _DARK))
    light = np.square(np.abs(modes[0]))
    gain = modes[0].conj() / (light.max() * std)
    parts = (direction.real, direction.imag, gain.real, gain.imag, light / (light.max() * std))
    return {name: part.astype(np.float32) for name, part in zip(CONSTANTS, parts, strict=True)}
