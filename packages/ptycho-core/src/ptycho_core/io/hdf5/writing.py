"""Writing HDF5 files: made in memory, and written to the disk in one piece by Python.

The HDF5 library may end the process where a disk is full at the wrong moment, and where it has to write into
one of Python's files. Here it does neither. Of images that are too large for memory it makes the place in the
file, for which the disk has promised the room, and Python writes them there, some rows at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import h5py.h5
import numpy as np

from ptycho_config.errors import OutputError
from ptycho_core.files import atomic_path
from ptycho_core.physics.canvas import row_bands

__all__ = ["HdfImage", "library_answers", "written_hdf5"]

_GROWS_BY_BYTES = 1 << 22
#: A file of so many bytes is made in memory; of a larger one everything but its images is.
_IN_MEMORY_BYTES = 1 << 26
#: What the library adds to a file beside the values of an image.
_BESIDE_BYTES = 1 << 20
#: A thread has the library for itself while it reads; a block takes no longer.
_LONGEST_READ_S = 10.0


def library_answers() -> bool:
    """Whether HDF5 can be used: another thread may wait in it for a disk that is gone, and lets nobody in."""
    asking = threading.Thread(target=h5py.h5.get_libversion, name="hdf5-answers", daemon=True)
    asking.start()
    asking.join(_LONGEST_READ_S)
    return not asking.is_alive()


@dataclass(frozen=True, eq=False)
class HdfImage:
    """An image of a file, which may be larger than memory.

    Attributes:
        key: its name in the file.
        values: (H, W), in memory or mapped from a file; any order of the axes.
        dtype: under which the file has them, of the same bytes; their own where None.
        attributes: what the file says of them.
    """

    key: str
    values: np.ndarray
    dtype: np.dtype | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)  # Any: whatever HDF5 takes


@contextmanager
def written_hdf5(path: Path, *, head: bytes = b"", images: Sequence[HdfImage] = ()) -> Iterator[h5py.File]:
    """Give an HDF5 file to be filled, which is at its place, whole, when the block ends without an error.

    Args:
        head: what stands before the HDF5 file; as many bytes as such a block may have, 512, 1024 and so on.
        images: are written when the block ends; large ones without a copy in memory.

    Raises:
        OutputError: it could not be written, or there is not enough memory for it.
    """
    large = sum(image.values.nbytes for image in images) > _IN_MEMORY_BYTES
    try:
        with atomic_path(path) as temporary:
            with h5py.File(
                temporary,
                "w",
                driver="core",
                backing_store=False,
                block_size=_GROWS_BY_BYTES,
                userblock_size=len(head),
            ) as file:
                yield file
                for image in () if large else images:
                    _place_for(file, image)[...] = np.ascontiguousarray(image.values).view(_kind(image))
                file.flush()
                with temporary.open("wb") as disk:
                    disk.write(head)
                    disk.write(file.id.get_file_image())
            if large:
                _write_in_place(temporary, images)
    except (MemoryError, RuntimeError) as error:
        raise OutputError(
            f"{path}: cannot be written, there is not enough memory for it. Nothing was left there."
        ) from error


def _kind(image: HdfImage) -> np.dtype:
    return image.values.dtype if image.dtype is None else image.dtype


def _place_for(file: h5py.File, image: HdfImage) -> h5py.Dataset:
    """Make the place of an image, in one piece and not filled."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.CONTIGUOUS)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind, shape = h5py.h5t.py_create(_kind(image), logical=True), h5py.h5s.create_simple(image.values.shape)
    made = h5py.Dataset(h5py.h5d.create(file.id, image.key.encode(), kind, shape, how))
    made.attrs.update(image.attributes)
    return made


def _write_in_place(path: Path, images: Sequence[HdfImage]) -> None:
    """Add images to a file, a band of rows at a time; the room for all of it is promised first."""
    _promise(path, path.stat().st_size + sum(image.values.nbytes for image in images) + _BESIDE_BYTES)
    try:
        with h5py.File(path, "r+", locking=False) as file:
            places = [_place_for(file, image).id.get_offset() for image in images]
    except RuntimeError as error:
        raise OSError(str(error)) from error
    with path.open("rb+") as disk:
        for place, image in zip(places, images, strict=True):
            disk.seek(place)
            for band in row_bands(image.values.shape):
                disk.write(np.ascontiguousarray(image.values[band]).data)


def _promise(path: Path, n_bytes: int) -> None:
    """Make a file so long, with the room on the disk for it.

    Raises:
        OSError: there is none.
    """
    with path.open("rb+") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            return
        file.seek(0, os.SEEK_END)
        while (left := n_bytes - file.tell()) > 0:
            file.write(bytes(min(left, _GROWS_BY_BYTES)))
