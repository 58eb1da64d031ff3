"""Which format a file has: by its first bytes, then, for HDF5, by what stands where in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptycho_core.io.npz import Archive
from ptycho_core.io.raw_scan import RawScan, RequestedKeys
from ptycho_core.io.recognise import first_bytes

if TYPE_CHECKING:
    from ptycho_core.io.hdf5 import Hdf5

__all__ = ["is_hdf5", "read_probe", "read_scan_file"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class _Format:
    matches: Callable[[Hdf5], bool]
    read: Callable[[Hdf5, str, RequestedKeys], RawScan]


def _hdf5_formats() -> tuple[_Format, ...]:
    """The first that matches reads the file; the last takes any."""
    from ptycho_core.io.formats import cxi, matlab, named, nexus, ptychodus, ptyd

    return tuple(
        _Format(module.matches, module.read) for module in (matlab, cxi, ptyd, ptychodus, nexus, named)
    )


def _holds_tiff_files(path: Path) -> bool:
    with suppress(OSError, ValueError):  # a name that no system takes is no directory
        return path.is_dir() and any(child.suffix.lower() in _TIFF_SUFFIXES for child in path.iterdir())
    return False


def read_scan_file(path: Path, name: str, keys: RequestedKeys) -> RawScan:
    """Read a scan from a file of any known format, or from a directory of TIFF files.

    Frames stay in the file where it allows; everything else is read.

    Raises:
        DataError: the file is missing, damaged, of no known format, or holds no scan.
    """
    if _holds_tiff_files(path):
        from ptycho_core.io.formats import tiff

        return tiff.read(path, name)
    start = first_bytes(path)
    if is_hdf5(path):
        from ptycho_core.io.hdf5 import opened, translated

        with opened(path) as file, translated(path.name):
            format_ = next(one for one in _hdf5_formats() if one.matches(file))
            return format_.read(file, name, keys)
    if start.startswith(_TIFF):
        from ptycho_core.io.formats import tiff

        return tiff.read(path, name)
    if start.startswith(_NPY):
        from ptycho_core.io.formats import npy

        return npy.read(path, name)
    from ptycho_core.io.formats import npz

    return npz.read(Archive(path), name, keys)


def read_probe(path: Path) -> np.ndarray:
    """Read a probe from a scan file, a result (`reconstruction.npz`) or a product file.

    Raises:
        DataError: the file is missing or damaged, or holds no probe.
    """
    if path.suffix in (".h5", ".hdf5"):
        from ptycho_core.io.product import read_product

        return read_product(path).probe
    from ptycho_core.io.formats import npz

    return npz.find_probe(Archive(path))


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5: its signature stands at the beginning, or behind a block of 512 bytes."""
    start = first_bytes(path)
    if start == _HDF5:
        return True
    if not start.startswith(b"MATLAB"):
        return False
    with path.open("rb") as file:
        file.seek(512)
        return file.read(8) == _HDF5
