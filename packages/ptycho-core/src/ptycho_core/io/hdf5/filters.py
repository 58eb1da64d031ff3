"""What a stored block of HDF5 unpacks to, told without unpacking it where its filter writes that down.

Each filter's block begins with its own header; where one does not say the size (gzip, bzip2, LZF), the block
is unpacked, or walked through, up to the size that it should have and no further. Sources: the HDF5 library
1.14 (`H5Zszip.c`, `H5Znbit.c`, `H5Zscaleoffset.c`), and the descriptions that the registered filters publish.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import h5py
import h5py.h5z

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.hdf5 import szip
from ptycho_core.io.packed import blosc_bytes, bzip2_bytes, zstd_bytes

__all__ = ["Filter", "filters_of", "require_known_filters", "unpacked_bytes"]

_DEFLATE, _SHUFFLE, _FLETCHER, _SZIP, _NBIT, _SCALEOFFSET = 1, 2, 3, 4, 5, 6
_BZIP2, _LZF, _BLOSC, _LZ4, _BITSHUFFLE, _ZSTD, _BLOSC2 = 307, 32000, 32001, 32004, 32008, 32015, 32026
_CHECKSUM_BYTES = 4
#: A block that cannot be packed any further grows by its headers.
_LARGEST_OVERHEAD = 64
_OVERHEAD_BYTES = 4096


@dataclass(frozen=True)
class Filter:
    """A filter of a data set: its registered number and its parameters."""

    code: int
    values: tuple[int, ...]

    @property
    def keeps_size(self) -> bool:
        return self.code in (_SHUFFLE, _FLETCHER)


def filters_of(item: h5py.Dataset) -> tuple[Filter, ...]:
    """Return the filters of a data set in the order in which it was written."""
    plist = item.id.get_create_plist()
    found = (plist.get_filter(index) for index in range(plist.get_nfilters()))
    return tuple(Filter(int(code), tuple(int(one) for one in values)) for code, _, values, _ in found)


def require_known_filters(item: h5py.Dataset, name: str) -> None:
    """Refuse filters that the library does not know here, and layers of them that cannot be looked through.

    Raises:
        DataError: names the filter.
    """
    plist = item.id.get_create_plist()
    for index in range(plist.get_nfilters()):
        code, _, _, said = plist.get_filter(index)
        if not h5py.h5z.filter_avail(code):
            raise DataError(
                f"{name} is compressed with `{excerpt(said.decode('utf-8', 'replace'), 40)}` ({code}), "
                "which HDF5 does not know here. Type `pip install hdf5plugin`."
            )
    if any(one.code == _SZIP for one in filters_of(item)) and not szip.is_here():
        raise DataError(
            f"{name} is compressed with szip, whose library is not found here, so that no block can be "
            "checked. Store it with another filter, for instance with `h5repack -f GZIP=4`."
        )
    outer = [one.code for one in filters_of(item) if not one.keeps_size][1:]
    if any(code != _DEFLATE for code in outer):
        raise DataError(
            f"{name} is compressed more than once (filters {', '.join(map(str, outer))} over another). "
            "Store it with one filter, for instance with `h5repack -f GZIP=4`."
        )


def unpacked_bytes(raw: bytes, filters: Sequence[Filter], expected_bytes: int) -> int | None:
    """Return how many bytes a stored block unpacks to.

    Args:
        filters: those that were used on it, in the order in which they were.
        expected_bytes: what it should unpack to; nothing larger than a little more is ever made.

    Returns:
        The number, more than `expected_bytes` where it is larger, and less where the block is cut short; None
        where its filter does not tell.
    """
    checksums = 0
    layers = [one for one in filters if not one.keeps_size]
    try:
        for one in reversed(filters):
            if one.code == _FLETCHER:
                raw, checksums = raw[:-_CHECKSUM_BYTES], checksums + (_CHECKSUM_BYTES if not layers else 0)
            elif one.code != _SHUFFLE:
                layers.remove(one)
                if not layers:
                    inner = filters[: filters.index(one)]
                    checksums = _CHECKSUM_BYTES * sum(each.code == _FLETCHER for each in inner)
                    told = _TOLD.get(one.code)
                    size = None if told is None else told(raw, one.values, expected_bytes + checksums)
                    return None if size is None else size - checksums
                most = expected_bytes + expected_bytes // _LARGEST_OVERHEAD + _OVERHEAD_BYTES
                raw = _inflated(raw, most)
                if len(raw) > most:
                    return len(raw)
    except (EOFError, IndexError, struct.error):
        return 0
    return len(raw)


def _inflated(raw: bytes, most: int) -> bytes:
    """Unpack up to a byte more than the most that is allowed; EOFError where the block is cut short."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(raw, most + 1)
    except zlib.error as error:
        raise EOFError from error
    if not stream.eof and len(found) <= most:
        raise EOFError
    return found


def _of_deflate(raw: bytes, values: tuple[int, ...], expected: int) -> int:
    return len(_inflated(raw, expected))


def _of_bzip2(raw: bytes, values: tuple[int, ...], expected: int) -> int:
    return bzip2_bytes(raw, expected)


def _of_szip(raw: bytes, values: tuple[int, ...], expected: int) -> int | None:
    size = struct.unpack_from("<I", raw)[0]
    return size if size != expected else szip.unpacked_bytes(raw[4:], values, expected)


def _of_nbit(raw: bytes, values: tuple[int, ...], expected: int) -> int:
    _, stays, n_elements, kind, size = values[:5]
    if stays:
        return len(raw)
    if kind == 1 and 8 * len(raw) < n_elements * values[6]:  # whole numbers and floats; its bits each
        raise EOFError
    return n_elements * size


def _of_scaleoffset(raw: bytes, values: tuple[int, ...], expected: int) -> int:
    n_elements, size = values[2], values[4]
    n_bits = struct.unpack_from("<I", raw)[0]
    if 8 * (len(raw) - 21) < n_elements * n_bits:  # behind bits, smallest value and what is reserved
        raise EOFError
    return n_elements * size


def _of_lzf(raw: bytes, values: tuple[int, ...], expected: int) -> int:
    here, size, end = 0, 0, len(raw)
    while here < end:
        control = raw[here]
        if control < 32:  # so many bytes follow as they are
            here, size = here + control + 2, size + control + 1
        elif control < 224:
            here, size = here + 2, size + (control >> 5) + 2
        else:
            here, size = here + 3, size + raw[here + 1] + 9
        if size > expected:
            return size
    return size if here == end else 0


def _of_blosc(raw: bytes, values: tuple[int, ...], expected: int) -> int:
    return blosc_bytes(raw)


def _of_blosc2(raw: bytes, values: tuple[int, ...], expected: int) -> int:
    if raw[2:10] != b"b2frame\0":
        return _of_blosc(raw, values, expected)
    stored, size = struct.unpack_from(">Q", raw, 16)[0], struct.unpack_from(">Q", raw, 30)[0]
    # Its own blocks may fill up the last of them.
    return 0 if stored > len(raw) or size < expected else expected if size < 4 * expected else size


def _of_lz4(raw: bytes, values: tuple[int, ...], expected: int) -> int:
    size, block = struct.unpack_from(">QI", raw)
    if size == expected:
        _require_pieces(raw, 12, -(-size // max(1, min(block, size))))
    return size


def _of_bitshuffle(raw: bytes, values: tuple[int, ...], expected: int) -> int:
    if len(values) < 5 or values[4] == 0:
        return len(raw)
    size, block_bytes = struct.unpack_from(">QI", raw)
    element = max(1, values[2])
    block = block_bytes // element or max(8192 // element // 8 * 8, 128)
    if size == expected:
        whole, rest = divmod(size // element, block)
        end = _require_pieces(raw, 12, whole + (rest >= 8))
        if end + rest % 8 * element > len(raw):
            raise EOFError
    return size


def _require_pieces(raw: bytes, here: int, number: int) -> int:
    """Walk over pieces with their length before each, and return where the last ends."""
    for _ in range(number):
        here += 4 + struct.unpack_from(">I", raw, here)[0]
        if here > len(raw):
            raise EOFError
    return here


def _of_zstd(raw: bytes, values: tuple[int, ...], expected: int) -> int:
    return zstd_bytes(raw, expected)


_TOLD: dict[int, Callable[[bytes, tuple[int, ...], int], int | None]] = {
    _DEFLATE: _of_deflate,
    _SZIP: _of_szip,
    _NBIT: _of_nbit,
    _SCALEOFFSET: _of_scaleoffset,
    _BZIP2: _of_bzip2,
    _LZF: _of_lzf,
    _BLOSC: _of_blosc,
    _LZ4: _of_lz4,
    _BITSHUFFLE: _of_bitshuffle,
    _ZSTD: _of_zstd,
    _BLOSC2: _of_blosc2,
}
