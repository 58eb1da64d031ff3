"""Global heaps of HDF5 files, looked at before the HDF5 library reads them.

Texts of variable length lie in global heaps: blocks that begin with `GCOL` and hold one object after another
(HDF5 File Format Specification, version 3, section III.E). The library walks from object to object by their
sizes. An object that claims to take no room at all lets it walk for ever, in code that nothing can interrupt.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from ptycho_config.errors import DataError

__all__ = ["check_global_heaps"]

_SIGNATURE = b"GCOL"
_HEADER = struct.Struct("<4sB3xQ")  # signature, version, size of the block with this header
_OBJECT = struct.Struct("<HH4xQ")  # number, references, size without this header
_ALIGNMENT = 8
#: Heaps are looked for in so many bytes at either end of a file; between them lie the frames of a large one.
_LOOKED_AT_BYTES = 1 << 27


def check_global_heaps(path: Path, looked_at_bytes: int = _LOOKED_AT_BYTES) -> None:
    """Refuse a file with a global heap that cannot be walked to its end.

    Args:
        looked_at_bytes: how far heaps are looked for from either end.

    Raises:
        DataError: it is damaged.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = _without_end(content, looked_at_bytes)
    except (OSError, ValueError):  # it cannot be read, or is empty: whoever opens it says so
        return
    if place is not None:
        raise DataError(
            f"{path.name}: the HDF5 file is damaged: its texts cannot be read (the global heap at byte "
            f"{place} has no end). Copy or export it again."
        )


def _parts(size: int, looked_at_bytes: int) -> list[tuple[int, int]]:
    if size <= 2 * looked_at_bytes:
        return [(0, size)]
    return [(0, looked_at_bytes), (size - looked_at_bytes, size)]


def _without_end(content: mmap.mmap, looked_at_bytes: int) -> int | None:
    """Return where a heap without an end begins, None where there is none."""
    for start, end in _parts(len(content), looked_at_bytes):
        place = content.find(_SIGNATURE, start, end)
        while place >= 0:
            if not _ends(content, place):
                return place
            place = content.find(_SIGNATURE, place + len(_SIGNATURE), end)
    return None


def _ends(content: mmap.mmap, place: int) -> bool:
    """Walk through one heap as the library does, and say whether that comes to an end."""
    if place + _HEADER.size > len(content):
        return True
    _, version, size = _HEADER.unpack_from(content, place)
    if version != 1:
        return True
    end = min(place + size, len(content))
    here = place + _HEADER.size
    while here + _OBJECT.size <= end:
        number, _, length = _OBJECT.unpack_from(content, here)
        # The room that is free, number 0, counts its own header; it is not rounded up.
        step = length if number == 0 else _OBJECT.size + -(-length // _ALIGNMENT) * _ALIGNMENT
        step %= 1 << 64  # the library's numbers wrap
        if step == 0 or step >= 1 << 63:
            return False
        here += step
    return True
