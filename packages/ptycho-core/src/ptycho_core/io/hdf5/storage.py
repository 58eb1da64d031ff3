"""Whether a data set holds what it declares: a look at its layout, before any of it is read.

What its blocks unpack to is looked at when they are read: `chunks`.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.hdf5.filters import require_known_filters
from ptycho_core.io.hdf5.handles import beside_a_writer
from ptycho_core.io.hdf5.virtual import opened_source, require_safe_sources, sources_of

__all__ = ["require_sound_storage"]

LARGEST_CHUNK_BYTES = 1 << 28
_EMPTY_RATIO, _EMPTY_BYTES = 20_000, 1 << 30


def require_sound_storage(item: h5py.Dataset, path: Path) -> None:
    """Refuse a data set that declares more than it holds, whose sources are missing, or with unknown filters.

    Of a virtual data set the sources have to be sound, down to those that hold the values.

    Raises:
        DataError: says which.
    """
    name = f"{path.name}: `{excerpt(str(item.name), 80)}`"
    if item.is_virtual:
        require_safe_sources(item)
        _require_sound_sources(item, name)
        return
    if item.external:
        raise DataError(f"{name} keeps its values as raw bytes in another file, which is not followed.")
    stored = item.id.get_storage_size()
    if not beside_a_writer() and item.nbytes > _EMPTY_BYTES and stored < item.nbytes / _EMPTY_RATIO:
        raise DataError(
            f"{name} declares {item.nbytes / 2**30:.1f} GiB and holds {stored} bytes; most of it was never "
            "written. Expected frames; was the scan aborted?"
        )
    if item.chunks is None:
        if 0 < stored < item.nbytes:
            raise DataError(
                f"{name} declares {item.nbytes} bytes and holds {stored}. Copy or export the file again."
            )
        return
    chunk_bytes = int(np.prod(item.chunks, dtype=object)) * item.dtype.itemsize
    if chunk_bytes > LARGEST_CHUNK_BYTES:
        raise DataError(
            f"{name} is stored in blocks of {chunk_bytes / 2**20:.0f} MiB. Expected at most "
            f"{LARGEST_CHUNK_BYTES / 2**20:.0f}; rechunk it, for instance with `h5repack -l CHUNK=1xHxW`."
        )
    require_known_filters(item, name)


def _require_sound_sources(item: h5py.Dataset, name: str) -> None:
    """A virtual data set whose source is missing reads as zeros, without a word."""
    for source in sources_of(item):
        with opened_source(item, source) as found:
            if found is not None:
                require_sound_storage(found, Path(found.file.filename))
                continue
        shown = excerpt(source.key if source.file_name == "." else source.file_name, 80)
        if source.file_name == ".":
            raise DataError(f"{name} is put together from others, and `{shown}` is not there.")
        raise DataError(
            f"{name} is put together from other files, and `{shown}` is not there, or without "
            f"`{excerpt(source.key, 80)}`. Copy it beside this one."
        )
