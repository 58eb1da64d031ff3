"""NPY: frames alone, mapped; positions come from a file of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io.npy import read_npy_header
from ptycho_core.io.raw_scan import RawScan
from ptycho_core.io.recognise import one_line

__all__ = ["mapped", "read"]


def read(path: Path, name: str) -> RawScan:
    """Map a stack of frames."""
    return RawScan(name=name, format="NPY", frames=mapped(path), positions_px=None, source=path)


def mapped(path: Path) -> np.ndarray:
    """Map an NPY file, believing its header only after a look at the file's size.

    Raises:
        DataError: truncated, damaged, or made of Python objects.
    """
    try:
        with path.open("rb") as stream:
            header = read_npy_header(stream)
        if header.dtype.hasobject or header.dtype.names is not None:
            raise ValueError(f"it holds {header.dtype}, not plain numbers")
        n_bytes = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
        there = path.stat().st_size - len(header.raw)
        if n_bytes > there or n_bytes == 0:
            raise ValueError(f"its header declares {n_bytes} bytes of values, the file holds {there}")
        order = "F" if header.fortran_order else "C"
        return np.memmap(path, header.dtype, "r", len(header.raw), header.shape, order)
    except (OSError, EOFError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path.name}: cannot be read as NPY ({one_line(str(error))}). Copy or export it again."
        ) from error
