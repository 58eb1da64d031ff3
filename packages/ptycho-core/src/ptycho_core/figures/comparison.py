"""The picture of a comparison: two objects side by side, aligned, and how far the finest detail agrees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Complex64, Float
from matplotlib.axes import Axes

from ptycho_core.figures.display import covered_box, phase_without_ramp, robust_limits
from ptycho_core.figures.page import blank_page, write_page
from ptycho_core.figures.panels import add_axes, draw_image, title

__all__ = ["COMPARISON_PANELS", "AlignedPair", "write_comparison"]


class AlignedPair:
    """Two aligned objects as pictures with common grey values.

    Attributes:
        amplitude, phase_rad: of the first and the second, (h, w) each; NaN outside the region compared.
        difference: |first - second|, (h, w).
        names: of both. frc: Fourier ring correlation from the zero frequency to Nyquist.
        corner_px: (y, x) of pixel [0, 0] in the scan.
    """

    def __init__(
        self,
        first: Complex64[np.ndarray, "height width"],
        second: Complex64[np.ndarray, "height width"],
        seen: Bool[np.ndarray, "height width"],
        *,
        names: tuple[str, str],
        frc: Float[np.ndarray, "ring"] | Sequence[float],
        corner_px: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Prepare the pictures.

        Args:
            first: the object under test, aligned to `second` (shift, phase ramp, complex factor).
            seen: region compared.
            frc: Fourier ring correlation from the zero frequency to Nyquist.
            corner_px: (y, x) of pixel [0, 0] of the arrays in the scan.
        """
        box = covered_box(seen)
        inside = seen[box]
        pair = [np.where(inside, obj[box], np.nan).astype(np.complex64) for obj in (first, second)]
        phases = [phase_without_ramp(np.nan_to_num(obj), inside) for obj in pair]
        self.amplitude = [np.abs(obj) for obj in pair]
        self.phase_rad = [np.where(inside, phase, np.nan) for phase in phases]
        self.difference = np.abs(pair[0] - pair[1])
        self.names = names
        self.frc = np.asarray(frc, dtype=np.float64)
        self.corner_px = (corner_px[0] + box[0].start, corner_px[1] + box[1].start)


def _object(which: int, what: str) -> Callable[[Axes, AlignedPair], None]:
    def draw(axes: Axes, pair: AlignedPair) -> None:
        images, unit = (pair.amplitude, "") if what == "amplitude" else (pair.phase_rad, "rad")
        title(axes, f"object {what}", pair.names[which])
        draw_image(axes, images[which], robust_limits(images[1]), label=unit, corner_px=pair.corner_px)

    return draw


def _difference(axes: Axes, pair: AlignedPair) -> None:
    title(axes, "difference", "|first − second|")
    limits = (0.0, robust_limits(pair.difference)[1])
    draw_image(axes, pair.difference, limits, colormap="magma", corner_px=pair.corner_px)


def _correlation(axes: Axes, pair: AlignedPair) -> None:
    title(axes, "Fourier ring correlation")
    values = pair.frc
    axes.plot(np.linspace(0, 1, len(values)), values, color="#2f6fb0", linewidth=1.5)
    for threshold, name in ((0.5, "1/2"), (1 / 7, "1/7")):
        axes.axhline(threshold, color="#8a94a0", linewidth=0.8, linestyle="--")
        axes.text(0.995, threshold + 0.012, name, fontsize=8, color="#5a6470", ha="right")
    axes.set_xlim(0, 1)
    axes.set_ylim(min(0.0, float(np.nanmin(values, initial=0.0))), 1.04)
    axes.set_xlabel("spatial frequency / Nyquist", fontsize=8.5)
    axes.tick_params(labelsize=8, length=2, width=0.5)


#: Name -> what draws it, in the order of a page.
COMPARISON_PANELS: Mapping[str, Callable[[Axes, AlignedPair], None]] = {
    "amplitude": _object(0, "amplitude"),
    "other_amplitude": _object(1, "amplitude"),
    "difference": _difference,
    "phase": _object(0, "phase"),
    "other_phase": _object(1, "phase"),
    "correlation": _correlation,
}


def write_comparison(
    path: str | Path,
    *,
    first: Complex64[np.ndarray, "height width"],
    second: Complex64[np.ndarray, "height width"],
    seen: Bool[np.ndarray, "height width"],
    names: tuple[str, str],
    frc: Float[np.ndarray, "ring"] | Sequence[float],
    note: str = "",
) -> Path:
    """Draw amplitude and phase of two aligned objects with common grey values, their difference, and the FRC.

    Args:
        first: the object under test, aligned to `second` (shift, phase ramp, complex factor).
        seen: region compared.
        frc: Fourier ring correlation from the zero frequency to Nyquist.
    """
    figure = blank_page(15.6, 9.6, heading=f"{names[0]}  compared with  {names[1]}", note=note, dpi=110)
    pair = AlignedPair(first, second, seen, names=names, frc=frc)
    places = {
        "amplitude": (0.3, 4.75, 3.95, 3.95),
        "other_amplitude": (5.15, 4.75, 3.95, 3.95),
        "phase": (0.3, 0.25, 3.95, 3.95),
        "other_phase": (5.15, 0.25, 3.95, 3.95),
        "difference": (10.1, 4.75, 3.95, 3.95),
        "correlation": (10.5, 0.55, 4.6, 3.55),
    }
    for name, place in places.items():
        COMPARISON_PANELS[name](add_axes(figure, *place), pair)
    return write_page(figure, Path(path))
