"""The NPY format: its header read without trust, and bytes in memory that behave as a file."""

from __future__ import annotations

import ast
import io
import math
import os
from dataclasses import dataclass, replace

import numpy as np

from ptycho_core.io.recognise import refuse_more_than_memory
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.plain import PlainSource, PlainValues

_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class NpyHeader:
    """The header of an NPY file and its bytes."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool
    raw: bytes


def read_npy_header(stream: io.BufferedIOBase) -> NpyHeader:
    """Read the header of an NPY stream (format versions 1 to 3) and leave the stream at the first value.

    Raises:
        ValueError: not such a header.
    """
    start = stream.read(8)
    if len(start) != 8 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise ValueError("it does not begin like an NPY file")
    width = 2 if start[6] == 1 else 4
    length_field = stream.read(width)
    length = int.from_bytes(length_field, "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header claims {length} bytes")
    text = stream.read(length)
    if len(text) != length:
        raise EOFError("its header is cut short")
    dtype, shape, fortran_order = _parse_header(text)
    return NpyHeader(dtype, shape, fortran_order, start + length_field + text)


def _parse_header(text: bytes) -> tuple[np.dtype, tuple[int, ...], bool]:
    try:
        fields = ast.literal_eval(text.decode("utf-8").strip())
        descr, shape, fortran_order = fields["descr"], fields["shape"], fields["fortran_order"]
        dtype = np.dtype(descr if isinstance(descr, str) else "O")  # a list describes a structured type
    except (SyntaxError, TypeError, KeyError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError("its header is not an NPY header") from error
    sizes_are_whole = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    if not sizes_are_whole or len(shape) > 16 or not isinstance(fortran_order, bool):
        raise ValueError("its header describes no array")
    return dtype, shape, fortran_order


def lazily_or_read(values: PlainValues) -> np.ndarray | LazyFrames:
    """Leave an array in its file where it can be frames, or a raster of them; else read it.

    Axes of length 1 before and behind those of the frames are left out where it stays in the file.

    Raises:
        DataError: the file became shorter, or the array needs more than this machine's memory.
    """
    shape = values.shape
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) in (3, 4) and 0 not in shape and not values.fortran_order:
        return LazyFrames(PlainSource(replace(values, shape=shape)))
    n_bytes = math.prod(shape) * values.dtype.itemsize
    refuse_more_than_memory(values.path, "an array", n_bytes)
    return values.read()


class MemoryFile(io.RawIOBase):
    """A readable, seekable file over bytes in memory, without a copy of them."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer, self._position = buffer, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._buffer)}[whence]
        if origin + offset < 0:
            raise OSError("seek before the beginning")
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, target: bytearray | memoryview) -> int:  # type: ignore[override]
        piece = self._buffer[self._position : self._position + len(target)]
        target[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)
