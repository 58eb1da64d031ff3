"""Pictures of results, scans and comparisons, drawn without a display and written whole or not at all."""

from ptycho_core.figures.comparison import write_comparison
from ptycho_core.figures.orientations import write_orientations
from ptycho_core.figures.result import FIGURE_FILES, write_figures, write_overview
from ptycho_core.figures.scan import write_scan_picture

__all__ = [
    "FIGURE_FILES",
    "write_comparison",
    "write_figures",
    "write_orientations",
    "write_overview",
    "write_scan_picture",
]
