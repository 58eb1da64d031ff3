"""MATLAB files of versions 5 to 7, which are no HDF5 yet: read by SciPy, held as version 7.3 stores them.

So whatever reads HDF5 reads them too: axes in reverse, a struct as a group, its fields as data sets.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.bounds import largest_array_bytes, refuse_great_growth
from ptycho_core.io.recognise import refuse_more_than_memory

__all__ = ["as_hdf5", "is_matlab5"]

_BEGINNING = b"MATLAB 5.0 MAT-file"
_HEADER_BYTES, _PACKED, _DEFLATE_RATIO = 128, 15, 1032  # of zlib at its best
_ITEM_BYTES = {
    **dict.fromkeys(("double", "int64", "uint64"), 8),
    **dict.fromkeys(("single", "int32", "uint32"), 4),
    **dict.fromkeys(("int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "logical"), 1),
}
#: How SciPy names the platform in the first line; MATLAB has GLNXA64, PCWIN64, MACI64.
_OF_PYTHON = (b"Platform: posix", b"Platform: nt")
#: Structs in structs, to this depth.
_DEEPEST = 8


def is_matlab5(path: Path) -> bool:
    """Whether a file is of one of these versions."""
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def as_hdf5(path: Path) -> h5py.File:
    """Return an HDF5 file in memory with the variables of a MATLAB file that are numbers.

    Raises:
        DataError: the file is damaged, or needs more memory than there is.
    """
    from scipy.io import loadmat, whosmat

    try:
        declared = sum(
            int(np.prod(shape, dtype=object)) * _ITEM_BYTES.get(kind, 0) for _, shape, kind in whosmat(path)
        )
        # SciPy's arrays and the file in memory, and twice that where numbers are complex.
        refuse_more_than_memory(path, "what it holds", 2 * declared)
        _require_bounded(path)
        variables = loadmat(path, struct_as_record=True, squeeze_me=False)
    except (ConfigError, DataError):
        raise
    except MemoryError as error:
        raise DataError(f"{path.name}: not enough memory to read it.") from error
    except Exception as error:  # what a damaged file provokes is of many kinds
        cause = excerpt(" ".join(str(error).split()), 120) or type(error).__name__
        raise DataError(
            f"{path.name}: the MATLAB file is truncated or damaged ({cause}). Copy or save it again."
        ) from error
    # In memory: nothing of that name is written or opened.
    file = h5py.File(path, "w", driver="core", backing_store=False)
    by_python = any(platform in variables["__header__"] for platform in _OF_PYTHON)
    for key, value in variables.items():
        if not key.startswith("__"):
            _put(file, key, value, _DEEPEST, by_python=by_python)
    return file


def _require_bounded(path: Path) -> None:
    """Refuse a file whose packed variables grow out of next to nothing; only large ones are looked at.

    Raises:
        DataError: it is one.
    """
    with path.open("rb") as file:
        order = "<" if file.read(_HEADER_BYTES)[-2:] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, left = struct.unpack(f"{order}2I", tag)
            stored, unpacked, stream = left, 0, zlib.decompressobj()
            while kind == _PACKED and stored * _DEFLATE_RATIO > largest_array_bytes() and left:
                raw = file.read(min(left, 1 << 20))
                left -= len(raw) or left
                while raw and not stream.eof:
                    unpacked += len(stream.decompress(raw, 1 << 22))
                    raw = stream.unconsumed_tail
                    refuse_great_growth(path.name, "what it holds", unpacked, stored)
            file.seek(left, 1)


def _put(
    group: h5py.Group, key: str, value: Any, deeper: int, *, by_python: bool
) -> None:  # Any: what SciPy found
    if not isinstance(value, np.ndarray) or "/" in key:
        return
    if value.dtype.names is not None and value.size == 1 and deeper:
        inside = group.create_group(key)
        for name in value.dtype.names:
            _put(inside, name, value.reshape(-1)[0][name], deeper - 1, by_python=by_python)
    elif value.dtype.kind in "biufc":
        if _frames_are_first(value.shape, by_python=by_python):
            value = np.moveaxis(value, (-2, -1), (0, 1))
        group.create_dataset(key, data=value.T)


def _frames_are_first(shape: tuple[int, ...], *, by_python: bool) -> bool:
    """Whether the sides of the frames are the last two axes, as Python has them, not the first two."""
    if len(shape) not in (3, 4):
        return False
    last, first = shape[-2] == shape[-1], shape[0] == shape[1]
    return by_python if last == first else last
