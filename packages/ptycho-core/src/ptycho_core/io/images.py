"""One image of the detector in a file of its own: a mask, a dark frame, a flat field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.files import expanded, is_file, is_no_regular_file
from ptycho_core.io.formats.npy import read_array
from ptycho_core.io.formats.reading import is_hdf5
from ptycho_core.io.hdf5 import opened, translated
from ptycho_core.io.npz import Archive
from ptycho_core.io.recognise import first_bytes

__all__ = ["DetectorImage", "read_image"]


@dataclass(frozen=True, eq=False)
class DetectorImage:
    """An image as it is stored.

    Attributes:
        values: (H, W), or (frames, H, W).
        source: file, and name in it. npz_key: that name where the file is an NPZ.
    """

    values: np.ndarray
    source: str
    npz_key: str | None = None


def read_image(text: str, names: tuple[str, ...], *, what: str) -> DetectorImage:
    """Read `FILE[:KEY]`: NPY, NPZ, HDF5, CXI or TIFF.

    Args:
        names: where no key is given, what the image may be called in the file, wherever it stands.
        what: the flag without its dashes, for messages.

    Raises:
        DataError: there is no such file or key, or it is of no known format.
    """
    path, key = expanded(text), None
    if not is_file(path) and ":" in text:
        name, key = text.rsplit(":", 1)
        path = expanded(name)
    if is_no_regular_file(path):
        raise DataError(
            f"{excerpt(str(path))}: no regular file. Expected a {what}, `--{what} FILE` or "
            f"`--{what} FILE:KEY`."
        )
    if not is_file(path):
        raise DataError(
            f"{excerpt(str(path))}: no such file. Expected a {what}, `--{what} FILE` or `--{what} FILE:KEY`."
        )
    start = first_bytes(path)
    if is_hdf5(path):
        return _of_hdf5(path, key, names, what)
    if start.startswith((b"PK", b"BZh")):
        return _of_archive(path, key, names, what)
    if start.startswith(b"\x93NUMPY"):
        return DetectorImage(read_array(path), path.name)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from ptycho_core.io.formats import tiff

        values = np.asarray(tiff.read(path, path.name).frames[:])
        return DetectorImage(values[0] if len(values) == 1 else values, path.name)
    raise DataError(f"{path.name}: no {what} of a known format. Expected NPY, NPZ, HDF5, CXI or TIFF.")


def _of_archive(path: Path, key: str | None, names: tuple[str, ...], what: str) -> DetectorImage:
    archive = Archive(path)
    there = list(archive.members)
    if key is None:
        key = next((name for name in names if name in there), there[0] if len(there) == 1 else None)
    if key is None or key not in there:
        wanted = f"no `{key}`" if key else f"none of {', '.join(names)}"
        raise DataError(
            f"{path.name}: {wanted} in it (found: {', '.join(there) or 'nothing'}). Name the {what}: "
            f"`--{what} {path.name}:KEY`."
        )
    return DetectorImage(np.asarray(archive.read(key)), f"{path.name}:{key}", key)


def _of_hdf5(path: Path, key: str | None, names: tuple[str, ...], what: str) -> DetectorImage:
    with opened(path) as file, translated(path.name):
        if key is None:
            there = file.datasets()
            named = [one for one in there if one.rsplit("/", 1)[-1].lower() in names]
            if not named and len(there) == 1:
                named = list(there)
            if len(named) != 1:
                found = ", ".join(named or list(there)[:8]) or "nothing"
                raise DataError(
                    f"{path.name}: {f'several {what}s' if named else f'no {what} of a known name'} in it "
                    f"(found: {found}). Name one: `--{what} {path.name}:KEY`."
                )
            key = named[0]
        values = file.array(key)
        if values is None:
            there = ", ".join(list(file.datasets())[:8]) or "nothing"
            raise DataError(
                f"{path.name}: no `{key}` in it (found: {there}). Name one: `--{what} {path.name}:KEY`."
            )
        if file.columns_first:
            values = np.swapaxes(values, -1, -2)
        return DetectorImage(np.asarray(values), f"{path.name}:{key}")
