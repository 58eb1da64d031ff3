"""Frames that lie in a file as they are, read piece by piece through a handle.

They are not mapped: where a mapped file becomes shorter, the process ends by SIGBUS without a word. A read
that finds too little is an error that can be told. The handle stays open, so that a file which is renamed or
removed is read to its end all the same.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.regular import open_regular
from ptycho_core.scan.lazy import ArraySource, FrameSource

__all__ = ["Handle", "PlainSource", "PlainValues"]


class Handle:
    """A regular file that is open for reading as long as someone holds this."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            OSError: that is impossible, or it is no regular file.
        """
        with open_regular(path) as file:
            self.fd = os.dup(file.fileno())
        self._seeking = threading.Lock()

    def read_into(self, target: memoryview, at: int) -> int:
        """Read some bytes from a place on; return how many, 0 at the end. Several threads may ask."""
        if hasattr(os, "preadv"):
            return os.preadv(self.fd, [target], at)
        with self._seeking:
            os.lseek(self.fd, at, os.SEEK_SET)
            piece = os.read(self.fd, len(target))
        target[: len(piece)] = piece
        return len(piece)

    def __del__(self) -> None:
        fd = getattr(self, "fd", None)  # it may never have been opened
        if fd is not None:
            os.close(fd)


@dataclass(frozen=True, eq=False)
class PlainValues:
    """An array in a file, its values one after the other.

    Attributes:
        offset: byte at which they begin.
        fortran_order: the first axis runs fastest.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    fortran_order: bool = False
    _open: list[Handle] = field(default_factory=list, repr=False)

    def read(self) -> np.ndarray:
        """Read all of them into memory.

        Raises:
            DataError: the file has become shorter, or cannot be read.
        """
        values = np.empty(self.shape, self.dtype, order="F" if self.fortran_order else "C")
        self.read_into(values.reshape(-1, order="F" if self.fortran_order else "C"), 0)
        return values

    def read_into(self, target: np.ndarray, first: int) -> None:
        """Fill an array, contiguous in memory, with the values from number `first` on.

        Raises:
            DataError: as for `read`.
        """
        view = target.reshape(-1).view(np.uint8).data if target.size else memoryview(b"")
        at, done = self.offset + first * self.dtype.itemsize, 0
        while done < len(view):
            try:
                count = self._handle().read_into(view[done:], at + done)
            except OSError as error:
                raise DataError(f"{self.path.name}: cannot be read any more ({error.strerror}).") from error
            if count == 0:
                raise DataError(
                    f"{self.path.name}: the file ends at byte {at + done}, {len(view) - done} bytes before "
                    "its time: it was truncated after it was opened. Copy it again."
                )
            done += count

    def begun(self) -> PlainValues:
        """Open the file now, so that what is read later is the same file.

        Raises:
            OSError: it cannot be opened.
        """
        self._handle()
        return self

    def _handle(self) -> Handle:
        if not self._open:
            self._open.append(Handle(self.path))
        return self._open[0]

    def __getstate__(self) -> dict[str, Any]:  # Any: the fields
        return {**self.__dict__, "_open": []}


@dataclass(frozen=True, eq=False)
class PlainSource:
    """Frames of an array in C order: of rank 3, or 4 for a raster of (rows, columns) frames."""

    values: PlainValues

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of a raster; None where the frames are stored in one row."""
        shape = self.values.shape
        return (shape[0], shape[1]) if len(shape) == 4 else None

    @property
    def shape(self) -> tuple[int, int, int]:
        *frames, height, width = self.values.shape
        return math.prod(frames), height, width

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def read(self, chosen: np.ndarray) -> np.ndarray:
        block = np.empty((chosen.size, *self.shape[1:]), self.dtype)
        self.read_into(block, chosen)
        return block

    def read_into(self, block: np.ndarray, chosen: np.ndarray) -> None:
        """Read frames into an array that is contiguous in memory."""
        _, height, width = self.shape
        cuts = np.flatnonzero(np.diff(chosen) != 1) + 1
        for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), chosen.size], strict=True):
            self.values.read_into(block[first:last], int(chosen[first]) * height * width)

    def frames_first(self) -> FrameSource:
        """Read all into memory, the frames first: each of them is scattered over the file."""
        values = self.values.read().reshape(self.shape)
        return ArraySource(np.ascontiguousarray(np.moveaxis(values, 2, 0)))
