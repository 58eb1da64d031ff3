"""The three scales of a scan and the factors between them (NORMALIZATION-001).

    stored amplitude   what the file holds, sqrt of counts up to a constant
    unit               network input, mean energy of a frame (N/2)^2
    counts             photons; s^2 times unit intensity

    unit = alpha * stored amplitude,   counts = (s * unit)^2,   s = sqrt(nphotons) / (N/2)

For counts, with nphotons the measured mean, s * alpha = 1. Also here: how a probe is scaled (its gauge),
masked, and made up where there is none. Source: docs/reference/physics.md, "Scales" and "Probe gauge".
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Bool, Complex, Complex128, Float64, Inexact, Real
from scipy.ndimage import convolve1d, gaussian_filter

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.models import ModelConfig

ProbeGauge = Literal["power", "legacy"]
LEGACY_PROBE_SCALE = 4.0
DEFAULT_PROBE_SCALE = 0.7

# Frames


def amplitude_from_counts(counts: Real[np.ndarray, "*frame n n"]) -> Float64[np.ndarray, "*frame n n"]:
    """Return sqrt(counts); widened first, so that no integer type can wrap. Negative counts become 0."""
    return np.sqrt(np.maximum(counts.astype(np.float64), 0))


def counts_from_amplitude(amplitude: Real[np.ndarray, "*frame n n"]) -> Float64[np.ndarray, "*frame n n"]:
    """Return amplitude^2; widened first, so that 300^2 of 16-bit integers stays 90000."""
    return amplitude.astype(np.float64) ** 2


def unit_factor(amplitude: Real[np.ndarray, "*frame n n"]) -> float:
    """Return alpha = sqrt((N/2)^2 / mean energy of a frame), by which stored amplitude becomes unit.

    >>> unit_factor(np.full((1, 4, 4), 3.0)) == 1 / 6
    True

    Raises:
        DataError: no frame has a count.
    """
    n = amplitude.shape[-1]
    frames = amplitude.reshape(-1, n, n)
    # A frame at a time: the widened copy of a large stack would not fit.
    energy = math.fsum(float(counts_from_amplitude(frame).sum()) for frame in frames) / max(1, len(frames))
    return unit_factor_from_mean_energy(energy, n)


def unit_factor_from_mean_energy(mean_energy: float | int, n: int) -> float:
    """Return alpha for frames of side n whose squared amplitudes add up to `mean_energy` on average."""
    if not mean_energy > 0:
        raise DataError(
            f"NORMALIZATION-001: the mean energy of the frames is {mean_energy:g}, so they cannot be scaled; "
            "look for frames that hold counts with `ptycho inspect SCAN`",
            finding="NORMALIZATION-001",
        )
    return (n / 2) / math.sqrt(mean_energy)


def intensity_scale(nphotons: float | int, n: int) -> float:
    """Return s = sqrt(nphotons) / (N/2), by which unit amplitude becomes sqrt(counts).

    >>> intensity_scale(1e6, 64)
    31.25
    """
    if not nphotons > 0:
        raise ConfigError(f"`nphotons` is {nphotons:g}; give the mean number of photons per frame, above 0")
    return math.sqrt(nphotons) / (n / 2)


# Probes


def scale_probe(
    probe: Complex[np.ndarray, "*mode n n"],
    gauge: ProbeGauge,
    *,
    probe_scale: float | int = LEGACY_PROBE_SCALE,
    mask: Inexact[np.ndarray, "n n"] | None = None,
) -> Complex128[np.ndarray, "*mode n n"]:
    """Scale a probe, one factor for all modes.

    `power`: after masking the modes together have the power (N/2)^2, so that a transparent object has
    modulus 1 whatever the probe. `legacy`: divide by `probe_scale` times the mean over the frame of |P|
    within the hard disc, of the first mode.

    Args:
        mask: multiplies the probe in the `power` gauge; the disc of `legacy` is used for the mean alone.

    Raises:
        DataError: the probe is 0 where it is measured.
    """
    n = probe.shape[-1]
    probe = probe.astype(np.complex128)
    if gauge == "power":
        probe = probe if mask is None else probe * mask
        size = math.sqrt(float(np.sum(np.abs(probe) ** 2))) / (n / 2)
    else:
        first = probe.reshape(-1, n, n)[0]
        size = probe_scale * float(np.mean(np.abs(hard_disc(n) * first)))
    if not size > 0:
        raise DataError("the probe is 0 everywhere that it is measured; give another start probe")
    return probe / size


def probe_in_gauge(
    probe: Complex[np.ndarray, "*mode n n"], model: ModelConfig
) -> Complex128[np.ndarray, "*mode n n"]:
    """Scale a probe, and mask it where the model does, as the networks hold it.

    Raises:
        DataError: the probe is 0 where it is measured.
    """
    mask = None
    if model.probe_mask:
        mask = soft_mask(model.N, sigma_px=model.probe_mask_sigma, diameter_px=model.probe_mask_diameter)
    return scale_probe(probe, model.probe_gauge, probe_scale=model.probe_scale, mask=mask)


def probe_back_in_gauge(
    probe: Complex[np.ndarray, "mode n n"], model: ModelConfig
) -> tuple[Complex128[np.ndarray, "mode n n"], float]:
    """Scale a probe that was trained, and take away what it grew where the mask of the model is 0.

    Returns:
        The probe, and the factor by which it was multiplied.
    """
    if model.probe_mask:
        mask = soft_mask(model.N, sigma_px=model.probe_mask_sigma, diameter_px=model.probe_mask_diameter)
        probe = probe * (mask > 0)
    fitting = scale_probe(probe, model.probe_gauge, probe_scale=model.probe_scale)
    return fitting, float(np.linalg.norm(fitting) / np.linalg.norm(probe))


def scale_probe_to_counts(
    probe: Complex[np.ndarray, "*mode n n"], mean_counts: float | int
) -> Complex128[np.ndarray, "*mode n n"]:
    """Scale a probe so that its power is the mean count of a frame: predictions are then in counts."""
    power = float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))
    if not power > 0:
        raise DataError("the probe is 0 everywhere; give another start probe")
    return probe.astype(np.complex128) * math.sqrt(mean_counts / power)


def hard_disc(n: int, diameter_px: float | int | None = None) -> Bool[np.ndarray, "{n} {n}"]:
    """Return the disc of diameter N/2 about the frame's middle, ((N-1)/2, (N-1)/2).

    812, 3228 and 12892 pixels at N = 64, 128, 256. It lies half a pixel off the probe's centre index; the
    legacy gauge wants it so.
    """
    radius = n // 4 if diameter_px is None else diameter_px / 2
    from_middle = np.arange(n) - n / 2 + 0.5
    return np.hypot(from_middle[:, None], from_middle) < radius


def soft_mask(
    n: int, *, sigma_px: float | int = 1.0, diameter_px: float | int | None = None
) -> Float64[np.ndarray, "{n} {n}"]:
    """Return the disc with its edge blurred by a Gaussian, between 0 and 1.

    The kernel ends at ceil(3 sigma) and sums to 1, the frame is continued by zeros, and the result is
    divided by its maximum. sigma 0 gives the hard disc.
    """
    disc = hard_disc(n, diameter_px).astype(np.float64)
    if sigma_px == 0:
        return disc
    reach = math.ceil(3 * sigma_px)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        disc = convolve1d(disc, kernel, axis, mode="constant")
    return np.clip(disc / max(disc.max(), np.finfo(float).tiny), 0, 1)


def default_probe(
    n: int, *, default_probe_scale: float | int = DEFAULT_PROBE_SCALE
) -> Float64[np.ndarray, "{n} {n}"]:
    """Return the synthetic probe: a disc of radius sigma sqrt(2 ln 2) about index N/2, slightly blurred.

    Where the product of two Gaussian windows of sigma = N / (0.7 pi^2) exceeds one half; 373 pixels at
    N = 64. A small constant keeps it above 0.
    """
    sigma = n / (default_probe_scale * math.pi**2)
    window = np.exp(-((np.arange(n) - n / 2) ** 2) / (2 * sigma**2))
    disc = (np.outer(window, window) > 0.5).astype(np.float64)
    return gaussian_filter(disc, 1.0) + 1e-9


def physical_probe(
    gauge_probe: Complex[np.ndarray, "*mode n n"], *, output_scale: float, s: float, alpha: float
) -> Complex128[np.ndarray, "*mode n n"]:
    """Return a gauge probe in the unit of the data: gauge probe * exp(log_scale) / (s * alpha).

    Args:
        output_scale: exp(log_scale) as trained.
    """
    return gauge_probe.astype(np.complex128) * (output_scale / (s * alpha))
