"""Start probes with a known error: what a reconstruction is given instead of the true probe.

All have unit power and one mode; the reconstruction scales them to the counts it sees.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Complex64
from scipy.ndimage import gaussian_filter

from ptycho_config.errors import ConfigError
from ptycho_config.plaintext import excerpt
from ptycho_core.simulate.probes import effective_diameter_px

__all__ = ["START_KINDS", "StartKind", "make_start_probe"]

StartKind = Literal["true", "defocus", "amplitude", "disc", "scan-like"]
START_KINDS: tuple[str, ...] = get_args(StartKind)


def make_start_probe(
    kind: StartKind, probe: Complex64[np.ndarray, "n n"], rng: np.random.Generator
) -> Complex64[np.ndarray, "1 n n"]:
    """Spoil a true probe in the named way.

    Args:
        kind: one of `START_KINDS`. `true` leaves it, `defocus` adds a quadratic phase of 1.5 at the mean
            squared frequency, `amplitude` keeps a blurred modulus without phase, `disc` is a plain disc of
            the same width, `scan-like` errs as the start probe of the Siemens-star scan does.
        probe: the strongest true mode, any scale.
    Raises:
        ConfigError: the kind is unknown.
    """
    if kind not in _STARTS:
        raise ConfigError(
            f"Unknown start probe `{excerpt(kind, 60)}`. Expected one of {', '.join(START_KINDS)}."
        )
    start = _STARTS[kind](probe.astype(np.complex128), rng)
    return (start / np.linalg.norm(start))[None].astype(np.complex64)


def _true(probe: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return probe


def _defocus(probe: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    spectrum, _, _, k2 = _spectrum(probe)
    return np.fft.ifft2(spectrum * np.exp(1.5j * k2))


def _amplitude(probe: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return gaussian_filter(np.abs(probe), probe.shape[-1] / 32).astype(np.complex128)


def _disc(probe: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = probe.shape[-1]
    axis = np.arange(n) - n / 2
    inside = np.hypot(axis[:, None], axis[None, :]) < effective_diameter_px(probe) / 2
    return gaussian_filter(inside.astype(float), 1.0).astype(np.complex128)


def _scan_like(probe: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Err as the Siemens-star scan's start probe does, measured against its reference reconstruction.

    There, in the probe's spectrum: a defocus of 2 at the mean squared frequency, towards the smaller spot
    (0.76 of the true width); 0.86 of the bandwidth; 0.25 of astigmatism and of coma; a modulus that
    correlates with the true one by 0.92; together the start correlates with the truth by 0.63.
    """
    spectrum, y, x, k2 = _spectrum(probe)
    narrowed = spectrum * np.exp(-0.12 * k2)
    narrowed *= np.exp(0.45 * _smooth_noise(probe.shape[-1], rng))
    orientation = rng.uniform(0, 2 * np.pi, 2)
    astigmatism = np.cos(orientation[0]) * (y**2 - x**2) + np.sin(orientation[0]) * 2 * x * y
    coma = k2 * (np.cos(orientation[1]) * y + np.sin(orientation[1]) * x)
    # Cubic terms of a probe with a wide spectrum would wind up at its rim: saturate them there.
    aberration = 0.25 * np.tanh(astigmatism / 2) * 2 + 0.25 * np.tanh(coma / 3) * 3
    starts = [np.fft.ifft2(narrowed * np.exp(1j * (sign * 2.0 * k2 + aberration))) for sign in (1, -1)]
    return min(starts, key=effective_diameter_px)


def _spectrum(probe: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the spectrum, and ky, kx, k^2 in units of the spectrum's root mean square frequency."""
    spectrum = np.fft.fft2(probe)
    k = np.fft.fftfreq(probe.shape[-1])
    k2 = k[:, None] ** 2 + k[None, :] ** 2
    weight = np.abs(spectrum) ** 2
    mean_k2 = (weight * k2).sum() / weight.sum()
    y, x = np.broadcast_arrays(k[:, None], k[None, :])
    return spectrum, y / np.sqrt(mean_k2), x / np.sqrt(mean_k2), k2 / mean_k2


def _smooth_noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Make smooth periodic noise of unit deviation on the frequency grid."""
    noise = gaussian_filter(rng.normal(size=(n, n)), n / 24, mode="wrap")
    return noise / noise.std()


_STARTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "true": _true,
    "defocus": _defocus,
    "amplitude": _amplitude,
    "disc": _disc,
    "scan-like": _scan_like,
}
