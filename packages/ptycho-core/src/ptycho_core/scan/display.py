"""What a scan shows of itself: one frame on axes of matplotlib, and a few lines for a notebook."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64

from ptycho_config.plaintext import plain

__all__ = ["draw_frame", "notebook_html"]

#: Side of a picture in a notebook.
_SIDE_PX = 180


def draw_frame(
    counts: Float[np.ndarray, "n n"], good: Bool[np.ndarray, "n n"], heading: str, axes: Any = None
) -> Any:
    """Draw the counts of a frame so that weak and strong ones are seen; bad pixels are grey.

    The picture holds the counts themselves, so that another norm shows them in another way. Between counts
    near zero its grey values are linear, beyond them logarithmic.

    Args:
        axes: axes of matplotlib; those of a new figure where None.
    Returns:
        The axes.
    Raises:
        TypeError: `axes` is something else.
    """
    from matplotlib.axes import Axes
    from matplotlib.colors import AsinhNorm

    if axes is None:
        from matplotlib import pyplot

        _, axes = pyplot.subplots(figsize=(5.2, 4.6), layout="compressed")
    if not isinstance(axes, Axes):
        raise TypeError(f"Scan.plot_frame expects axes of matplotlib, not {type(axes).__name__}.")
    shown = np.ma.masked_where(~good, counts)
    highest = max(float(shown.max()) if good.any() else 0.0, 1.0)
    picture = axes.imshow(shown, cmap="inferno", norm=AsinhNorm(linear_width=1, vmin=0, vmax=highest))
    axes.set_facecolor("#b9c1cb")
    axes.set_xlabel("detector x / px")
    axes.set_ylabel("detector y / px")
    axes.set_title(plain(heading), loc="left", parse_math=False)
    ticks = [0, *(10.0**power for power in range(int(np.log10(highest)) + 1))]
    told = {"label": "counts", "ticks": ticks, "format": "%g"}
    axes.figure.colorbar(picture, ax=axes, **told, fraction=0.046, pad=0.02)
    return axes


def notebook_html(
    mean_pattern: Float[np.ndarray, "n n"],
    positions_px: Float64[np.ndarray, "frame 2"],
    lines: Sequence[str],
    *,
    pattern_of: str,
) -> str:
    """Show the mean pattern, where the probe stood, and some lines of text; a few kilobytes.

    Args:
        pattern_of: which frames the pattern is the mean of.
    """
    height = np.log1p(np.maximum(mean_pattern, 0))
    pattern = (255 * (1 - height / max(float(height.max(initial=0)), 1e-30))).astype(np.uint8)
    pictures = (
        (f"mean pattern of {pattern_of}, logarithmic", _png(pattern)),
        ("positions of the probe", _png(_map_of(positions_px))),
    )
    images = "".join(
        f'<img alt="{escape(what)}" title="{escape(what)}" width="{_SIDE_PX}" height="{_SIDE_PX}" '
        f'style="margin-right:8px" src="data:image/png;base64,{data}">'
        for what, data in pictures
    )
    return f"<div>{images}<div>{'<br>'.join(map(escape, lines))}</div></div>"


def _map_of(positions_px: np.ndarray) -> np.ndarray:
    """Put a dark dot where each frame stands, in a square."""
    dots = np.full((_SIDE_PX, _SIDE_PX), 255, np.uint8)
    known = positions_px[np.isfinite(positions_px).all(axis=1)]
    if not len(known):
        return dots
    low, high = known.min(axis=0), known.max(axis=0)
    span = max(float((high - low).max()), 1e-9)
    place = 8 + (known - 0.5 * (low + high) + 0.5 * span) / span * (_SIDE_PX - 17)
    rows, columns = np.rint(place).astype(np.intp).T
    # Few frames are large dots, many are points.
    reach = 1 if len(known) < 2000 else 0
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            dots[rows + down, columns + right] = 40
    return dots


def _png(grey: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(grey).resize((_SIDE_PX, _SIDE_PX)).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
