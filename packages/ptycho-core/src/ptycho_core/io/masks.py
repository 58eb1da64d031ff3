"""A mask of bad pixels in a file of its own.

Any value but 0 marks a bad pixel, as CXI and NeXus have it; only an NPZ's key `mask` marks good ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.files import expanded
from ptycho_core.io.formats.npy import mapped
from ptycho_core.io.formats.reading import is_hdf5
from ptycho_core.io.hdf5 import opened, translated
from ptycho_core.io.npz import Archive
from ptycho_core.io.recognise import first_bytes

__all__ = ["GivenMask", "mask_asked_for"]

_BAD, _GOOD = "any value but 0 is a bad pixel", "0 is a bad pixel"
_KEYS = ("bad_pixels", "mask")
#: Data sets of these names are masks, wherever they stand in an HDF5 file.
_NAMES = ("bad_pixels", "pixel_mask", "mask", "pixelmask", "detector_mask")


@dataclass(frozen=True, eq=False)
class GivenMask:
    """A mask that was asked for.

    Attributes:
        bad: (N, N) or (M, N, N) bool, True = bad, laid out as the frames are stored.
        source: where it came from. convention: which values mean bad.
    """

    bad: np.ndarray
    source: str
    convention: str


def mask_asked_for(mask: str | Path | np.ndarray, *, inverted: bool) -> GivenMask:
    """Take a mask from an array, or read it from `FILE[:KEY]`.

    Args:
        inverted: 0 means bad where another value would, and the other way round.

    Raises:
        DataError: there is no such file or key, or it holds no mask.
    """
    if isinstance(mask, np.ndarray):
        values, source, good = mask, "the caller", False
    else:
        values, source, good = _read(str(mask))
    if values.dtype.kind not in "biuf" or values.ndim < 2:
        raise DataError(
            f"the mask of {source} is {values.dtype} of shape {values.shape}. Expected one number or bool a "
            "pixel, (N, N) or (frames, N, N).",
            finding="DATA-001",
        )
    good ^= inverted
    return GivenMask((values == 0) if good else (values != 0), source, _GOOD if good else _BAD)


def _read(text: str) -> tuple[np.ndarray, str, bool]:
    """Return the values, where they stand, and whether they mark good pixels."""
    path, key = expanded(text), None
    if not path.exists() and ":" in text:
        name, key = text.rsplit(":", 1)
        path = expanded(name)
    if not path.is_file():
        raise DataError(f"{path}: no such file. Expected a mask, `--mask FILE` or `--mask FILE:KEY`.")
    start = first_bytes(path)
    if is_hdf5(path):
        return _of_hdf5(path, key)
    if start.startswith((b"PK", b"BZh")):
        return _of_archive(path, key)
    if start.startswith(b"\x93NUMPY"):
        return np.asarray(mapped(path)), path.name, False
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from ptycho_core.io.formats import tiff

        values = np.asarray(tiff.read(path, path.name).frames[:])
        return values[0] if len(values) == 1 else values, path.name, False
    raise DataError(f"{path.name}: no mask of a known format. Expected NPY, NPZ, HDF5, CXI or TIFF.")


def _of_archive(path: Path, key: str | None) -> tuple[np.ndarray, str, bool]:
    archive = Archive(path)
    names = list(archive.members)
    if key is None:
        key = next((name for name in _KEYS if name in names), names[0] if len(names) == 1 else None)
    if key is None or key not in names:
        wanted = f"no `{key}`" if key else f"none of {', '.join(_KEYS)}"
        raise DataError(
            f"{path.name}: {wanted} in it (found: {', '.join(names) or 'nothing'}). Name the mask: "
            f"`--mask {path.name}:KEY`."
        )
    return np.asarray(archive.read(key)), f"{path.name}:{key}", key == "mask"


def _of_hdf5(path: Path, key: str | None) -> tuple[np.ndarray, str, bool]:
    with opened(path) as file, translated(path.name):
        if key is None:
            there = file.datasets()
            named = [one for one in there if one.rsplit("/", 1)[-1].lower() in _NAMES]
            if len(named) != 1:
                found = ", ".join(named or list(there)[:8]) or "nothing"
                raise DataError(
                    f"{path.name}: {'several masks' if named else 'no mask of a known name'} in it (found: "
                    f"{found}). Name one: `--mask {path.name}:KEY`."
                )
            key = named[0]
        values = file.array(key)
        if values is None:
            raise DataError(f"{path.name}: no `{key}` in it. {file.listing()}")
        return np.asarray(values), f"{path.name}:{key}", False
