"""The picture of corrected positions: an arrow from where each frame was said to be to where it was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ptycho_core.figures.page import blank_page, write_page
from ptycho_core.figures.panels import add_axes, draw_arrows, title
from ptycho_core.figures.view import DrawnResult

__all__ = ["POSITIONS_FILE", "draw_corrections", "write_positions"]

POSITIONS_FILE = "positions.png"
#: The mean arrow is about this long, as a part of the scan's width.
_ARROW_SHARE = 0.04


def write_positions(reconstruction: DrawnResult, path: str | Path) -> Path:
    """Draw the corrections of the positions into a PNG file.

    Raises:
        OutputError: the file cannot be written.
    """
    return write_page(draw_corrections(reconstruction), Path(path))


def draw_corrections(reconstruction: DrawnResult) -> Figure:
    """Draw the corrections of the positions, all in all and without the strain of the whole scan."""
    used = np.isfinite(reconstruction.residual_per_frame)
    used &= np.isfinite(reconstruction.positions_px).all(axis=1)
    moved = reconstruction.position_corrections_px()[used]
    given = reconstruction.positions_px[used] - moved
    centred = given - given.mean(axis=0)
    strain = np.linalg.lstsq(centred, moved, rcond=None)[0].T
    alone = moved - centred @ strain.T
    length = np.linalg.norm(moved, axis=1)
    percent = 100 * strain
    figure = blank_page(
        12.4,
        6.4,
        heading=f"{reconstruction.scan_name}  ·  corrected positions",
        note=f"mean {length.mean():.2f} px, largest {length.max():.2f} px  ·  strain in %: "
        f"yy {percent[0, 0]:+.2f}, xx {percent[1, 1]:+.2f}, yx {percent[0, 1]:+.2f}, xy {percent[1, 0]:+.2f}",
        dpi=110,
    )
    for left, name, moves in ((0.7, "corrections", moved), (6.8, "without the strain of the scan", alone)):
        axes = add_axes(figure, left, 0.5, 4.6, 4.9)
        mean = float(np.linalg.norm(moves, axis=1).mean())
        factor = _ARROW_SHARE * float(np.ptp(given, axis=0).max()) / max(mean, 1e-9)
        title(axes, name, f"arrows {factor:.3g} times as long")
        draw_arrows(axes, given, moves, factor=factor, label="px")
    return figure
