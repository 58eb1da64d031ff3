"""NORMALIZATION-001: stored amplitude, unit amplitude and counts, and the factors between them."""

from __future__ import annotations

import numpy as np

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import DataError
from ptycho_core.checks import samples
from ptycho_core.io import scan_from_arrays
from ptycho_core.physics.normalisation import (
    amplitude_from_counts,
    counts_from_amplitude,
    intensity_scale,
    physical_probe,
    unit_factor,
    unit_factor_from_mean_energy,
)

__all__ = ["scales_are_never_mixed"]

FINDING = "NORMALIZATION-001"


def scales_are_never_mixed() -> Evidence:
    """Take frames through the three scales and back.

    Raises:
        CheckError: NORMALIZATION-001 does not hold.
    """
    narrow = np.full((1, 2, 2), 300, np.uint16)
    squared = float(counts_from_amplitude(narrow).max())
    demand(squared == 90_000, FINDING, f"300 of 16 bits squared is {squared:g}", "90000")
    counts = samples.counts()
    amplitude = amplitude_from_counts(counts)
    _close(counts_from_amplitude(amplitude), counts, "counts to amplitude and back")
    n = samples.FRAME_PX
    alpha = unit_factor(amplitude)
    energy = float(np.mean(np.sum((alpha * amplitude) ** 2, axis=(1, 2))))
    _close(energy, (n / 2) ** 2, "the mean energy of a unit frame")
    mean_counts = float(counts.sum(axis=(1, 2)).mean())
    s = intensity_scale(mean_counts, n)
    _close(s * alpha, 1.0, "s times alpha, for the measured mean count")
    _close((s * alpha * amplitude) ** 2, counts, "unit amplitude to counts")
    probe = samples.probe()
    _close(physical_probe(probe, output_scale=s, s=s, alpha=alpha), probe / alpha, "the probe in counts")
    refused(FINDING, DataError, "frames without energy", lambda: unit_factor_from_mean_energy(0.0, n))
    stored = {
        "counts": scan_from_arrays(counts, samples.positions_px(), probe, measurement="counts", dc="center"),
        "amplitude": scan_from_arrays(
            amplitude, samples.positions_px(), probe, measurement="amplitude", dc="center"
        ),
    }
    for measurement, scan in stored.items():
        _close(scan.counts(), counts, f"the counts of a scan stored as {measurement}")
        _close(scan.mean_counts_per_frame(), mean_counts, f"its mean count, stored as {measurement}")
    return {
        "16-bit values squared": "do not wrap",
        "mean energy of a unit frame": "(N/2)^2",
        "s times alpha at the measured mean count": 1.0,
        "counts of scans stored as counts and as amplitude": "equal",
        "frames without energy": "refused",
    }


def _close(found: np.ndarray | float, expected: np.ndarray | float, what: str) -> None:
    same = np.allclose(found, expected, rtol=1e-5, atol=1e-6)
    first = [float(np.abs(np.ravel(value)[0])) for value in (found, expected)]
    demand(bool(same), FINDING, f"{what}: {first[0]:g}", f"{first[1]:g}")
