"""How many bytes a packed block unpacks to, told without holding what it unpacks to.

Some packers write the size down (Zstandard, Blosc, LZ4); what the others packed is unpacked piece by piece
and counted, up to the size that is allowed and no further. Every function raises EOFError where the block is
cut short or is none of its packer.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable

__all__ = [
    "blosc_bytes",
    "bzip2_bytes",
    "gzip_bytes",
    "lz4_bytes",
    "lzma_bytes",
    "zlib_bytes",
    "zstd_bytes",
]

_STEP_BYTES = 1 << 20
_MOST_OF_LZMA_BYTES = 1 << 29
_ZSTD, _ZSTD_PASSED_OVER = b"\x28\xb5\x2f\xfd", 0x184D2A5
_ZSTD_BLOCK_BYTES = 1 << 17
#: Blocks whose size is not written down are taken for full ones, and may come to so much more than allowed.
_SAID_NOTHING_BYTES = 1 << 26


def zlib_bytes(raw: bytes, most: int) -> int:
    """Count what a zlib stream unpacks to; more than `most` where it is larger."""
    size, _ = _of_deflate(raw, most, zlib.MAX_WBITS)
    return size


def gzip_bytes(raw: bytes, most: int) -> int:
    """Count what all members of a gzip unpack to; more than `most` where it is larger."""
    size = 0
    while raw and size <= most:
        one, raw = _of_deflate(raw, most - size, 16 + zlib.MAX_WBITS)
        size, raw = size + one, raw.lstrip(b"\0")
    return size


def bzip2_bytes(raw: bytes, most: int) -> int:
    """Count what the streams of a bzip2 unpack to; more than `most` where it is larger."""
    return _of_streams(bz2.BZ2Decompressor, raw, most)


def lzma_bytes(raw: bytes, most: int) -> int:
    """Count what the streams of an LZMA or XZ unpack to; more than `most` where it is larger."""
    return _of_streams(lambda: lzma.LZMADecompressor(memlimit=_MOST_OF_LZMA_BYTES), raw, most)


def blosc_bytes(raw: bytes) -> int:
    """Return the size that a Blosc block claims."""
    try:
        size, _, stored = struct.unpack_from("<3I", raw, 4)
    except struct.error as error:
        raise EOFError from error
    if stored > len(raw):
        raise EOFError
    return size


def lz4_bytes(raw: bytes) -> int:
    """Return the size that stands before an LZ4 block, as numcodecs writes it."""
    if len(raw) < 4:
        raise EOFError
    return int.from_bytes(raw[:4], "little")


def zstd_bytes(raw: bytes, most: int) -> int:
    """Walk over the blocks of Zstandard's frames, RFC 8878 section 3.1.1, and return what they unpack to.

    A frame need not say its size. Then no more than `most` is returned as long as the blocks, full ones,
    would not hold far more.
    """
    size, to_the_byte, here = 0, True, 0
    while here < len(raw):
        if int.from_bytes(raw[here : here + 4], "little") >> 4 == _ZSTD_PASSED_OVER:
            here += 8 + int.from_bytes(raw[here + 4 : here + 8], "little")
            continue
        said, most, here = _zstd_frame(raw, here)
        size, to_the_byte = size + (most if said is None else said), to_the_byte and said is not None
    if here != len(raw) or not raw:
        raise EOFError
    if to_the_byte or size > 2 * most + _SAID_NOTHING_BYTES:
        return size
    return min(size, most)


def _zstd_frame(raw: bytes, here: int) -> tuple[int | None, int, int]:
    """Walk over one frame: what it says of its size, the most that its blocks hold, and where it ends."""
    if raw[here : here + 4] != _ZSTD or len(raw) < here + 6:
        raise EOFError
    descriptor = raw[here + 4]
    single, width = descriptor >> 5 & 1, (0, 2, 4, 8)[descriptor >> 6]
    here += 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    width = width or single
    said = int.from_bytes(raw[here : here + width], "little") + (256 if width == 2 else 0)
    here, most, last = here + width, 0, False
    while not last:
        block = int.from_bytes(raw[here : here + 3], "little")
        last, kind, length = bool(block & 1), block >> 1 & 3, block >> 3
        here += 3 + (1 if kind == 1 else length)  # 1: one byte, repeated
        most += length if kind < 2 else _ZSTD_BLOCK_BYTES
        if here > len(raw):
            raise EOFError
    here += 4 if descriptor & 4 else 0  # its checksum
    if here > len(raw):
        raise EOFError
    return said if width else None, most, here


def _of_deflate(raw: bytes, most: int, window: int) -> tuple[int, bytes]:
    """Count what one stream unpacks to; what lies behind its end."""
    stream, size, begin = zlib.decompressobj(window), 0, 0
    try:
        while not stream.eof:
            if begin >= len(raw):
                raise EOFError
            piece = raw[begin : begin + _STEP_BYTES]
            begin += len(piece)
            while piece and not stream.eof:
                size += len(stream.decompress(piece, _STEP_BYTES))
                piece = stream.unconsumed_tail
                if size > most:
                    return size, b""
    except zlib.error as error:
        raise EOFError from error
    return size, stream.unused_data + raw[begin:]


def _of_streams(
    stream_of: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor], raw: bytes, most: int
) -> int:
    size = 0
    try:
        while raw:
            stream, given = stream_of(), raw
            while not stream.eof:
                size += len(stream.decompress(given, _STEP_BYTES))
                given = b""
                if size > most:
                    return size
                if stream.needs_input and not stream.eof:
                    raise EOFError
            raw = stream.unused_data
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise EOFError from error
    return size
