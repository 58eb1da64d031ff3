"""What a run says of its scan before it begins: photons, background, and which probe to start from."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex64

from ptycho_config.models import SolverConfig
from ptycho_core.arrays import Arrays
from ptycho_core.scan import Scan
from ptycho_core.solver._frames import OrderedFrames
from ptycho_core.solver._monitor import Monitor
from ptycho_core.solver._start_probe import search_start_probe
from ptycho_core.solver._statistics import HOPELESS_NOISE_FLOOR, ScanStatistics, scan_statistics

__all__ = [
    "SEARCHABLE_FLOOR",
    "SOFTENING",
    "dose_carries_an_image",
    "look_at",
    "probe_is_searched",
    "searched_probe",
]

#: Counts under the square root, as a part of the mean counts per pixel.
SOFTENING = 1e-5
#: Above this noise floor of R the coarse residuals of start probes cannot be told apart.
SEARCHABLE_FLOOR = 0.5


def look_at(scan: Scan, config: SolverConfig, monitor: Monitor) -> ScanStatistics:
    """Return the statistics of a scan, and tell of them."""
    statistics = scan_statistics(scan, estimate_background=config.background == "auto")
    floor = statistics.noise_floor
    noise = "noise level unknown" if floor is None else f"noise floor of R {floor:.3f}"
    monitor.event(
        "statistics",
        f"{statistics.counts_per_frame:.4g} counts per frame, "
        f"background {statistics.background:.3g} counts per pixel, {noise}.",
        counts_per_frame=statistics.counts_per_frame,
        background=statistics.background,
        noise_floor=floor,
    )
    return statistics


def dose_carries_an_image(scan: Scan, statistics: ScanStatistics, monitor: Monitor) -> bool:
    """Return whether there are photons enough; where not, say what to do."""
    floor = statistics.noise_floor
    if floor is None or floor < HOPELESS_NOISE_FLOOR:
        return True
    monitor.event(
        "dose",
        f"{statistics.counts_per_frame:.3g} counts per frame of {scan.frame_px} x "
        f"{scan.frame_px} pixels cannot carry an image: the noise exceeds the signal "
        f"(noise floor of R {floor:.2f}). The object is left transparent. "
        "Measure longer, or bin the detector; or train a network on a bright scan with the same probe: "
        f"`ptycho train --thin-to {statistics.counts_per_frame:.0f}`.",
        noise_floor=floor,
    )
    return False


def probe_is_searched(config: SolverConfig, statistics: ScanStatistics, monitor: Monitor) -> bool:
    """Return whether a better start probe is looked for; where photons are too few for it, say so."""
    if not config.probe_search or config.effort == "fast":
        return False
    floor = statistics.noise_floor
    if floor is None or floor < SEARCHABLE_FLOOR:
        return True
    monitor.event("start_probe", "Too few counts to search a start probe; the given one is used.")
    return False


def searched_probe(
    scan: Scan,
    frames: OrderedFrames,
    statistics: ScanStatistics,
    arrays: Arrays,
    config: SolverConfig,
    *,
    softening: float,
    random: np.random.Generator,
    monitor: Monitor,
) -> Complex64[np.ndarray, "n n"]:
    """Search a better start probe, and tell which one it is."""
    found = search_start_probe(
        scan,
        frames,
        statistics,
        arrays,
        softening=softening,
        object_floor=config.object_floor,
        random=random,
        ask_to_stop=monitor.ask_to_stop,
    )
    monitor.lap("start_probe")
    monitor.event(
        "start_probe",
        f"Start probe: {found.describe()} (residual {found.best_residual:.3f}, "
        f"as given {found.given_residual:.3f}).",
        family=found.family,
        value=found.value,
        residual=found.best_residual,
        given_residual=found.given_residual,
    )
    return found.probe
