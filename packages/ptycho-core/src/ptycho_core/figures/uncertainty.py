"""The picture of how far each pixel can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from matplotlib.figure import Figure

from ptycho_core.figures.page import blank_page, page_png, write_page
from ptycho_core.figures.panels import add_axes, draw_image, title
from ptycho_core.figures.view import LABELS, DrawnResult, ObjectView, pixel_of

__all__ = ["UNCERTAINTY_FILE", "ResultWithUncertainty", "uncertainty_png", "write_uncertainty"]

UNCERTAINTY_FILE = "uncertainty.png"
#: Pixels at the rim are known much worse than the others: so many are brighter than the brightest shade.
_BRIGHTEST = 0.98


@runtime_checkable
class ResultWithUncertainty(DrawnResult, Protocol):
    """What the picture needs of a result."""

    @property
    def amplitude_std(self) -> Float32[np.ndarray, "height width"] | None: ...
    @property
    def phase_std_rad(self) -> Float32[np.ndarray, "height width"] | None: ...


def write_uncertainty(reconstruction: ResultWithUncertainty, path: str | Path) -> Path:
    """Draw the standard deviations of amplitude and phase into a PNG file.

    Args:
        reconstruction: a result with `amplitude_std` and `phase_std_rad`.
    Raises:
        OutputError: the file cannot be written.
    """
    return write_page(_uncertainty(reconstruction), Path(path))


def uncertainty_png(reconstruction: ResultWithUncertainty) -> bytes:
    """Draw what `write_uncertainty` draws, for a page."""
    return page_png(_uncertainty(reconstruction))


def _uncertainty(result: ResultWithUncertainty) -> Figure:
    view = ObjectView(result)
    figure = blank_page(13.6, 6.85, heading=view.heading("uncertainty"), note=view.note(), dpi=110)
    for place, (std, name) in enumerate(
        ((result.amplitude_std, "amplitude"), (result.phase_std_rad, "phase"))
    ):
        if std is None:
            continue
        image = std[view.box]
        known = image[np.isfinite(image)]
        axes = add_axes(figure, 0.3 + 6.7 * place, 0.2, 5.6, 5.6)
        title(
            axes, f"standard deviation of the {name}", f"median {np.median(known):.2g}" if known.size else ""
        )
        limits = (0.0, max(float(np.quantile(known, _BRIGHTEST)), 1e-9) if known.size else 1.0)
        draw_image(axes, image, limits, label=LABELS[name], colormap="cividis", **pixel_of(result))
    return figure
