"""The picture of a comparison: two objects side by side, aligned, and how far the finest detail agrees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Complex64, Float

from ptycho_core.figures.display import covered_box, phase_without_ramp, robust_limits
from ptycho_core.figures.page import blank_page, write_page
from ptycho_core.figures.panels import add_axes, draw_image, title

__all__ = ["write_comparison"]


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
    box = covered_box(seen)
    inside = seen[box]
    pair = [np.where(inside, obj[box], np.nan).astype(np.complex64) for obj in (first, second)]
    phases = [phase_without_ramp(np.nan_to_num(obj), inside) for obj in pair]
    rows = (
        ("amplitude", [np.abs(obj) for obj in pair], ""),
        ("phase", [np.where(inside, phase, np.nan) for phase in phases], "rad"),
    )
    for row, (what, images, unit) in enumerate(rows):
        bottom = 4.75 - row * 4.5
        limits = robust_limits(images[1])
        for column, (image, name) in enumerate(zip(images, names, strict=True)):
            axes = add_axes(figure, 0.3 + column * 4.85, bottom, 3.95, 3.95)
            title(axes, f"object {what}", name)
            draw_image(axes, image, limits, label=unit)
    difference = np.abs(pair[0] - pair[1])
    axes = add_axes(figure, 10.1, 4.75, 3.95, 3.95)
    title(axes, "difference", "|first − second|")
    draw_image(axes, difference, (0.0, robust_limits(difference)[1]), colormap="magma")
    curve = add_axes(figure, 10.5, 0.55, 4.6, 3.55)
    title(curve, "Fourier ring correlation")
    values = np.asarray(frc, dtype=np.float64)
    curve.plot(np.linspace(0, 1, len(values)), values, color="#2f6fb0", linewidth=1.5)
    for threshold, name in ((0.5, "1/2"), (1 / 7, "1/7")):
        curve.axhline(threshold, color="#8a94a0", linewidth=0.8, linestyle="--")
        curve.text(0.995, threshold + 0.012, name, fontsize=8, color="#5a6470", ha="right")
    curve.set_xlim(0, 1)
    curve.set_ylim(min(0.0, float(np.nanmin(values, initial=0.0))), 1.04)
    curve.set_xlabel("spatial frequency / Nyquist", fontsize=8.5)
    curve.tick_params(labelsize=8, length=2, width=0.5)
    return write_page(figure, Path(path))
