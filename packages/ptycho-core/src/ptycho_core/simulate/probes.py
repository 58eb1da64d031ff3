"""Probes with known truth: one field, or several orthogonal incoherent modes, of unit total power.

Sizes are fractions of the window side N, so a probe looks the same at every N. The field is centred on
index N/2. Scaling to counts is the scan's business (`simulate_scan`).
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Complex64, Complex128

from ptycho_config.errors import ConfigError
from ptycho_config.plaintext import excerpt

__all__ = ["PROBE_KINDS", "ProbeKind", "effective_diameter_px", "make_probe"]

ProbeKind = Literal["focus", "gaussian", "speckle", "pinhole"]
PROBE_KINDS: tuple[str, ...] = get_args(ProbeKind)


def make_probe(
    kind: ProbeKind, frame_px: int, rng: np.random.Generator, *, n_modes: int = 1, mode_ratio: float = 0.25
) -> Complex64[np.ndarray, "mode n n"]:
    """Make a probe of the named kind: `n_modes` orthogonal modes, total power 1.

    Args:
        kind: one of `PROBE_KINDS`. `focus` is the defocused spot of a lens with a central stop (a zone
            plate), `gaussian` a curved Gaussian beam, `speckle` a diffuser's structured light, `pinhole`
            a round hole seen through Fresnel propagation.
        frame_px: window side N, even.
        mode_ratio: power of each further mode relative to the one before it.
    Raises:
        ConfigError: the kind is unknown, or the number of modes is outside 1 to 8.
    """
    if kind not in _PROBES:
        raise ConfigError(f"Unknown probe `{excerpt(kind, 60)}`. Expected one of {', '.join(PROBE_KINDS)}.")
    if not 1 <= n_modes <= 8:
        raise ConfigError(f"n_modes is {n_modes}. Expected 1 to 8 probe modes.")
    field = _centre(_PROBES[kind](frame_px, rng))
    power = mode_ratio ** np.arange(n_modes)
    modes = _orthogonal_modes(field, n_modes)
    return (modes * np.sqrt(power / power.sum())[:, None, None]).astype(np.complex64)


def effective_diameter_px(probe: np.ndarray) -> float:
    """Measure the probe's width: the diameter of the uniform disc with the same second moment.

    D = 2 sqrt(2) r_rms with r_rms^2 = sum |P|^2 |r - r0|^2 / sum |P|^2, r0 the centroid, all modes added.
    This is the D4-sigma width of beam metrology (four times the deviation along one axis).

    Args:
        probe: (..., N, N); leading axes are modes.
    """
    n = probe.shape[-1]
    intensity = (np.abs(probe.astype(np.complex128)) ** 2).reshape(-1, n, n).sum(0)
    axis = np.arange(n) - n / 2
    rows, columns = intensity.sum(1) / intensity.sum(), intensity.sum(0) / intensity.sum()
    variance = sum(marginal @ (axis - marginal @ axis) ** 2 for marginal in (rows, columns))
    return float(2 * np.sqrt(2 * variance))


def _focus(n: int, rng: np.random.Generator) -> np.ndarray:
    """Defocus a stopped-down lens until its spot is a ring of 0.22 N radius."""
    k = _radial_frequency(n)
    edge = 0.16  # aperture radius in cycles per pixel: the bright disc on the detector
    aperture = _soft_disc(k, edge, 0.008) * (1 - 0.97 * _soft_disc(k, 0.4 * edge, 0.008))
    return _to_window(aperture * np.exp(1j * np.pi * 0.22 * n / edge * k**2))


def _gaussian(n: int, rng: np.random.Generator) -> np.ndarray:
    """Make a Gaussian beam of deviation N/10 in amplitude with a curved wavefront."""
    r2 = _radius_px(n) ** 2
    sigma = n / 10
    return np.exp(-r2 / (2 * sigma**2) + 0.75j * r2 / sigma**2)


def _speckle(n: int, rng: np.random.Generator) -> np.ndarray:
    """Filter complex noise to 0.09 cycles per pixel, under a Gaussian envelope of deviation N/8."""
    noise = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    grains = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-((_radial_frequency(n) / 0.09) ** 2)))
    return grains * np.exp(-(_radius_px(n) ** 2) / (2 * (n / 8) ** 2))


def _pinhole(n: int, rng: np.random.Generator) -> np.ndarray:
    """Propagate a round hole of radius 0.18 N to a Fresnel number of about 45 / N * 1.4."""
    hole = _soft_disc(_radius_px(n), 0.18 * n, 1.0)
    return np.fft.ifft2(np.fft.fft2(hole) * np.exp(0.72j * np.pi * n * _radial_frequency(n) ** 2))


def _orthogonal_modes(field: Complex128[np.ndarray, "n n"], n_modes: int) -> np.ndarray:
    """Multiply the field by low polynomials and orthonormalise: the modes of a partly coherent source."""
    n = field.shape[-1]
    axis = np.linspace(-1, 1, n)
    y, x = axis[:, None], axis[None, :]
    factors = (
        1 + 0 * y * x,
        x + 0 * y,
        y + 0 * x,
        x * y,
        x**2 - y**2,
        x**2 + y**2,
        x**3 + 0 * y,
        y**3 + 0 * x,
    )
    raw = np.stack([field * factor for factor in factors[:n_modes]]).reshape(n_modes, -1)
    basis, triangle = np.linalg.qr(raw.T)
    return (basis * np.exp(1j * np.angle(np.diag(triangle)))).T.reshape(n_modes, n, n)


def _centre(field: np.ndarray) -> Complex128[np.ndarray, "n n"]:
    """Move the centroid of |field|^2 to index N/2 by whole pixels."""
    n = field.shape[-1]
    intensity = np.abs(field) ** 2
    axis = np.arange(n) - n // 2
    offsets = [-round(float(intensity.sum(1 - a) @ axis / intensity.sum())) for a in (0, 1)]
    return np.roll(field, offsets, axis=(0, 1)).astype(np.complex128)


def _to_window(spectrum: np.ndarray) -> np.ndarray:
    """Transform a spectrum with DC at the corner to a field centred in the window."""
    return np.fft.fftshift(np.fft.ifft2(spectrum))


def _radial_frequency(n: int) -> np.ndarray:
    k = np.fft.fftfreq(n)
    return np.hypot(k[:, None], k[None, :])


def _radius_px(n: int) -> np.ndarray:
    axis = np.arange(n) - n / 2
    return np.hypot(axis[:, None], axis[None, :])


def _soft_disc(radius: np.ndarray, edge: float, softness: float) -> np.ndarray:
    """Make 1 inside the edge and 0 outside, with a logistic rim (written so that nothing overflows)."""
    return 0.5 * (1 - np.tanh((radius - edge) / (2 * softness)))


_PROBES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "focus": _focus,
    "gaussian": _gaussian,
    "speckle": _speckle,
    "pinhole": _pinhole,
}
