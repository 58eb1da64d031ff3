"""One function for each kind of panel, drawn on axes that the caller has placed.

Uses matplotlib's object interface only: importing pyplot costs time and looks for a display.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ptycho_config.plaintext import plain
from ptycho_core.figures.display import colour_wheel, scale_bar

__all__ = [
    "ACCENTS",
    "FAINT",
    "GREYS",
    "INK",
    "PAPER",
    "UNSEEN",
    "add_axes",
    "draw_arrows",
    "draw_image",
    "draw_positions",
    "draw_scale_bar",
    "draw_sentence",
    "draw_wheel",
    "mark_as_best",
    "title",
]

INK = "#1b1f24"
PAPER = "#ffffff"
#: Where no frame looks: a calm blue grey that is no value of the grey scale.
UNSEEN = "#e4e8ee"
FAINT = "#8a94a0"
ACCENTS = ("#2f6fb0", "#d2691e", "#3a8f5c", "#8e4fa8", "#b23a48", "#6b7280")
#: The ends stay off pure black and white, which screens and printers render unevenly.
GREYS = LinearSegmentedColormap.from_list("ptycho_greys", ["#060606", "#fbfbfb"], N=512).with_extremes(
    bad=UNSEEN
)


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a place given in inches from the lower left corner of the page."""
    page_width, page_height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / page_width, bottom / page_height, width / page_width, height / page_height)
    )
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
        spine.set_color(FAINT)
    return axes


def title(axes: Axes, text: str, note: str = "") -> None:
    """Write a panel's title at its upper left, and a quieter note at its upper right."""
    # The name of a file may stand there; a dollar in one begins no formula.
    axes.set_title(plain(text), loc="left", fontsize=10.5, color=INK, pad=5, parse_math=False)
    if note:
        axes.set_title(plain(note), loc="right", fontsize=8.5, color="#5a6470", pad=5, parse_math=False)


def mark_as_best(axes: Axes) -> None:
    """Draw a green frame around the picture among several that is the right one."""
    for spine in axes.spines.values():
        spine.set_color("#2f9e44")
        spine.set_linewidth(3)


def draw_image(
    axes: Axes,
    image: np.ndarray,
    limits: tuple[float, float] | None,
    *,
    label: str = "",
    colormap: Any = GREYS,
    pixel_size_m: float | None = None,
    pixel_aspect: float = 1.0,
    bar: bool = True,
    shrunk: int = 1,
    corner_px: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Show an image with pixels of their true shape, a scale bar and, for single-valued images, a colour bar.

    Args:
        image: (H, W) values, or (H, W, 3) colours for which `limits` is None.
        label: what the colour bar shows, unit included.
        pixel_size_m: width of a pixel. pixel_aspect: its height over its width.
        shrunk: how many pixels of the canvas, in rows and in columns, one value stands for.
        corner_px: (y, x) of pixel [0, 0] in the coordinates of the axes.
    """
    height, width = (shrunk * side for side in image.shape[:2])
    top, left = (side - 0.5 for side in corner_px)
    # Where several values share one page pixel matplotlib averages.
    picture = axes.imshow(
        image,
        cmap=colormap,
        vmin=limits and limits[0],
        vmax=limits and limits[1],
        interpolation="auto",
        extent=(left, left + width, top + height, top),
        aspect=pixel_aspect,
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_anchor("C")
    axes.set_facecolor(UNSEEN)
    if limits is not None:
        _colour_bar(axes, picture, label)
    if bar:
        draw_scale_bar(axes, width, height, pixel_size_m, corner_px)


def _colour_bar(axes: Axes, picture: Any, label: str) -> None:
    """Put a colour bar beside a panel that was placed by hand; a panel of a grid makes room for its own."""
    figure = _figure_of(axes)
    if axes.get_subplotspec() is None:
        box, (page_width, _) = axes.get_position(), figure.get_size_inches()
        place = (box.x1 + 0.07 / page_width, box.y0, 0.11 / page_width, box.height)
        bar = figure.colorbar(picture, cax=figure.add_axes(place))
    else:
        bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.02)
    bar.outline.set_linewidth(0.4)
    bar.outline.set_edgecolor(FAINT)
    bar.ax.tick_params(labelsize=7.5, length=2, width=0.5, colors="#3c444d", pad=2)
    locator: Any = bar.ax.yaxis.get_major_locator()  # Any: each kind of locator has its own parameters
    locator.set_params(nbins=5)
    if label:
        bar.set_label(label, fontsize=8, color="#3c444d", labelpad=2)


def _figure_of(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise ValueError("the axes belong to no figure of their own")
    return figure


def draw_scale_bar(
    axes: Axes,
    width_px: int,
    height_px: int,
    pixel_size_m: float | None,
    corner_px: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Put a bar of round length into the lower left corner of an image."""
    length, label = scale_bar(width_px, pixel_size_m)
    x, y = corner_px[1] + 0.04 * width_px, corner_px[0] + 0.955 * height_px
    thickness = 0.012 * height_px
    axes.add_patch(
        Rectangle(
            (x, y - thickness), length, thickness, facecolor="white", edgecolor="#000000", linewidth=0.6
        )
    )
    place = (x + length / 2, y - 1.7 * thickness)
    # Where somebody looks closer and leaves the bar outside, its label is outside too.
    text = axes.text(*place, label, ha="center", va="bottom", fontsize=8.5, clip_on=True)
    text.set_color("white")
    text.set_path_effects([withStroke(linewidth=2.0, foreground="#000000")])


def draw_wheel(axes: Axes) -> None:
    """Inset the key to the hues: a small disc whose colour at each angle is that phase."""
    n = 64
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j]
    radius = np.hypot(y, x)
    # Rows run downwards, so the angle is mirrored to turn the usual way on the page.
    disc = np.where(radius <= 1, np.exp(-1j * np.arctan2(y, x)), 0).astype(np.complex64)
    colours = np.concatenate((colour_wheel(disc), (radius <= 1)[..., None].astype(np.float32)), axis=-1)
    inset = axes.inset_axes((0.775, 0.80, 0.16, 0.16))
    inset.imshow(colours, interpolation="bilinear")
    inset.set_axis_off()
    for x_text, y_text, label in ((1.13, 0.5, "0"), (-0.13, 0.5, "π")):
        inset.text(
            x_text,
            y_text,
            label,
            transform=inset.transAxes,
            color="white",
            fontsize=8,
            ha="center",
            va="center",
        )


def draw_arrows(
    axes: Axes, positions_px: np.ndarray, moves_px: np.ndarray, *, factor: float, label: str
) -> None:
    """Show by how much each position was moved.

    Args:
        positions_px, moves_px: (M, 2), (y, x).
        factor: arrows are so many times as long as the moves; their colour tells the true length.
    """
    y, x = positions_px[:, 0], positions_px[:, 1]
    arrows = axes.quiver(
        x,
        y,
        factor * moves_px[:, 1],
        factor * moves_px[:, 0],
        np.linalg.norm(moves_px, axis=1),
        angles="xy",
        scale_units="xy",
        scale=1.0,
        width=0.004,
        cmap="viridis",
    )
    _square_view(axes, x, y)
    axes.tick_params(labelsize=7.5, length=2, width=0.5, colors="#3c444d", pad=2)
    axes.set_xlabel("x / px", fontsize=8, labelpad=1)
    axes.set_ylabel("y / px", fontsize=8, labelpad=0)
    _colour_bar(axes, arrows, label)


def draw_positions(
    axes: Axes,
    positions_px: np.ndarray,
    values: np.ndarray,
    *,
    limits: tuple[float, float],
    label: str,
    colormap: str = "viridis",
    n_path: int = 0,
) -> None:
    """Show one value per scan position at the place where the probe stood; frames without a value are hollow.

    Those that stand nowhere, or far outside of all others, are not shown.

    Args:
        positions_px: (M, 2), (y, x).
        n_path: draw the path of the probe through the first so many positions.
    """
    shown = _near_the_scan(positions_px, np.isfinite(values))
    positions_px, values = positions_px[shown], values[shown]
    y, x = positions_px[:, 0], positions_px[:, 1]
    known = np.isfinite(values)
    size = float(np.clip(9000.0 / max(len(y), 1), 0.6, 42.0))
    if n_path > 1:
        path = np.stack((x[:n_path], y[:n_path]), axis=-1)
        segments = np.stack((path[:-1], path[1:]), axis=1)
        axes.add_collection(LineCollection(list(segments), colors=FAINT, linewidths=0.4, zorder=0))
    dots = axes.scatter(
        x[known],
        y[known],
        c=values[known],
        s=size,
        cmap=colormap,
        vmin=limits[0],
        vmax=limits[1],
        linewidths=0,
    )
    if not known.all():
        axes.scatter(x[~known], y[~known], s=size, facecolors="none", edgecolors=FAINT, linewidths=0.6)
    _square_view(axes, x, y)
    axes.tick_params(labelsize=7.5, length=2, width=0.5, colors="#3c444d", pad=2)
    axes.set_xlabel("x / px", fontsize=8, labelpad=1)
    axes.set_ylabel("y / px", fontsize=8, labelpad=0)
    _colour_bar(axes, dots, label)


def _square_view(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    axes.set_aspect("equal")
    side = 1.06 * max(float(np.ptp(x)), float(np.ptp(y)), 1.0)
    x_middle, y_middle = 0.5 * (float(x.min()) + float(x.max())), 0.5 * (float(y.min()) + float(y.max()))
    axes.set_xlim(x_middle - side / 2, x_middle + side / 2)
    axes.set_ylim(y_middle + side / 2, y_middle - side / 2)


def draw_sentence(axes: Axes, sentence: str) -> None:
    """Say in words what a picture would only pretend to show."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(UNSEEN)
    axes.text(
        0.5,
        0.5,
        sentence,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=10,
        color=INK,
        wrap=True,
    )


def _near_the_scan(positions_px: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mark the positions of frames with a value, and of others within half the scan's width of them."""
    finite = np.asarray(np.isfinite(positions_px).all(axis=1))
    known = known & finite
    if not known.any():
        return finite
    low, high = positions_px[known].min(axis=0), positions_px[known].max(axis=0)
    around = (high - low).max() / 2
    with np.errstate(invalid="ignore"):
        near = ((positions_px >= low - around) & (positions_px <= high + around)).all(axis=1)
    return np.asarray(known | (finite & near))
