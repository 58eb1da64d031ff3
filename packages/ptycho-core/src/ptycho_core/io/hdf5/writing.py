"""Writing HDF5 files: made in memory, and written to the disk in one piece by Python.

The HDF5 library may end the process where a disk is full at the wrong moment, and where it has to write into
one of Python's files. Here it does neither.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import h5py.h5

from ptycho_config.errors import OutputError
from ptycho_core.files import atomic_path

__all__ = ["library_answers", "written_hdf5"]

_GROWS_BY_BYTES = 1 << 22
#: A thread has the library for itself while it reads; a block takes no longer.
_LONGEST_READ_S = 10.0


def library_answers() -> bool:
    """Whether HDF5 can be used: another thread may wait in it for a disk that is gone, and lets nobody in."""
    asking = threading.Thread(target=h5py.h5.get_libversion, name="hdf5-answers", daemon=True)
    asking.start()
    asking.join(_LONGEST_READ_S)
    return not asking.is_alive()


@contextmanager
def written_hdf5(path: Path, *, head: bytes = b"") -> Iterator[h5py.File]:
    """Give an HDF5 file to be filled, which is at its place, whole, when the block ends without an error.

    Args:
        head: what stands before the HDF5 file; as many bytes as such a block may have, 512, 1024 and so on.

    Raises:
        OutputError: it could not be written, or there is not enough memory for it.
    """
    try:
        with (
            atomic_path(path) as temporary,
            h5py.File(
                temporary,
                "w",
                driver="core",
                backing_store=False,
                block_size=_GROWS_BY_BYTES,
                userblock_size=len(head),
            ) as file,
        ):
            yield file
            file.flush()
            with temporary.open("wb") as disk:
                disk.write(head)
                disk.write(file.id.get_file_image())
    except (MemoryError, RuntimeError) as error:
        raise OutputError(
            f"{path}: cannot be written, there is not enough memory for it. Nothing was left there."
        ) from error
