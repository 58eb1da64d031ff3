"""What a run starts from: photons, background and probe of the scan, or an earlier result on our canvas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Complex64, Float64

from ptycho_config.errors import ConfigError
from ptycho_config.models import SolverConfig
from ptycho_core.arrays import Arrays
from ptycho_core.physics import whole_and_rest
from ptycho_core.physics.canvas import paste
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import HOPELESS_NOISE_FLOOR, ScanStatistics, scan_statistics
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.monitor import Monitor
from ptycho_core.solver.probe_search import search_start_probe
from ptycho_core.solver.spectra import seed_modes, spectrum_of
from ptycho_core.solver.windows import canvas_shape

__all__ = [
    "SEARCHABLE_FLOOR",
    "SOFTENING",
    "carried_over",
    "corrected_positions",
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


def corrected_positions(scan: Scan, start: Reconstruction, monitor: Monitor) -> Scan:
    """Return the scan with the positions that an earlier result of it corrected."""
    given = start.positions_given_px
    if given is None or given.shape != scan.positions_px.shape or not np.allclose(given, scan.positions_px):
        return scan
    monitor.event("positions", "The positions are those that the result to start from had corrected.")
    return replace(scan, positions_px=start.positions_px)


def carried_over(
    start: Reconstruction, scan: Scan, *, margin_px: int, probe_modes: int
) -> tuple[
    Complex64[np.ndarray, "height width"], Complex64[np.ndarray, "mode n n"], Float64[np.ndarray, " 2"]
]:
    """Return an earlier object on our canvas, its probe's spectra, and the shift of our positions there.

    Args:
        margin_px: of our canvas.
        probe_modes: how many are wanted; those that are missing are seeded.
    Raises:
        ConfigError: its frames had another size.
    """
    if start.frame_px != scan.frame_px:
        raise ConfigError(
            f"`start` has a probe of {start.frame_px} px and the scan has frames of {scan.frame_px} px. "
            "Start from a result of frames of the same size."
        )
    # Where the earlier canvas lies against ours: whole pixels are copied, the rest moves the positions.
    ours = scan.positions_px.min(axis=0) - scan.frame_px // 2 - margin_px
    (whole,), (shift_px,) = whole_and_rest((ours - start.origin_px)[None])
    corners, _ = whole_and_rest(scan.positions_px - scan.positions_px.min(axis=0) + shift_px + margin_px)
    shape = canvas_shape(corners, scan.frame_px, margin_px)
    obj = np.ones(shape, np.complex64)
    paste(obj, start.object, whole)
    spectra = spectrum_of(start.probe).astype(np.complex64)
    if len(spectra) < probe_modes:
        extra = seed_modes(spectra[0], probe_modes)
        spectra = np.concatenate([spectra, extra[len(spectra) :]])
    return obj, spectra[:probe_modes], shift_px
