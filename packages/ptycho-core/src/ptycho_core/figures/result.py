"""The three pictures of a result: `amplitude.png`, `phase.png` and `overview.png`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from matplotlib.figure import Figure

from ptycho_core.figures.curves import draw_loss
from ptycho_core.figures.display import (
    colour_wheel,
    covered_box,
    covered_region,
    mode_mosaic,
    mode_shares,
    robust_limits,
)
from ptycho_core.figures.page import blank_page, write_page
from ptycho_core.figures.panels import (
    GREYS,
    add_axes,
    draw_image,
    draw_positions,
    draw_sentence,
    draw_wheel,
    title,
)
from ptycho_core.figures.position_map import POSITIONS_FILE, write_positions
from ptycho_core.figures.view import LABELS, DrawnResult, ObjectView, aspect_of, pixel_of

__all__ = ["FIGURE_FILES", "UNWRAPPED_FILE", "write_figures", "write_overview", "write_unwrapped"]

FIGURE_FILES = ("amplitude.png", "phase.png", "overview.png")
UNWRAPPED_FILE = "phase_unwrapped.png"
_UNRELIABLE = "The data cannot carry an image:\ntoo few photons for any object\nto be told from noise."


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


def _draw_object(figure: Figure, view: ObjectView, name: str, place: tuple[float, float, float]) -> None:
    left, bottom, side = place
    axes = add_axes(figure, left, bottom, side, side)
    if not view.result.dose_carries_image:
        title(axes, f"object {name}")
        draw_sentence(axes, _UNRELIABLE)
        return
    title(axes, f"object {name}", "linear ramp and offset removed" if name == "phase" else "")
    draw_image(
        axes,
        view.images[name],
        view.limits[name],
        label=LABELS[name],
        **pixel_of(view.result),
        shrunk=view.shrunk,
    )


def _single(view: ObjectView, name: str) -> Figure:
    figure = blank_page(7.0, 7.25, heading=view.heading(), note=view.note(), dpi=130)
    _draw_object(figure, view, name, (0.3, 0.2, 6.0))
    return figure


def _overview(view: ObjectView) -> Figure:
    result = view.result
    figure = blank_page(16.2, 10.0, heading=view.heading(), note=view.note(), dpi=110)
    _draw_object(figure, view, "amplitude", (0.3, 4.25, 4.7))
    _draw_object(figure, view, "phase", (5.85, 4.25, 4.7))
    loss = add_axes(figure, 12.0, 4.5, 3.95, 4.45)
    title(loss, "loss curve")
    draw_loss(loss, result.history, result.data_residual)
    _draw_probe(figure, view)
    coverage = add_axes(figure, 8.1, 0.35, 3.2, 3.2)
    title(coverage, "coverage")
    draw_image(
        coverage,
        view.coverage,
        (0.0, float(view.coverage.max(initial=1e-9))),
        label="light",
        colormap="cividis",
        **pixel_of(result),
        shrunk=view.shrunk,
    )
    residual = add_axes(figure, 12.5, 0.55, 2.95, 3.0)
    title(residual, "residual of each frame")
    low, high = robust_limits(result.residual_per_frame, percent=1.0, least_span=0.01)
    draw_positions(
        residual, result.positions_px, result.residual_per_frame, limits=(low, high), label="R of the frame"
    )
    return figure


def _draw_probe(figure: Figure, view: ObjectView) -> None:
    result = view.result
    shares = mode_shares(result.probe)
    note = "" if len(shares) == 1 else "power " + ", ".join(f"{share:.1%}" for share in shares[:4])
    mosaic = mode_mosaic(result.probe)
    amplitude = add_axes(figure, 0.3, 0.35, 3.2, 3.2)
    title(amplitude, "probe amplitude", note)
    unit = "relative to each maximum" if len(shares) > 1 else "√counts"
    draw_image(
        amplitude,
        np.abs(mosaic),
        (0.0, max(float(np.abs(mosaic).max()), 1e-12)),
        label=unit,
        colormap=GREYS,
        **pixel_of(result),
    )
    wave = add_axes(figure, 4.35, 0.35, 3.2, 3.2)
    title(wave, "probe, complex", "hue = phase")
    draw_image(wave, colour_wheel(mosaic), None, bar=False, pixel_aspect=aspect_of(result))
    draw_wheel(wave)
