"""How much light neighbouring positions share."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float64

from ptycho_core.io.values import warn
from ptycho_core.scan import Scan

PROBE_ENERGY_FRACTION = 0.9


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


def nearest_neighbour_px(positions_px: Float64[np.ndarray, "frame 2"]) -> Float64[np.ndarray, " frame"]:
    """Return each position's distance to the nearest other one; infinite for a single position."""
    if positions_px.shape[0] < 2:
        return np.full(positions_px.shape[0], np.inf)
    from scipy.spatial import KDTree  # a third of a second to import, which a scan of one frame need not wait

    return KDTree(positions_px).query(positions_px, k=2)[0][:, 1]


def overlap_fraction(
    positions_px: Float64[np.ndarray, "frame 2"], probe: Complex[np.ndarray, "mode n n"]
) -> float:
    """Return the linear overlap of neighbours, 1 - distance / probe diameter, in the median.

    Returns:
        1 for equal positions, 0 for probes that touch, negative where there are gaps; 0 for a single frame.
    """
    if positions_px.shape[0] < 2:
        return 0.0
    return 1 - float(np.median(nearest_neighbour_px(positions_px))) / probe_diameter_px(probe)


def warn_without_overlap(scan: Scan) -> None:
    """Warn, with the overlap found, when the probe does not reach from one position to the next."""
    if scan.n_frames < 2:
        return
    overlap = overlap_fraction(scan.positions_px, scan.probe)
    if overlap > 0:
        return
    step = float(np.median(nearest_neighbour_px(scan.positions_px)))
    warn(
        f"{scan.name}: neighbouring positions do not overlap: the step is {step:.3g} px, the {scan.probe_source} "
        f"probe {probe_diameter_px(scan.probe):.3g} px wide, the overlap {100 * overlap:.0f} %. Frames that share "
        f"no light cannot be joined; check the positions' unit and the probe. 60 % is a good overlap."
    )
