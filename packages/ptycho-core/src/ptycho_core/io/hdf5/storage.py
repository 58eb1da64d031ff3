"""Whether a data set holds what it declares, and unpacks to no more than it should."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io.recognise import one_line

__all__ = ["require_sound_storage"]

LARGEST_CHUNK_BYTES = 1 << 28
_DEFLATE_RATIO = 1032  # zlib's greatest
_DEFLATE_CHECKED_BYTES = 1 << 18
_EMPTY_RATIO, _EMPTY_BYTES = 20_000, 1 << 30


def require_sound_storage(item: h5py.Dataset, path: Path) -> None:
    """Refuse a data set that declares more than it holds, whose sources are missing, or that expands too far.

    Raises:
        DataError: says which.
    """
    name = f"{path.name}: `{one_line(str(item.name), 80)}`"
    if item.is_virtual:
        _require_sources(item, name)
        return
    if item.external:
        raise DataError(f"{name} keeps its values as raw bytes in another file, which is not followed.")
    stored = item.id.get_storage_size()
    if item.nbytes > _EMPTY_BYTES and stored < item.nbytes / _EMPTY_RATIO:
        raise DataError(
            f"{name} declares {item.nbytes / 2**30:.1f} GiB and holds {stored} bytes; most of it was never "
            "written. Expected frames; was the scan aborted?"
        )
    if item.chunks is None:
        return
    chunk_bytes = int(np.prod(item.chunks, dtype=object)) * item.dtype.itemsize
    if chunk_bytes > LARGEST_CHUNK_BYTES:
        raise DataError(
            f"{name} is stored in blocks of {chunk_bytes / 2**20:.0f} MiB. Expected at most "
            f"{LARGEST_CHUNK_BYTES / 2**20:.0f}; rechunk it, for instance with `h5repack -l CHUNK=1xHxW`."
        )
    _require_filters(item, name)
    if item.compression == "gzip":
        _require_bounded_chunks(item, chunk_bytes, name)


def _require_sources(item: h5py.Dataset, name: str) -> None:
    """A virtual data set whose source is missing reads as zeros, without a word."""
    for source in item.virtual_sources():
        if source.file_name != "." and "%" not in source.file_name:
            file = Path(item.file.filename).parent / source.file_name
            if not file.is_file():
                raise DataError(
                    f"{name} is put together from other files, and `{one_line(source.file_name, 80)}` is not "
                    "there. Copy it beside this one."
                )


def _require_filters(item: h5py.Dataset, name: str) -> None:
    plist = item.id.get_create_plist()
    for index in range(plist.get_nfilters()):
        code, _, _, said = plist.get_filter(index)
        if not h5py.h5z.filter_avail(code):
            raise DataError(
                f"{name} is compressed with `{one_line(said.decode('utf-8', 'replace'), 40)}` ({code}), "
                "which HDF5 does not know here. Type `pip install hdf5plugin`."
            )


def _require_bounded_chunks(item: h5py.Dataset, chunk_bytes: int, name: str) -> None:
    """HDF5 inflates a chunk to whatever size it claims; look first where that could be much."""
    suspects: list[tuple[int, ...]] = []
    harmless = 64 * max(chunk_bytes, 1 << 20)

    def look(chunk: Any) -> None:  # Any: h5py's StoreInfo
        if chunk.size > _DEFLATE_CHECKED_BYTES or chunk.size * _DEFLATE_RATIO > harmless:
            suspects.append(chunk.chunk_offset)

    item.id.chunk_iter(look)
    for offset in suspects:
        mask, raw = item.id.read_direct_chunk(offset)
        if mask:
            continue
        stream, size = zlib.decompressobj(), 0
        while raw and not stream.eof:
            size += len(stream.decompress(raw, 1 << 20))
            raw = stream.unconsumed_tail
            if size > chunk_bytes:
                raise DataError(
                    f"{name}: a block at {offset} expands to more than the {chunk_bytes} bytes that it "
                    "should have. Copy or export the file again."
                )
