"""Files: scans come in through `open_scan`, results go out whole or not at all."""

from ptycho_core.io.opening import open_scan
from ptycho_core.io.saving import save_scan

__all__ = ["open_scan", "save_scan"]
