"""Positions in a file that grows beside the frames."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.regular import open_regular, require_regular
from ptycho_core.io.npy import NpyHeader, read_npy_header
from ptycho_core.io.positions import with_positions
from ptycho_core.io.raw_scan import RawScan
from ptycho_core.io.recognise import first_bytes, refuse_more_than_memory
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.plain import PlainSource, PlainValues

__all__ = ["PositionsBeside", "declared_rows", "find_beside", "grown_array", "without_blank_end"]

_ENDINGS = (".csv", ".txt", ".dat", ".npy", ".npz", ".h5")


def find_beside(source: Path) -> Path | None:
    """Find a source's file of positions: `NAME_positions.*` or `positions.*`, in it or beside it."""
    folders = [source] if source.is_dir() else []
    stem = source.name.split(".")[0]
    for folder in (*folders, source.parent):
        for name in (f"{stem}_positions", f"{stem}-positions", "positions"):
            if folder is source.parent and name == "positions" and source.is_dir():
                continue  # it may belong to another folder
            for ending in _ENDINGS:
                path = folder / f"{name}{ending}"
                if path != source and path.is_file():
                    return path
    return None


class PositionsBeside:
    """A file of positions, read anew when it has changed.

    Attributes:
        why_not: why it could not be read the last time, empty where it could.
    """

    def __init__(self, source: Path, path: Path | None = None, key: str | None = None) -> None:
        """Name the source that needs positions and, where it is known, their file; it may come later."""
        self._source, self._path, self._key = source, path, key
        self._seen: tuple[int, int] | None = None
        self.why_not = ""
        self._raw = RawScan(name=source.name, frames=np.empty((0, 0, 0)), positions_px=None)

    @property
    def known(self) -> RawScan:
        """What was read last; the disk, which may be gone, is not asked."""
        return self._raw

    def read(self) -> RawScan:
        """Return positions and what else the file brings; what could be read last where it is unfinished."""
        path = self._path or find_beside(self._source)
        if path is None:
            return self._raw
        try:
            status = require_regular(path)
            seen = (status.st_size, status.st_mtime_ns)
            if seen != self._seen:
                self._raw, self._seen = self._read_file(path), seen
            self.why_not = ""
        except (OSError, DataError) as error:  # it is being written, and the next look will tell
            said = error.strerror if isinstance(error, OSError) else str(error)
            self.why_not = f"{path.name}: {said or type(error).__name__}"
        return self._raw

    def _read_file(self, path: Path) -> RawScan:
        blank = replace(self._raw, positions_px=None, notes=())
        if path.suffix == ".npy" and first_bytes(path).startswith(b"\x93NUMPY"):
            return replace(blank, positions_px=without_blank_end(np.asarray(grown_array(path))))
        return with_positions(blank, path, self._key, growing=True)


def grown_array(path: Path) -> np.ndarray | LazyFrames:
    """Take the rows of an NPY file that are there, whatever number its header declares; frames stay in it.

    Raises:
        DataError: no NPY file of plain numbers, row by row.
    """
    try:
        header = _header(path)
        if header.dtype.hasobject or header.dtype.names is not None or header.fortran_order:
            raise ValueError(f"it holds {header.dtype} in an order that cannot grow")
        row_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
        if len(header.shape) < 2 or row_bytes == 0:
            raise ValueError(f"its header declares the shape {header.shape}")
        rows = (path.stat().st_size - len(header.raw)) // row_bytes
        if rows <= 0:
            return np.empty((0, *header.shape[1:]), header.dtype)
        values = PlainValues(path, header.dtype, (rows, *header.shape[1:]), len(header.raw))
        if len(header.shape) == 3:
            return LazyFrames(PlainSource(values.begun()))
        refuse_more_than_memory(path, "what is there", rows * row_bytes)
        return values.read()
    except (OSError, EOFError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path.name}: cannot be read as a growing NPY file ({error}). Write it as (frames, N, N), "
            "in C order."
        ) from error


def declared_rows(path: Path) -> int:
    """Return the number of rows that the header of an NPY file declares."""
    return _header(path).shape[0]


def _header(path: Path) -> NpyHeader:
    with open_regular(path) as stream:
        return read_npy_header(cast(io.BufferedIOBase, stream))


def without_blank_end(positions: np.ndarray) -> np.ndarray:
    """Leave out the rows at the end that are not written yet: zeros, or NaN."""
    values = np.asarray(positions)
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        return values
    written = np.flatnonzero(((values != 0) & ~np.isnan(values)).any(axis=1))
    return values[: int(written[-1]) + 1] if written.size else values[:0]
