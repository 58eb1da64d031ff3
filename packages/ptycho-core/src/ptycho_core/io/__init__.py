"""Files: scans come in through `open_scan`, results go out whole or not at all.

Names are loaded when first used, so that a command can list its flags before it reads anything.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptycho_core.files import atomic_path, make_directory, write_json, write_npz, write_text
    from ptycho_core.io.opening import open_scan, read_scan, scan_from_arrays
    from ptycho_core.io.options import ReadOptions
    from ptycho_core.io.raw_scan import RawScan
    from ptycho_core.io.saving import save_scan

__all__ = [
    "RawScan",
    "ReadOptions",
    "atomic_path",
    "make_directory",
    "open_scan",
    "read_scan",
    "save_scan",
    "scan_from_arrays",
    "write_json",
    "write_npz",
    "write_text",
]

_HOME = {
    "RawScan": "raw_scan",
    "ReadOptions": "options",
    "open_scan": "opening",
    "read_scan": "opening",
    "save_scan": "saving",
    "scan_from_arrays": "opening",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOME[name]}" if name in _HOME else "ptycho_core.files"
    return getattr(importlib.import_module(home), name)
