"""Global heaps of HDF5 files, looked at before the HDF5 library reads them.

Texts of variable length lie in global heaps: blocks that begin with `GCOL` and hold one object after another
(HDF5 File Format Specification, version 3, section III.E). The library walks from object to object by their
sizes. An object that claims to take no room at all lets it walk for ever, in code that nothing can interrupt.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from ptycho_config.errors import DataError, NotRegularError
from ptycho_config.regular import open_regular

__all__ = ["check_global_heaps"]

_SIGNATURE = b"GCOL"
_HEADER = struct.Struct("<4sB3xQ")  # signature, version, size of the block with this header
_OBJECT = struct.Struct("<HH4xQ")  # number, references, size without this header
_ALIGNMENT = 8
#: Heaps are looked for in so many bytes at either end of a file; between them lie the frames of a large one.
_LOOKED_AT_BYTES = 1 << 27
_BLOCK_BYTES = 1 << 19
#: Heaps are some kilobytes long; of one that claims more, what is beyond is read piece by piece.
_LARGEST_HEAP_BYTES = 1 << 20


def check_global_heaps(path: Path, looked_at_bytes: int = _LOOKED_AT_BYTES) -> None:
    """Refuse a file with a global heap that cannot be walked to its end.

    Args:
        looked_at_bytes: how far heaps are looked for from either end.

    Raises:
        DataError: it is damaged.
    """
    try:
        with open_regular(path) as file:
            place = _without_end(file, os.fstat(file.fileno()).st_size, looked_at_bytes)
    except NotRegularError as error:
        raise DataError(f"{path.name}: {error.strerror}. Expected an HDF5 file.") from error
    except (OSError, ValueError):  # it cannot be read: whoever opens it says so
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


def _without_end(file: BinaryIO, size: int, looked_at_bytes: int) -> int | None:
    """Return where a heap without an end begins, None where there is none.

    The file is read, not mapped: where one that is mapped becomes shorter, the process ends without a word.
    """
    kept = len(_SIGNATURE) - 1  # of the block before, so that none is missed where two blocks meet
    buffer = bytearray(kept + _BLOCK_BYTES)
    room = memoryview(buffer)
    for start, end in _parts(size, looked_at_bytes):
        at = start
        buffer[:kept] = bytes(kept)
        while at < end:
            file.seek(at)
            count = file.readinto(room[kept : kept + min(_BLOCK_BYTES, end - at)])  # type: ignore[attr-defined]
            if not count:
                return None
            place = buffer.find(_SIGNATURE, 0, kept + count)
            while place >= 0:
                if not _ends(file, at - kept + place, size):
                    return at - kept + place
                place = buffer.find(_SIGNATURE, place + len(_SIGNATURE), kept + count)
            buffer[:kept] = buffer[count : count + kept]
            at += count
    return None


def _ends(file: BinaryIO, place: int, file_size: int) -> bool:
    """Walk through one heap as the library does, and say whether that comes to an end."""
    header = _at(file, place, _HEADER.size)
    if len(header) < _HEADER.size:
        return True
    _, version, size = _HEADER.unpack(header)
    if version != 1:
        return True
    heap = _at(file, place, min(size, _LARGEST_HEAP_BYTES))
    here, end = _HEADER.size, min(size, file_size - place)
    while here + _OBJECT.size <= end:
        entry = heap[here : here + _OBJECT.size]
        if len(entry) < _OBJECT.size:
            entry = _at(file, place + here, _OBJECT.size)
            if len(entry) < _OBJECT.size:
                return True
        number, _, length = _OBJECT.unpack(entry)
        # The room that is free, number 0, counts its own header; it is not rounded up.
        step = length if number == 0 else _OBJECT.size + -(-length // _ALIGNMENT) * _ALIGNMENT
        step %= 1 << 64  # the library's numbers wrap
        if step == 0 or step >= 1 << 63:
            return False
        here += step
    return True


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)
