"""One page with the phase of the object in each setting that was tried, the best first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ptycho_core.doctor.findings import Diagnosis
from ptycho_core.doctor.setting import Setting
from ptycho_core.figures.display import covered_phase, robust_limits
from ptycho_core.figures.page import blank_page, write_page
from ptycho_core.figures.panels import add_axes, draw_image, mark_as_best, title

__all__ = ["in_words", "write_sheet"]

_PICTURES = 8
#: Letters of a title that a whole note stands beside, and at most.
_BESIDE_A_NOTE, _LONGEST_TITLE = 20, 33


def in_words(setting: Setting) -> str:
    """Say what a setting changes."""
    parts = []
    if setting.other_dc:
        parts.append("other DC")
    if setting.other_measurement:
        parts.append("other measurement")
    if setting.transposed:
        parts.append("transposed")
    if setting.turn_deg % 360:
        parts.append(f"turned {setting.turn_deg % 360:.0f}°")
    if (setting.scale_y, setting.scale_x) != (1.0, 1.0):
        alike = setting.scale_y == setting.scale_x
        scales = f"{setting.scale_y:.3g}" if alike else f"{setting.scale_y:.3g}, {setting.scale_x:.3g}"
        parts.append(f"scaled {scales}")
    if setting.probe != "as-is":
        parts.append(f"{setting.probe} probe")
    if setting.probe_modes > 1:
        parts.append(f"{setting.probe_modes} modes")
    for name, said in (
        ("refine_background", "background found"),
        ("frame_intensity", "frame intensity"),
        ("refine_positions", "positions refined"),
    ):
        if getattr(setting, name):
            parts.append(said)
    return ", ".join(parts) or "as read"


def write_sheet(diagnosis: Diagnosis, path: str | Path, *, name: str) -> Path:
    """Draw the object's phase in the setting as read and in the best others.

    Raises:
        OutputError: the file cannot be written.
    """
    best = [trial for trial in diagnosis.trials if trial is not diagnosis.as_read]
    shown = [diagnosis.as_read, *best[: _PICTURES - 1]]
    figure = blank_page(
        13.6, 7.6, heading=f"{name}: how it may be read", note=f"Found: {diagnosis.outcome}.", dpi=110
    )
    for place, trial in enumerate(shown):
        row, column = divmod(place, 4)
        picture = covered_phase(trial.result.object, trial.result.coverage)
        axes = add_axes(figure, 0.3 + 3.33 * column, 3.75 - 3.5 * row, 2.75, 2.75)
        said, note = in_words(trial.setting), f"{trial.unexplained:.0%} unexplained"
        if len(said) > _BESIDE_A_NOTE:
            said = said if len(said) <= _LONGEST_TITLE else f"{said[: _LONGEST_TITLE - 1].rstrip()}…"
            note = f"{trial.unexplained:.0%}"
        title(axes, said, note)
        seen = picture[np.isfinite(picture)]
        limits = robust_limits(seen, percent=1.0)
        draw_image(axes, picture, limits, label="phase / rad" if column == 3 else "", pixel_size_m=None)
        if trial is diagnosis.best:
            mark_as_best(axes)
    return write_page(figure, Path(path))
