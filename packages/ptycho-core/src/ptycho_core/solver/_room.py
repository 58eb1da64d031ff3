"""Room for the frames that the solver goes through: memory, or for many a file without a name."""

from __future__ import annotations

import math
import os
import shutil
import tempfile

import numpy as np

__all__ = ["IN_MEMORY_BYTES", "room_for"]

#: Up to here the frames are held in memory, which is where small scans are solved fastest.
IN_MEMORY_BYTES = 1 << 29
#: What has to stay free on the disk, for the results among other things.
_LEFT_BYTES = 1 << 30


def room_for(shape: tuple[int, ...], *, in_memory_bytes: int = IN_MEMORY_BYTES) -> tuple[np.ndarray, bool]:
    """Make an array (float32) to write frames into, and say whether it lies in a file.

    A large one lies in a temporary file (`TMPDIR`), which has no name and is gone when the process ends,
    however it ends. The system keeps as much of it in memory as is free, and takes it back when it is needed.
    Where the disk has no room, or the system cannot promise it, the array is in memory whatever its size.
    """
    n_bytes = 4 * math.prod(shape)
    if n_bytes > in_memory_bytes and hasattr(os, "posix_fallocate"):
        try:
            return _in_file(shape, n_bytes), True
        except OSError:
            pass  # no such folder, or no room in it
    return np.empty(shape, np.float32), False


def _in_file(shape: tuple[int, ...], n_bytes: int) -> np.ndarray:
    if shutil.disk_usage(tempfile.gettempdir()).free < n_bytes + _LEFT_BYTES:
        raise OSError("too little room")
    with tempfile.TemporaryFile(prefix="ptycho-") as file:
        # Promised now: a file with holes would end the process when the disk is full later.
        os.posix_fallocate(file.fileno(), 0, n_bytes)
        return np.asarray(np.memmap(file, np.float32, "r+", shape=shape))
