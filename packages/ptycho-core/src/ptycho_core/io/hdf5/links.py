"""Where HDF5 files lead to: links into other files may end at regular files only.

The HDF5 library opens whatever an external link names, and waits for ever on a pipe or a terminal, in code
that nothing can interrupt. So every link is looked at, here and in the files that they lead to, before any is
followed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import h5py
import h5py.h5l

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.hdf5.handles import open_file
from ptycho_core.io.heaps import check_global_heaps

__all__ = ["SOURCE_PREFIX", "beside", "first_opened", "require_regular_files"]

_MOST_LINKS = 1_000_000
_HEAPS_OF_OTHERS_BYTES = 1 << 22
_SYSTEM = ("/proc/", "/sys/")
#: The environment's own place for external links.
LINK_PREFIX = "HDF5_EXT_PREFIX"
#: The environment's own place for the sources of virtual data sets.
SOURCE_PREFIX = "HDF5_VDS_PREFIX"


def require_regular_files(file: h5py.File, seen: set[str] | None = None) -> None:
    """Refuse a file with a link, or a link behind one, to a pipe, a socket or a device.

    Args:
        seen: real paths of files that were looked at; filled.

    Raises:
        DataError: it has one.
    """
    seen = set() if seen is None else seen
    path = os.path.realpath(file.filename)
    if path in seen:
        return
    seen.add(path)
    for name in _linked_files(file):
        other = first_opened(beside(file, name, LINK_PREFIX))
        if other is not None:
            with other:
                require_regular_files(other, seen)


def _linked_files(file: h5py.File) -> set[str]:
    """Return the names of all files that external links name, each once."""
    found = _Links()
    file.id.links.visit(found.take, info=True)
    if found.number > _MOST_LINKS:
        raise DataError(f"{Path(file.filename).name}: it holds more than {_MOST_LINKS} links.")
    return {os.fsdecode(file.id.links.get_val(name)[0]) for name in found.external}


class _Links:
    """Counts the links of a file and keeps the names of those into others."""

    def __init__(self) -> None:
        self.number, self.external = 0, list[bytes]()

    def take(self, name: bytes, info: Any) -> bool | None:  # Any: h5py's LinkInfo
        """Take one link; True ends the walk."""
        self.number += 1
        if info.type == h5py.h5l.TYPE_EXTERNAL:
            self.external.append(name)
        return True if self.number > _MOST_LINKS else None


def beside(file: h5py.File, name: str, prefix: str) -> list[Path]:
    """Return the places where the HDF5 library looks for another file, in its order, that exist.

    Args:
        prefix: the environment variable with places of its own.

    Raises:
        DataError: a pipe, a socket or a device is at one of them.
    """
    folder, real = Path(file.filename).absolute().parent, Path(os.path.realpath(file.filename)).parent
    own = os.environ.get(prefix, "").replace("${ORIGIN}", str(folder)).split(":")
    named = Path(name)
    places = [named] if named.is_absolute() else []
    below = named.name if places else name
    places += [Path(place) / below for place in (*filter(None, own), folder, "", real)]
    found: list[Path] = []
    for place in dict.fromkeys(places):
        try:
            mode = place.stat().st_mode
        except (OSError, ValueError):
            continue
        special = not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
        if special or os.path.realpath(place).startswith(_SYSTEM):
            raise DataError(
                f"{Path(file.filename).name}: it leads to `{excerpt(name, 80)}`, which is not a regular "
                "file. Expected HDF5 files; remove the link."
            )
        if stat.S_ISREG(mode):
            found.append(place)
    return found


def first_opened(places: list[Path]) -> h5py.File | None:
    """Open the first of some files that is HDF5 and sound enough to be opened; None where none is."""
    for place in places:
        check_global_heaps(place, _HEAPS_OF_OTHERS_BYTES)
        try:
            return open_file(place)
        except (OSError, RuntimeError, ValueError):
            continue
    return None
