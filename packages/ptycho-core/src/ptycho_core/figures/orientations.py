"""The picture of the eight orientations: what the solver makes of each, the best first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ptycho_core.figures.display import covered_box, covered_region, phase_without_ramp, robust_limits
from ptycho_core.figures.page import blank_page, write_page
from ptycho_core.figures.panels import add_axes, draw_image, title
from ptycho_core.orientations import Trial, explaining

__all__ = ["write_orientations"]


def write_orientations(trials: Sequence[Trial], path: str | Path, *, name: str) -> Path:
    """Draw the phase of each trial's object on common grey values.

    Args:
        trials: the smallest residual first.
    Raises:
        OutputError: the file cannot be written.
    """
    right = explaining(list(trials))
    said = ", or its twin ".join(right) or "none stands out"
    figure = blank_page(
        13.6, 7.6, heading=f"{name}: eight orientations", note=f"Explains the frames: {said}.", dpi=110
    )
    pictures = [_phase(trial) for trial in trials]
    limits = robust_limits(pictures[0][np.isfinite(pictures[0])], percent=1)
    for place, (trial, picture) in enumerate(zip(trials, pictures, strict=True)):
        row, column = divmod(place, 4)
        axes = add_axes(figure, 0.3 + 3.33 * column, 3.75 - 3.5 * row, 2.75, 2.75)
        title(axes, trial.orientation, f"R = {trial.residual:.4f}")
        draw_image(
            axes,
            picture,
            limits,
            label="phase / rad" if column == 3 else "",
            pixel_size_m=trial.result.pixel_size_m,
        )
        if trial.orientation in right:
            for spine in axes.spines.values():
                spine.set_color("#2f9e44")
                spine.set_linewidth(3)
    return write_page(figure, Path(path))


def _phase(trial: Trial) -> np.ndarray:
    seen = covered_region(trial.result.coverage)
    box = covered_box(seen)
    obj = np.ascontiguousarray(trial.result.object[box])
    return np.where(seen[box], phase_without_ramp(obj, seen[box]), np.nan)
