"""Which format a file has: by its first bytes, then, for HDF5, by what stands where in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
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
_LONGEST_NOTE = 500  # names in a file may be of any length


@dataclass(frozen=True)
class _Format:
    matches: Callable[[Hdf5], bool]
    read: Callable[[Hdf5, str, RequestedKeys], RawScan]


def _hdf5_formats() -> tuple[_Format, ...]:
    """The first that matches reads the file; the last takes any."""
    from ptycho_core.io.formats import (
        cxi,
        fold_slice,
        matlab,
        named,
        nexus,
        ptychodus,
        ptyd,
        ptylab,
        xptycho,
    )

    known = (matlab, cxi, ptyd, ptylab, xptycho, fold_slice, ptychodus, nexus, named)
    return tuple(_Format(module.matches, module.read) for module in known)


def _holds_tiff_files(path: Path) -> bool:
    with suppress(OSError, ValueError):  # a name that no system takes is no directory
        return path.is_dir() and any(child.suffix.lower() in _TIFF_SUFFIXES for child in path.iterdir())
    return False


def _is_directory(path: Path) -> bool:
    with suppress(OSError, ValueError):
        return path.is_dir()
    return False


def read_scan_file(path: Path, name: str, keys: RequestedKeys) -> RawScan:
    """Read a scan from a file of any known format, or from a directory of files with frames.

    Frames stay in the file where it allows; everything else is read.

    Raises:
        DataError: the file is missing, damaged, of no known format, or holds no scan.
    """
    raw = _read(path, name, keys)
    return replace(raw, notes=tuple(excerpt(note, _LONGEST_NOTE) for note in raw.notes))


def _read(path: Path, name: str, keys: RequestedKeys) -> RawScan:
    if _holds_tiff_files(path):
        from ptycho_core.io.formats import tiff

        return tiff.read(path, name)
    if _is_directory(path):
        from ptycho_core.io.formats import directory, zarr_store

        if zarr_store.is_store(path):
            return zarr_store.read(path, name, keys)
        if directory.holds_frames(path):
            return directory.read(path, name, keys)
    start = first_bytes(path)
    if is_hdf5(path):
        from ptycho_core.io.hdf5 import opened, translated

        with opened(path) as file, translated(path.name):
            refuse_result_of_ptypy(file)
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
    if path.suffix in (".h5", ".hdf5", ".ptyr"):
        from ptycho_core.io.product import read_product

        return read_product(path).probe
    from ptycho_core.io.formats import npz

    return npz.find_probe(Archive(path))


def refuse_result_of_ptypy(file: Hdf5) -> None:
    """Say what to do with a `.ptyr`, which holds no frames.

    Raises:
        DataError: it is one.
    """
    from ptycho_core.io.product import is_ptyr

    if is_ptyr(file):
        name = file.path.name
        raise DataError(
            f"{name}: this is a result of PtyPy, it holds object, probe and positions but no diffraction. "
            f"Type `ptycho reconstruct DIFFRACTION.ptyd --start {name}`, or take its probe alone with "
            f"`--probe-file {name}`.",
            finding="DATA-001",
        )


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, or of MATLAB, whose older versions are read as if they were."""
    start = first_bytes(path)
    return start == _HDF5 or start.startswith(b"MATLAB")
