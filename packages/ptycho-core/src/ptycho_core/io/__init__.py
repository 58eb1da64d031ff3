"""Files: scans come in through `open_scan`, results go out whole or not at all."""

from ptycho_core.files import atomic_path, make_directory, write_json, write_npz, write_text
from ptycho_core.io.opening import open_scan, scan_from_arrays
from ptycho_core.io.saving import save_scan

__all__ = [
    "atomic_path",
    "make_directory",
    "open_scan",
    "save_scan",
    "scan_from_arrays",
    "write_json",
    "write_npz",
    "write_text",
]
