"""Going on from an earlier result: where it put the frames, and its object and probe on our canvas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Complex64, Float64

from ptycho_config.errors import ConfigError
from ptycho_core.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver._canvas import canvas_shape
from ptycho_core.solver._modes import seed_modes
from ptycho_core.solver._monitor import Monitor
from ptycho_core.solver._resample import paste
from ptycho_core.solver._start_probe import spectrum_of

__all__ = ["carried_over", "corrected_positions"]


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
    offset = ours - start.origin_px
    whole = np.round(offset).astype(np.int64)
    shift_px = offset - whole
    corners = np.round(scan.positions_px - scan.positions_px.min(axis=0) + shift_px + margin_px)
    shape = canvas_shape(corners.astype(np.int64), scan.frame_px, margin_px)
    obj = np.ones(shape, np.complex64)
    paste(obj, start.object, whole)
    spectra = spectrum_of(start.probe).astype(np.complex64)
    if len(spectra) < probe_modes:
        extra = seed_modes(spectra[0], probe_modes)
        spectra = np.concatenate([spectra, extra[len(spectra) :]])
    return obj, spectra[:probe_modes], shift_px
