"""Files: scans come in through `open_scan`, results go out whole or not at all."""

from ptycho_core.io.opening import open_scan
from ptycho_core.io.saving import save_scan
from ptycho_core.io.writes import atomic_path, make_directory, write_json, write_npz, write_text

__all__ = [
    "atomic_path",
    "make_directory",
    "open_scan",
    "save_scan",
    "write_json",
    "write_npz",
    "write_text",
]
