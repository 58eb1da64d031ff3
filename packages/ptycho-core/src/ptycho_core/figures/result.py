"""The three pictures of a result: `amplitude.png`, `phase.png` and `overview.png`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from matplotlib.figure import Figure

from ptycho_core.figures.display import covered_box, covered_region, robust_limits
from ptycho_core.figures.page import blank_page, write_page
from ptycho_core.figures.panels import add_axes, draw_image, title
from ptycho_core.figures.position_map import POSITIONS_FILE, write_positions
from ptycho_core.figures.result_panels import RESULT_PANELS
from ptycho_core.figures.view import DrawnResult, ObjectView, pixel_of

__all__ = ["FIGURE_FILES", "UNWRAPPED_FILE", "write_figures", "write_overview", "write_unwrapped"]

FIGURE_FILES = ("amplitude.png", "phase.png", "overview.png")
UNWRAPPED_FILE = "phase_unwrapped.png"


def write_figures(
    reconstruction: DrawnResult,
    directory: str | Path,
    *,
    phase_limits_rad: tuple[float | None, float | None] = (None, None),
) -> dict[str, Path]:
    """Draw the object's amplitude, its phase, and everything at a glance.

    Where the run found that the data cannot carry an image, the pictures say so instead of showing one.

    Args:
        phase_limits_rad: phases that are black and white; those of the well illuminated part where None.
    Returns:
        File name -> path of the PNG files, each written completely or not at all; `positions.png` is among
        them where positions were corrected.
    Raises:
        OutputError: the directory cannot be written or the disk is full.
    """
    root = Path(directory)
    view = ObjectView(reconstruction, phase_limits_rad)
    pages = (_single(view, "amplitude"), _single(view, "phase"), _overview(view))
    files = {name: write_page(page, root / name) for name, page in zip(FIGURE_FILES, pages, strict=True)}
    if reconstruction.positions_given_px is not None:
        files[POSITIONS_FILE] = write_positions(reconstruction, root / POSITIONS_FILE)
    return files


def write_overview(reconstruction: DrawnResult, path: str | Path) -> Path:
    """Draw everything at a glance into one PNG file.

    Raises:
        OutputError: the file cannot be written.
    """
    return write_page(_overview(ObjectView(reconstruction)), Path(path))


def write_unwrapped(
    reconstruction: DrawnResult, phase_rad: Float32[np.ndarray, "height width"], path: str | Path
) -> Path:
    """Draw a phase without jumps of 2 pi into a PNG file.

    Args:
        phase_rad: on the canvas of the object.
    Raises:
        OutputError: the file cannot be written.
    """
    view = ObjectView(reconstruction)
    seen = covered_region(reconstruction.coverage)
    box = covered_box(seen)
    image = np.where(seen[box], phase_rad[box], np.nan)
    figure = blank_page(7.0, 7.25, heading=view.heading(), note=view.note(), dpi=130)
    axes = add_axes(figure, 0.3, 0.2, 6.0, 6.0)
    title(axes, "object phase, unwrapped", "linear ramp and offset removed")
    limits = robust_limits(phase_rad[seen])
    draw_image(axes, image, limits, label="rad", **pixel_of(reconstruction))
    return write_page(figure, Path(path))


def _single(view: ObjectView, name: str) -> Figure:
    figure = blank_page(7.0, 7.25, heading=view.heading(), note=view.note(), dpi=130)
    RESULT_PANELS[name](add_axes(figure, 0.3, 0.2, 6.0, 6.0), view)
    return figure


def _overview(view: ObjectView) -> Figure:
    figure = blank_page(16.2, 10.0, heading=view.heading(), note=view.note(), dpi=110)
    places = {
        "amplitude": (0.3, 4.25, 4.7, 4.7),
        "phase": (5.85, 4.25, 4.7, 4.7),
        "epochs": (12.0, 4.5, 3.95, 4.45),
        "probe_amplitude": (0.3, 0.35, 3.2, 3.2),
        "probe": (4.35, 0.35, 3.2, 3.2),
        "coverage": (8.1, 0.35, 3.2, 3.2),
        "residual": (12.5, 0.55, 2.95, 3.0),
    }
    for name, place in places.items():
        RESULT_PANELS[name](add_axes(figure, *place), view)
    return figure
