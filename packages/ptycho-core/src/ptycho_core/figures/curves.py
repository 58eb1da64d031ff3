"""Panels that follow a run from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from ptycho_core.figures.panels import ACCENTS, FAINT, INK, PAPER, draw_sentence

__all__ = ["draw_correlation", "draw_curves", "draw_loss"]


def draw_loss(axes: Axes, history: Sequence[Mapping[str, Any]], data_residual: float) -> None:
    """Draw the residual of every epoch, one colour a resolution level, and the final R as a dashed line.

    A coarse level is judged by its own, central frequencies; its residual is not comparable with the next.
    """
    if not history:
        draw_sentence(axes, "No epochs were recorded.")
        return
    epochs = np.arange(1, len(history) + 1)
    residual = np.array([float(row["residual"]) for row in history])
    level = np.array([int(row.get("level", 1)) for row in history])
    final = data_residual if math.isfinite(data_residual) else math.nan
    low, high = _loss_limits(residual, final)
    axes.set_ylim(low, high)
    axes.set_xlim(0.3, len(history) + 0.7)
    for rank, number in enumerate(dict.fromkeys(level.tolist())):
        chosen = np.flatnonzero(level == number)
        colour = ACCENTS[rank % len(ACCENTS)]
        axes.plot(epochs[chosen], residual[chosen], color=colour, linewidth=1.6, marker="o", markersize=3)
        size = history[int(chosen[0])].get("size_px")
        label = f"{size} px" if size else f"level {number}"
        middle = 0.5 * float(epochs[chosen[0]] + epochs[chosen[-1]])
        axes.text(middle, high - 0.02 * (high - low), label, color=colour, fontsize=9, ha="center", va="top")
        if rank:
            axes.axvline(float(epochs[chosen[0]]) - 0.5, color=FAINT, linewidth=0.6, linestyle=":")
    if math.isfinite(final):
        axes.axhline(final, color=INK, linewidth=0.9, linestyle="--")
        text = axes.text(
            0.3 + 0.015 * len(history), final, f"final R = {final:.4f}", fontsize=8.5, va="bottom"
        )
        text.set_path_effects([withStroke(linewidth=2.5, foreground=PAPER)])
    axes.grid(True, color="#e8ebef", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("epoch", fontsize=8.5, labelpad=2)
    axes.set_ylabel("data residual", fontsize=8.5, labelpad=2)
    axes.tick_params(labelsize=8, length=2, width=0.5, colors="#3c444d")


def draw_curves(axes: Axes, curves: Mapping[str, Sequence[float]], *, label: str) -> None:
    """Draw quantities that share a unit, one value an epoch; what is not finite leaves a gap."""
    for rank, (name, values) in enumerate(curves.items()):
        colour = ACCENTS[rank % len(ACCENTS)]
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, color=colour, linewidth=1.6, marker="o", markersize=3, label=name)
    axes.legend(fontsize=8.5, frameon=False)
    axes.grid(True, color="#e8ebef", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("epoch", fontsize=8.5, labelpad=2)
    axes.set_ylabel(label, fontsize=8.5, labelpad=2)
    axes.tick_params(labelsize=8, length=2, width=0.5, colors="#3c444d")


def draw_correlation(
    axes: Axes, curves: Mapping[str, Sequence[float]], *, side_px: float, resolution_px: float
) -> None:
    """Draw a Fourier ring correlation with the curves that it has to exceed.

    Args:
        curves: `correlation`, `half_bit` and `one_bit`, a value for each ring.
        side_px: ring k has k / side_px cycles per object pixel.
        resolution_px: period at which the correlation falls below the curve of half a bit.
    """
    names = (
        ("one_bit", "one bit", FAINT),
        ("half_bit", "half a bit", INK),
        ("correlation", "halves", ACCENTS[0]),
    )
    for key, label, colour in names:
        values = np.asarray(curves[key], dtype=np.float64)
        frequency = np.arange(len(values)) / side_px
        width = 1.8 if key == "correlation" else 1.0
        axes.plot(frequency[1:], values[1:], color=colour, linewidth=width, label=label)
    if resolution_px > 2:
        axes.axvline(1 / resolution_px, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 0.5)
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8.5, frameon=False)
    axes.grid(True, color="#e8ebef", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("cycles per object pixel", fontsize=8.5, labelpad=2)
    axes.set_ylabel("correlation of two halves", fontsize=8.5, labelpad=2)
    axes.tick_params(labelsize=8, length=2, width=0.5, colors="#3c444d")


def _loss_limits(residual: np.ndarray, final: float) -> tuple[float, float]:
    """Limits that hold the curve, its last value and the level names above, but no wild first epoch."""
    shown = residual[np.isfinite(residual)]
    high = float(np.percentile(shown, 97)) if shown.size > 10 else float(shown.max(initial=0.0))
    values = [value for value in (float(shown.min(initial=high)), high, final) if math.isfinite(value)]
    low, high = min(values), max(values)
    span = max(high - low, 1e-3)
    return low - 0.05 * span, high + 0.14 * span
