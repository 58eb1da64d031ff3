"""Ptychography in NumPy: scans, reference physics, the solver, simulation and metrics.

Names are loaded when first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ptycho_config.moved import keep_old_paths
from ptycho_core.moved import MOVED

if TYPE_CHECKING:
    from ptycho_core.doctor import diagnose
    from ptycho_core.io import open_scan, save_scan, scan_from_arrays
    from ptycho_core.result.callbacks import Callback
    from ptycho_core.result.progress import ProgressBar
    from ptycho_core.result.reconstruction import Reconstruction
    from ptycho_core.scan import Scan
    from ptycho_core.solver import solve

__all__ = [
    "Callback",
    "ProgressBar",
    "Reconstruction",
    "Scan",
    "diagnose",
    "open_scan",
    "save_scan",
    "scan_from_arrays",
    "solve",
]

_HOME = {
    "Callback": "ptycho_core.result.callbacks",
    "ProgressBar": "ptycho_core.result.progress",
    "Reconstruction": "ptycho_core.result.reconstruction",
    "Scan": "ptycho_core.scan",
    "diagnose": "ptycho_core.doctor",
    "open_scan": "ptycho_core.io",
    "save_scan": "ptycho_core.io",
    "scan_from_arrays": "ptycho_core.io",
    "solve": "ptycho_core.solver",
}

keep_old_paths(MOVED)


def __getattr__(name: str) -> Any:
    try:
        module = importlib.import_module(_HOME[name])
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(module, name)
