"""The chunks of a Zarr array, looked at before the package zarr unpacks them to whatever they claim.

A chunk is a file; where there are shards, one file holds many and an index of them. Each is compared once,
when it is first read, with what its shape and type need.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.bounds import refuse_great_growth
from ptycho_core.io.packed import (
    blosc_bytes,
    bzip2_bytes,
    gzip_bytes,
    lz4_bytes,
    lzma_bytes,
    zlib_bytes,
    zstd_bytes,
)

__all__ = ["ChunkGuard"]

#: Codecs that make a chunk smaller -> how many bytes it unpacks to.
_UNPACKED: dict[str, Callable[[bytes, int], int]] = {
    "blosc": lambda raw, most: blosc_bytes(raw),
    "bz2": bzip2_bytes,
    "gzip": gzip_bytes,
    "lz4": lambda raw, most: lz4_bytes(raw),
    "lzma": lzma_bytes,
    "zlib": zlib_bytes,
    "zstd": zstd_bytes,
}
#: Those that keep its size, but for a change of type, and those that add four bytes, before or behind it.
_KEEPS = frozenset(("bytes", "transpose", "delta", "shuffle", "bitround", "quantize", "endian", "bitshuffle"))
_CHANGES = frozenset(("fixedscaleoffset", "astype", "packbits"))
_MOST_CHANGE = 16
_BEFORE, _BEHIND = frozenset(("crc32", "adler32")), frozenset(("crc32c", "fletcher32", "jenkins_lookup3"))
_SHARDS = "sharding_indexed"
#: What cannot be packed any further grows by its headers.
_LARGEST_OVERHEAD, _OVERHEAD_BYTES = 64, 4096
_MOST_INDEX_BYTES = 1 << 26
_MISSING = (1 << 64) - 1
#: Name and parameters of each.
Codecs = list[tuple[str, dict[str, Any]]]


class ChunkGuard:
    """Looks at the chunks of an array, each once.

    Args:
        store: the directory. array: a `zarr.Array` of plain numbers in it.

    Raises:
        DataError: its codecs do not tell how large a chunk becomes.
    """

    def __init__(self, store: Path, array: Any) -> None:  # Any: zarr's, whose package need not be there
        self._name, self._what = store.name, f"`{excerpt(array.path or store.name, 80)}`"
        self._folder = store / array.path
        self._key_of: Callable[[tuple[int, ...]], str] = array.metadata.encode_chunk_key
        self._shape = tuple(int(side) for side in array.shape)
        self._sides = tuple(int(side) for side in array.chunks)
        #: How many chunks a shard has along each axis; None where there are no shards.
        self._a_shard: tuple[int, ...] | None = None
        if array.shards is not None:
            self._a_shard = tuple(
                int(outer) // inner for outer, inner in zip(array.shards, self._sides, strict=True)
            )
        self._chunk_bytes = math.prod(self._sides) * int(np.dtype(array.dtype).itemsize)
        self._sound: set[tuple[int, ...]] = set()
        codecs = _codecs_of(array.metadata.to_dict())
        self._index_first, self._index_checksum = False, 0
        if self._a_shard is not None:
            codecs = self._inside_a_shard(codecs)
        self._codecs = codecs
        self._require_known()
        changes = any(name in _CHANGES for name, _ in codecs)
        self._most = self._chunk_bytes * (_MOST_CHANGE if changes else 1) + 4 * len(codecs)
        self._most_stored = self._most + self._most // _LARGEST_OVERHEAD + _OVERHEAD_BYTES

    def require(self, *asked: np.ndarray | None) -> None:
        """Refuse the array where a chunk with values at these places is larger than it should be.

        Args:
            asked: whole numbers, the places along each of the first axes; None for all, as along the others.

        Raises:
            DataError: so it is.
        """
        along = itertools.zip_longest(asked, self._shape, self._sides)
        chunks = [
            range(-(-length // side)) if places is None else np.unique(places // side).tolist()
            for places, length, side in along
        ]
        for chunk in itertools.product(*chunks):
            if chunk not in self._sound:
                self._look(chunk)
                self._sound.add(chunk)

    def _inside_a_shard(self, codecs: Codecs) -> Codecs:
        """Return the codecs of a shard's chunks; note where its index is."""
        if [name for name, _ in codecs] != [_SHARDS]:
            raise self._unknown("something around its shards")
        told = codecs[0][1]
        self._index_first = told.get("index_location") == "start"
        index = [str(one.get("name")) for one in told.get("index_codecs") or ()]
        if index not in (["bytes"], ["bytes", "crc32c"]):
            raise self._unknown(f"{', '.join(index)} over the index of its shards")
        self._index_checksum = 4 * (len(index) - 1)
        return _codecs_of({"codecs": told.get("codecs")})

    def _require_known(self) -> None:
        layers = [name for name, _ in self._codecs if name in _UNPACKED]
        if len(layers) > 1:
            raise self._unknown(f"{' and then by '.join(layers)}")
        for name, told in self._codecs:
            if name not in _KEEPS | _CHANGES | _BEFORE | _BEHIND | set(_UNPACKED):
                raise self._unknown(excerpt(name, 40))
            if name == "lzma" and told.get("format", 1) not in (0, 1, 2):
                raise self._unknown("lzma without a header")

    def _unknown(self, codecs: str) -> DataError:
        return DataError(
            f"{self._name}: {self._what} is packed by {codecs}, so how large its chunks become cannot be "
            "told before. Expected one of Blosc, Zstandard, gzip, zlib, bzip2, LZMA, LZ4; store it again."
        )

    def _look(self, chunk: tuple[int, ...]) -> None:
        shard, outer = self._a_shard, chunk
        if shard is not None:
            outer = tuple(number // sides for number, sides in zip(chunk, shard, strict=True))
        try:
            file = (self._folder / self._key_of(outer)).open("rb")
        except FileNotFoundError:
            return  # zarr fills in what is not stored
        with file:
            stored = file.seek(0, 2)
            begin, length = 0, stored
            if shard is not None:
                found = self._in_shard(file, stored, chunk, shard)
                if found is None:
                    return
                begin, length = found
            if length > self._most_stored:
                raise self._refused(chunk, "is larger")
            refuse_great_growth(self._name, f"a chunk of {self._what}", self._chunk_bytes, length)
            file.seek(begin)
            self._unpack(chunk, file.read(length))

    def _in_shard(
        self, file: BinaryIO, stored: int, chunk: tuple[int, ...], shard: tuple[int, ...]
    ) -> tuple[int, int] | None:
        """Return where a chunk lies in its shard, and how long it is; None where it is not stored."""
        number = math.prod(shard)
        index_bytes = 16 * number + self._index_checksum
        if index_bytes > min(stored, _MOST_INDEX_BYTES):
            raise self._refused(chunk, "lies in a shard that is shorter")
        if stored > number * self._most_stored + index_bytes:
            raise self._refused(chunk, "lies in a shard that is larger")
        refuse_great_growth(self._name, f"a shard of {self._what}", number * self._chunk_bytes, stored)
        inside = tuple(one % sides for one, sides in zip(chunk, shard, strict=True))
        at = int(np.ravel_multi_index(inside, shard)) if inside else 0
        file.seek((0 if self._index_first else stored - index_bytes) + 16 * at)
        begin, length = np.frombuffer(file.read(16), dtype="<u8").tolist()
        if (begin, length) == (_MISSING, _MISSING):
            return None
        if begin + length > stored:
            raise self._refused(chunk, "lies in a shard that is shorter")
        return begin, length

    def _unpack(self, chunk: tuple[int, ...], raw: bytes) -> None:
        """Go through the codecs from the outermost to the one that packs; what is within keeps its size."""
        for name, told in reversed(self._codecs):
            if name in _BEFORE | _BEHIND:
                starts = told.get("location", "start" if name in _BEFORE else "end") == "start"
                raw = raw[4:] if starts else raw[:-4]
            elif name in _UNPACKED:
                try:
                    size = _UNPACKED[name](raw, self._most)
                except EOFError as error:
                    raise self._refused(chunk, "is cut short or damaged; it holds less") from error
                if size > self._most:
                    raise self._refused(chunk, "expands to more")
                return

    def _refused(self, chunk: tuple[int, ...], said: str) -> DataError:
        return DataError(
            f"{self._name}: chunk {chunk} of {self._what} {said} than the {self._chunk_bytes} bytes that it "
            "should have. Copy or export it again."
        )


def _codecs_of(metadata: dict[str, Any]) -> Codecs:
    """Return names and parameters of the codecs in the order in which they were used, of either version."""
    if metadata.get("codecs") is not None:
        named = [(one.get("name"), one.get("configuration") or {}) for one in metadata["codecs"]]
    else:
        second = [*(metadata.get("filters") or ()), metadata.get("compressor")]
        named = [(one.get("id"), one) for one in second if one is not None]
    return [(str(name).removeprefix("numcodecs."), told) for name, told in named]
