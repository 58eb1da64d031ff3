"""The pictures of a result one by one, as the bytes of PNG files, for a page that carries them inside it."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave

from ptycho_core.figures.curves import draw_correlation, draw_curves, draw_loss
from ptycho_core.figures.display import colour_wheel, mode_shares, robust_limits
from ptycho_core.figures.page import blank_page, page_png
from ptycho_core.figures.panels import (
    GREYS,
    add_axes,
    draw_image,
    draw_positions,
    draw_wheel,
    title,
)
from ptycho_core.figures.position_map import draw_corrections
from ptycho_core.figures.view import LABELS, DrawnResult, ObjectView, aspect_of, pixel_of

__all__ = [
    "ObjectPicture",
    "corrections_png",
    "correlation_png",
    "object_pictures",
    "plain_png",
    "probe_png",
    "residual_curve_png",
    "residual_map_png",
    "thumbnail_png",
    "training_curves_png",
]

_DPI = 130
_MODES_IN_A_ROW = 4
#: What a network's training records beside the residual: on its own scan, and on the test scan.
_TRAINING_COLUMN = re.compile(r"(train|val)_([a-z]+)")


class ObjectPicture(NamedTuple):
    """Amplitude or phase of the object, one pixel of the picture for `shrunk` x `shrunk` of the canvas.

    Attributes:
        width_px, height_px: of the part of the canvas that is shown.
        limits: values that are black and white, in the unit `label`.
        png: the picture without any frame or letters.
    """

    name: str
    label: str
    limits: tuple[float, float]
    width_px: int
    height_px: int
    shrunk: int
    png: bytes


def object_pictures(reconstruction: DrawnResult, *, largest_px: int = 4096) -> list[ObjectPicture]:
    """Give amplitude and phase of the part that the frames saw; none where the data carry no image.

    Args:
        largest_px: longest side of a picture; larger objects are averaged over squares of pixels.
    """
    if not reconstruction.dose_carries_image:
        return []
    view = ObjectView(reconstruction, largest_px=largest_px)
    pictures: list[ObjectPicture] = []
    for name, image in view.images.items():
        low, high = view.limits[name]
        colours = GREYS(np.ma.masked_invalid(np.clip((image - low) / (high - low), 0.0, 1.0)), bytes=True)
        colours = _rows_stretched(colours, aspect_of(reconstruction))
        height, width = (view.shrunk * side for side in colours.shape[:2])
        pictures.append(
            ObjectPicture(name, LABELS[name], (low, high), width, height, view.shrunk, plain_png(colours))
        )
    return pictures


def _rows_stretched(colours: np.ndarray, aspect: float) -> np.ndarray:
    """Repeat or drop rows, so that square pixels show oblong ones as they are."""
    if aspect == 1:
        return colours
    rows = np.arange(max(1, round(len(colours) * aspect))) / aspect
    return colours[np.minimum(rows.astype(int), len(colours) - 1)]


def probe_png(reconstruction: DrawnResult) -> bytes:
    """Draw each probe mode twice: its amplitude, and the complex field with hue as phase."""
    probe = reconstruction.probe
    shares = mode_shares(probe)
    columns = min(len(probe), _MODES_IN_A_ROW)
    rows = -(-len(probe) // columns)
    figure = blank_page(0.3 + 3.3 * columns, 0.15 + 5.6 * rows, dpi=_DPI)
    for mode, (field, share) in enumerate(zip(probe, shares, strict=True)):
        row, column = divmod(mode, columns)
        left, bottom = 0.15 + 3.3 * column, 0.15 + 5.6 * (rows - 1 - row)
        axes = add_axes(figure, left, bottom + 2.75, 2.45, 2.45)
        title(axes, f"mode {mode + 1}", f"{share:.1%} of the power")
        amplitude = np.abs(field)
        limits = (0.0, max(float(amplitude.max()), 1e-12))
        draw_image(axes, amplitude, limits, label="√counts", **pixel_of(reconstruction))
        axes = add_axes(figure, left, bottom, 2.45, 2.45)
        draw_image(axes, colour_wheel(field), None, bar=False, pixel_aspect=aspect_of(reconstruction))
        draw_wheel(axes)
    return page_png(figure)


def residual_map_png(reconstruction: DrawnResult) -> bytes:
    """Draw the residual of each frame where the probe stood."""
    figure = blank_page(6.2, 5.3, dpi=_DPI)
    axes = add_axes(figure, 0.65, 0.5, 4.6, 4.6)
    residual = reconstruction.residual_per_frame
    limits = robust_limits(residual, percent=1.0, least_span=0.01)
    draw_positions(axes, reconstruction.positions_px, residual, limits=limits, label="R of the frame")
    return page_png(figure)


def residual_curve_png(reconstruction: DrawnResult) -> bytes:
    """Draw the residual of every epoch."""
    figure, axes = _curve_page()
    draw_loss(axes, reconstruction.history, reconstruction.data_residual)
    return page_png(figure)


def training_curves_png(rows: Sequence[Mapping[str, str]]) -> dict[str, bytes]:
    """Draw what else a training recorded, one picture for each quantity: `loss`, `nll`.

    Args:
        rows: those of `metrics.csv`, one an epoch, as text; a field that is no number leaves a gap.
    """
    quantities: dict[str, dict[str, list[float]]] = {}
    for column in dict.fromkeys(key for row in rows for key in row if isinstance(key, str)):
        if found := _TRAINING_COLUMN.fullmatch(column):
            values = [_number(row.get(column)) for row in rows]
            if np.isfinite(values).any():
                quantities.setdefault(found[2], {})[column] = values
    pictures: dict[str, bytes] = {}
    for quantity, curves in quantities.items():
        figure, axes = _curve_page()
        draw_curves(axes, curves, label=quantity)
        pictures[quantity] = page_png(figure)
    return pictures


def correlation_png(curves: Mapping[str, Sequence[float]], *, side_px: float, resolution_px: float) -> bytes:
    """Draw the Fourier ring correlation of two halves of the frames, see `draw_correlation`."""
    figure, axes = _curve_page()
    draw_correlation(axes, curves, side_px=side_px, resolution_px=resolution_px)
    return page_png(figure)


def corrections_png(reconstruction: DrawnResult) -> bytes | None:
    """Draw by how much positions were corrected; None where they were left as given."""
    if reconstruction.positions_given_px is None:
        return None
    return page_png(draw_corrections(reconstruction))


def _curve_page() -> tuple[Figure, Any]:
    figure = blank_page(6.6, 4.3, dpi=_DPI)
    return figure, add_axes(figure, 0.7, 0.55, 5.7, 3.6)


def thumbnail_png(reconstruction: DrawnResult, largest_px: int) -> bytes | None:
    """Draw amplitude and phase side by side and small; None where the data carry no image."""
    if not reconstruction.dose_carries_image:
        return None
    view = ObjectView(reconstruction, largest_px=largest_px)
    sides = []
    for name, image in view.images.items():
        low, high = view.limits[name]
        sides.append(GREYS(np.ma.masked_invalid(np.clip((image - low) / (high - low), 0.0, 1.0)), bytes=True))
    return plain_png(np.concatenate(sides, axis=1))


def plain_png(colours: np.ndarray) -> bytes:
    """Give (H, W, 3) or (H, W, 4) bytes of colours as a PNG file, without any frame or letters."""
    buffer = io.BytesIO()
    imsave(buffer, colours, format="png", pil_kwargs={"compress_level": 6})
    return buffer.getvalue()


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
