"""The picture of a scan before any reconstruction: where the probe stood, what the detector saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ptycho_core.figures.display import colour_wheel, mode_mosaic, robust_limits
from ptycho_core.figures.page import blank_page, write_page
from ptycho_core.figures.panels import add_axes, draw_image, draw_positions, draw_wheel, title
from ptycho_core.scan import Scan

__all__ = ["write_scan_picture"]

_PATH_SHOWN = 2000


def write_scan_picture(scan: Scan, path: str | Path, *, counts_per_frame: np.ndarray) -> Path:
    """Draw positions, mean pattern, the first frame and the start probe of a scan.

    Args:
        counts_per_frame: (M,) counts of the good pixels of each frame.
    Raises:
        OutputError: the file cannot be written.
    """
    n = scan.frame_px
    figure = blank_page(
        16.2,
        4.75,
        heading=scan.name,
        note=f"{scan.n_frames} frames of {n} × {n} px, {scan.measurement}",
        dpi=110,
    )
    places = [(0.75, 0.5, 3.1), (4.75, 0.5, 3.1), (8.75, 0.5, 3.1), (12.6, 0.5, 3.1)]
    axes = [add_axes(figure, left, bottom, side, side) for left, bottom, side in places]
    title(axes[0], "scan positions", "first frame to last")
    values = np.asarray(counts_per_frame, dtype=np.float64)
    draw_positions(
        axes[0],
        scan.positions_px,
        values,
        limits=robust_limits(values, percent=1.0, least_span=1e-9),
        label="counts in the frame",
        n_path=min(scan.n_frames, _PATH_SHOWN),
    )
    title(axes[1], "mean pattern", "log₁₀ (counts + 0.01)")
    mean_pattern = np.log10(np.asarray(scan.mean_pattern()) + 0.01)
    draw_image(axes[1], mean_pattern, robust_limits(mean_pattern), colormap="inferno", bar=False)
    middle = scan.n_frames // 2
    title(axes[2], f"frame {middle}", "log₁₀ (counts + 1)")
    frame = np.log10(np.asarray(scan.counts(np.array([middle])))[0] + 1)
    draw_image(axes[2], frame, robust_limits(frame, percent=0.1), colormap="inferno", bar=False)
    title(
        axes[3], "start probe", {"estimated": "estimated"}.get(scan.probe_source, f"from {scan.probe_source}")
    )
    draw_image(axes[3], colour_wheel(mode_mosaic(np.asarray(scan.probe))), None, bar=False)
    draw_wheel(axes[3])
    return write_page(figure, Path(path))
