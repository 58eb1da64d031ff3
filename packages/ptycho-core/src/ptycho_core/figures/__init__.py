"""Pictures of results, scans and comparisons, drawn without a display and written whole or not at all."""

import os
import sys
from contextlib import suppress
from typing import Any

from ptycho_config.moved import moved_name

if "matplotlib" not in sys.modules and "MPLBACKEND" in os.environ:
    # A notebook exports its backend to the programs that it starts; where that is not installed, importing
    # matplotlib fails. No picture of ours needs one.
    _backend = os.environ.pop("MPLBACKEND")
    try:
        import matplotlib
    finally:
        os.environ["MPLBACKEND"] = _backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = _backend

from ptycho_core.figures.comparison import AlignedPair, write_comparison
from ptycho_core.figures.embedded import (
    ObjectPicture,
    corrections_png,
    correlation_png,
    object_pictures,
    plain_png,
    probe_png,
    residual_curve_png,
    residual_map_png,
    thumbnail_png,
    training_curves_png,
)
from ptycho_core.figures.frame_pairs import FrameComparison, FramePair, frame_pairs, residual_colours
from ptycho_core.figures.plots import plot_comparison, plot_result
from ptycho_core.figures.result import (
    FIGURE_FILES,
    UNWRAPPED_FILE,
    write_figures,
    write_overview,
    write_unwrapped,
)
from ptycho_core.figures.scan import write_scan_picture
from ptycho_core.figures.uncertainty import UNCERTAINTY_FILE, uncertainty_png, write_uncertainty

__all__ = [
    "FIGURE_FILES",
    "UNCERTAINTY_FILE",
    "UNWRAPPED_FILE",
    "AlignedPair",
    "FrameComparison",
    "FramePair",
    "ObjectPicture",
    "corrections_png",
    "correlation_png",
    "frame_pairs",
    "object_pictures",
    "plain_png",
    "plot_comparison",
    "plot_result",
    "probe_png",
    "residual_colours",
    "residual_curve_png",
    "residual_map_png",
    "thumbnail_png",
    "training_curves_png",
    "uncertainty_png",
    "write_comparison",
    "write_figures",
    "write_overview",
    "write_scan_picture",
    "write_uncertainty",
    "write_unwrapped",
]

_MOVED = {"write_orientations": "ptycho_core.orientations"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
