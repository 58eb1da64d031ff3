"""How much light neighbouring positions share."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float64

PROBE_ENERGY_FRACTION = 0.9
SAMPLED_POSITIONS = 512


def probe_diameter_px(probe: Complex[np.ndarray, "mode n n"]) -> float:
    """Return the diameter of the circle around the centroid that holds 90 % of the probe's energy.

    A top-hat of diameter D measures 0.95 D, a Gaussian of intensity deviation s measures 4.3 s.
    """
    intensity = np.sum(np.abs(probe).astype(np.float64) ** 2, axis=0)
    axis = np.arange(intensity.shape[0], dtype=np.float64)
    total = intensity.sum()
    center_y, center_x = intensity.sum(axis=1) @ axis / total, intensity.sum(axis=0) @ axis / total
    radius = np.hypot(axis[:, np.newaxis] - center_y, axis[np.newaxis] - center_x).ravel()
    order = np.argsort(radius)
    energy = np.cumsum(intensity.ravel()[order])
    rank = min(int(np.searchsorted(energy, PROBE_ENERGY_FRACTION * total)), radius.size - 1)
    return max(1.0, 2 * float(radius[order[rank]]))


def typical_step_px(positions_px: Float64[np.ndarray, "frame 2"]) -> float:
    """Return the median distance to the nearest other position, over an even sample of the positions.

    A few hundred of them settle a median; no tree has to be imported and built while a scan is opened.
    Infinite for a single position.
    """
    n_frames = positions_px.shape[0]
    if n_frames < 2:
        return float("inf")
    sample = np.unique(np.linspace(0, n_frames - 1, min(n_frames, SAMPLED_POSITIONS)).astype(int))
    y, x = positions_px.T
    nearest = np.empty(sample.size)
    for rank, frame in enumerate(sample):
        squared = (y - y[frame]) ** 2 + (x - x[frame]) ** 2
        squared[frame] = np.inf
        nearest[rank] = squared.min()
    return float(np.sqrt(np.median(nearest)))


def overlap_fraction(
    positions_px: Float64[np.ndarray, "frame 2"], probe: Complex[np.ndarray, "mode n n"]
) -> float:
    """Return the linear overlap of neighbours, 1 - step / probe diameter.

    Returns:
        1 for equal positions, 0 for probes that touch, negative where there are gaps; 0 for a single frame.
    """
    if positions_px.shape[0] < 2:
        return 0.0
    return 1 - typical_step_px(positions_px) / probe_diameter_px(probe)
