"""Pictures of results, scans and comparisons, drawn without a display and written whole or not at all."""

from typing import Any

from ptycho_config.moved import moved_name
from ptycho_core.figures.comparison import write_comparison
from ptycho_core.figures.embedded import (
    ObjectPicture,
    corrections_png,
    object_pictures,
    probe_png,
    residual_curve_png,
    residual_map_png,
    training_curves_png,
)
from ptycho_core.figures.result import FIGURE_FILES, write_figures, write_overview
from ptycho_core.figures.scan import write_scan_picture

__all__ = [
    "FIGURE_FILES",
    "ObjectPicture",
    "corrections_png",
    "object_pictures",
    "probe_png",
    "residual_curve_png",
    "residual_map_png",
    "training_curves_png",
    "write_comparison",
    "write_figures",
    "write_overview",
    "write_scan_picture",
]

_MOVED = {"write_orientations": "ptycho_core.orientations"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
