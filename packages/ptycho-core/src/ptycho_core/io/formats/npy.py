"""NPY: frames alone, left in the file; positions come from a file of their own."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import cast

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_config.regular import open_regular
from ptycho_core.io.npy import lazily_or_read, read_npy_header
from ptycho_core.io.raw_scan import RawScan
from ptycho_core.io.recognise import refuse_more_than_memory
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.plain import PlainValues

__all__ = ["opened_array", "read", "read_array"]


def read(path: Path, name: str) -> RawScan:
    """Leave a stack of frames where it is."""
    return RawScan(name=name, format="NPY", frames=opened_array(path), positions_px=None, source=path)


def opened_array(path: Path) -> np.ndarray | LazyFrames:
    """Leave the array of an NPY file in it where it can be frames; else read it.

    Raises:
        DataError: truncated, damaged, or made of Python objects.
    """
    return lazily_or_read(_values(path))


def read_array(path: Path) -> np.ndarray:
    """Read an NPY file into memory.

    Raises:
        DataError: as for `opened_array`, or larger than this machine's memory.
    """
    values = _values(path)
    refuse_more_than_memory(path, "its array", math.prod(values.shape) * values.dtype.itemsize)
    return values.read()


def _values(path: Path) -> PlainValues:
    """Find the values of an NPY file, believing its header only after a look at the file's size."""
    try:
        with open_regular(path) as stream:
            header = read_npy_header(cast(io.BufferedIOBase, stream))
            if header.dtype.hasobject or header.dtype.names is not None:
                raise ValueError(f"it holds {header.dtype}, not plain numbers")
            n_bytes = math.prod(header.shape) * header.dtype.itemsize
            there = os.fstat(stream.fileno()).st_size - len(header.raw)
        if n_bytes > there or n_bytes == 0:
            raise ValueError(f"its header declares {n_bytes} bytes of values, the file holds {there}")
        return PlainValues(
            path, header.dtype, header.shape, len(header.raw), fortran_order=header.fortran_order
        ).begun()
    except (OSError, EOFError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path.name}: cannot be read as NPY ({excerpt(str(error))}). Copy or export it again."
        ) from error
