"""Pages: a blank one of a given size, and the way of one to a PNG file that is complete or absent."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ptycho_config.plaintext import plain
from ptycho_core.figures.panels import INK, PAPER
from ptycho_core.files import atomic_path

__all__ = ["blank_page", "page_png", "write_page"]


def blank_page(
    width_in: float, height_in: float, *, heading: str = "", note: str = "", dpi: int = 120
) -> Figure:
    """Make a page with a heading and, in a quieter line below it, a note."""
    figure = Figure(figsize=(width_in, height_in), dpi=dpi, facecolor=PAPER)
    FigureCanvasAgg(figure)
    left = 0.3 / width_in
    # Names of files stand in these lines; a dollar in one begins no formula.
    as_it_is = {"va": "top", "parse_math": False}
    figure.text(left, 1 - 0.22 / height_in, plain(heading), fontsize=13, color=INK, weight="bold", **as_it_is)
    if note:
        below = figure.text(left, 1 - 0.52 / height_in, plain(note), fontsize=9.5, color="#5a6470", va="top")
        below.set_parse_math(False)
    return figure


def write_page(figure: Figure, path: Path) -> Path:
    """Write a page as PNG.

    Raises:
        OutputError: the directory cannot be written or the disk is full.
    """
    with atomic_path(path) as temporary:
        # Compression level 3 halves the time of the default and adds a few per cent of size.
        figure.savefig(temporary, format="png", pil_kwargs={"compress_level": 3})
    return path


def page_png(figure: Figure) -> bytes:
    """Give a page as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 6})
    return buffer.getvalue()
