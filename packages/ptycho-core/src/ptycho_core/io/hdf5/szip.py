"""What a block of szip unpacks to: asked of the library that HDF5 uses, as the block does not tell.

A block that is cut short unpacks to less, which the HDF5 library does not notice.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from pathlib import Path

import h5py

__all__ = ["is_here", "unpacked_bytes"]


class _Parameters(ctypes.Structure):
    _fields_ = (
        ("options", ctypes.c_int),
        ("bits_per_pixel", ctypes.c_int),
        ("pixels_per_block", ctypes.c_int),
        ("pixels_per_scanline", ctypes.c_int),
    )


@cache
def _library() -> ctypes.CDLL | None:
    """Load the szip library beside h5py, or the system's; None where there is none."""
    beside = Path(h5py.__file__).parent
    wheels = (beside.parent / "h5py.libs", beside / ".dylibs", beside)
    found = [str(path) for place in wheels for path in sorted(place.glob("*sz*")) if path.is_file()]
    for name in (*found, ctypes.util.find_library("sz"), ctypes.util.find_library("szip")):
        if name is None or not any(part in name for part in (".so", ".dylib", ".dll")):
            continue
        try:
            library = ctypes.CDLL(name)
            library.SZ_BufftoBuffDecompress.restype = ctypes.c_int
        except (OSError, AttributeError):
            continue
        return library
    return None


def is_here() -> bool:
    """Whether blocks can be asked for what they unpack to."""
    return _library() is not None


def unpacked_bytes(raw: bytes, values: tuple[int, ...], most_bytes: int) -> int:
    """Unpack a block without its size in front.

    Args:
        values: the filter's parameters in the file.

    Returns:
        The number of bytes, 0 where it is damaged.
    """
    library = _library()
    if library is None:
        return 0
    options, per_block, bits, per_line = values[:4]
    target = (ctypes.c_char * most_bytes)()
    size = ctypes.c_size_t(most_bytes)
    failed = library.SZ_BufftoBuffDecompress(
        target,
        ctypes.byref(size),
        ctypes.c_char_p(raw),
        ctypes.c_size_t(len(raw)),
        ctypes.byref(_Parameters(options, bits, per_block, per_line)),
    )
    return 0 if failed else int(size.value)
