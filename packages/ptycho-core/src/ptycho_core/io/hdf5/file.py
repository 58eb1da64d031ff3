"""An open HDF5 file: objects by their path, values with their units."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import h5py.h5o
import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.bounds import refuse_a_large_array
from ptycho_core.io.hdf5.chunks import guard_of
from ptycho_core.io.hdf5.frames import Hdf5Source, source_of
from ptycho_core.io.hdf5.handles import BROKEN, held_in_memory, open_file, translated
from ptycho_core.io.hdf5.links import require_regular_files
from ptycho_core.io.hdf5.storage import require_sound_storage
from ptycho_core.io.hdf5.values import joined_complex, unit_of
from ptycho_core.io.hdf5.virtual import require_safe_sources
from ptycho_core.io.heaps import check_global_heaps
from ptycho_core.io.units import energy_in_ev, length_factor

__all__ = ["Hdf5", "opened"]

MOST_OBJECTS = 20_000
DEEPEST = 24


@contextmanager
def opened(path: Path) -> Iterator[Hdf5]:
    """Open an HDF5 file while it is looked at.

    Raises:
        DataError: it is missing, damaged or no HDF5 file.
    """
    check_global_heaps(path)
    with translated(path.name):
        file = open_file(path)
    try:
        with translated(path.name):
            require_regular_files(file)
        yield Hdf5(path, file)
    except BaseException:
        file.close()
        raise
    if not held_in_memory(file):  # what was unpacked into memory goes with whatever still reads from it
        file.close()


@dataclass(frozen=True, eq=False)
class Hdf5:
    """An open HDF5 file: objects by their path, values with their units.

    Attributes:
        growing: it is still being written.
    """

    path: Path
    file: h5py.File
    _safe: set[tuple[int, int]] = field(default_factory=set, repr=False)

    @cached_property
    def columns_first(self) -> bool:
        """Whether it is MATLAB's, which stores the axes of an array in reverse."""
        with self.path.open("rb") as stream:
            return stream.read(6) == b"MATLAB"

    @property
    def growing(self) -> bool:
        return bool(self.file.swmr_mode)

    def group(self, key: str) -> h5py.Group | None:
        """Return a group, None where there is none."""
        found = self._get(key)
        return found if isinstance(found, h5py.Group) else None

    def dataset(self, key: str) -> h5py.Dataset | None:
        """Return a data set, None where there is none.

        Raises:
            DataError: the name is there but leads nowhere.
        """
        found = self._get(key)
        return found if isinstance(found, h5py.Dataset) else None

    def required(self, key: str) -> h5py.Dataset:
        """Return a data set that was asked for by name.

        Raises:
            DataError: there is none; lists what is there.
        """
        found = self.dataset(key)
        if found is None:
            raise DataError(f"{self.path.name}: there is no data set `{excerpt(key, 80)}`. {self.listing()}")
        return found

    def _get(self, key: str) -> Any:  # Any: h5py's objects
        with translated(self.path.name, f"`{key}`"):
            found = self.file.get(key)
            if found is None:
                link = self._link(key)
                if link is not None:
                    raise DataError(
                        f"{self.path.name}: `{excerpt(key, 80)}` is a link to `{excerpt(link, 80)}`, which "
                        "leads nowhere. Copy the linked file beside this one, or name another with "
                        "`--frames-key`."
                    )
            if isinstance(found, h5py.Dataset):
                self._require_safe(found)
            return found

    def _require_safe(self, item: h5py.Dataset) -> None:
        """Look where a virtual data set leads, once, before anything else is asked of it."""
        if item.is_virtual:
            info = h5py.h5o.get_info(item.id)
            if (info.fileno, info.addr) not in self._safe:
                require_safe_sources(item)
                self._safe.add((info.fileno, info.addr))

    def _link(self, key: str) -> str | None:
        try:
            link = self.file.get(key, getlink=True)
        except (KeyError, RuntimeError, ValueError):
            return None
        if isinstance(link, h5py.SoftLink):
            return str(link.path)
        if isinstance(link, h5py.ExternalLink):
            return f"{link.filename}:{link.path}"
        return None

    def datasets(self) -> dict[str, h5py.Dataset]:
        """Return every data set by its path, each once, links that lead nowhere left out.

        Raises:
            DataError: there are too many.
        """
        return self._walk()[0]

    def _walk(self) -> tuple[dict[str, h5py.Dataset], list[tuple[str, str]]]:
        """Return every data set by its path, each once; and links that lead nowhere, with their targets."""
        found: dict[str, h5py.Dataset] = {}
        lost: list[tuple[str, str]] = []
        seen: set[tuple[int, int]] = set()
        waiting: list[tuple[str, h5py.Group, int]] = [("", self.file, 0)]
        n_links = 0
        with translated(self.path.name, "its tree"):
            while waiting:
                where, group, depth = waiting.pop(0)
                for key in group:
                    n_links += 1
                    if n_links > MOST_OBJECTS:
                        raise DataError(
                            f"{self.path.name}: it holds more than {MOST_OBJECTS} objects. Name the data set "
                            "with `--frames-key`."
                        )
                    path = f"{where}/{key}".lstrip("/")
                    try:
                        item = group.get(key)
                    except BROKEN:
                        item = None
                    if not isinstance(item, h5py.Group | h5py.Dataset):
                        link = self._link(path) if item is None else None
                        lost += [(path, link)] if link is not None else []
                        continue
                    info = h5py.h5o.get_info(item.id)
                    if (info.fileno, info.addr) in seen:
                        continue
                    seen.add((info.fileno, info.addr))
                    if isinstance(item, h5py.Dataset):
                        self._require_safe(item)
                        found[path] = item
                    elif depth < DEEPEST:
                        waiting.append((path, item, depth + 1))
        return found, lost

    def listing(self) -> str:
        """Say what is in the file, the larger data sets first, and how to name them."""
        found, lost = self._walk()
        arrays = sorted(
            (
                (item.size or 0, f"`{excerpt(key, 60)}` {item.shape}")
                for key, item in found.items()
                if item.shape
            ),
            reverse=True,
        )
        shown = ", ".join(text for _, text in arrays[:8]) or "no arrays"
        more = f" and {len(arrays) - 8} more" if len(arrays) > 8 else ""
        if lost:
            where = "; ".join(f"`{excerpt(key, 60)}` to `{excerpt(link, 80)}`" for key, link in lost[:4])
            others = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
            return (
                f"Links lead nowhere: {where}{others}. Copy the linked files beside {self.path.name}. Found "
                f"{shown}{more}."
            )
        return f"Found {shown}{more}. Name them with `--frames-key`, `--positions-key` and `--probe-key`."

    def read(self, item: h5py.Dataset, *, image: bool = False) -> np.ndarray:
        """Read a whole data set that is no stack of frames; MATLAB's complex numbers become NumPy's.

        Args:
            image: it is a reconstruction, which may be as large as it lies in the file.

        Raises:
            DataError: it is larger than anything but frames should be, or damaged.
        """
        what = f"`{item.name}`"
        with translated(self.path.name, what):
            if item.shape is None or item.dtype.hasobject:
                raise DataError(
                    f"{self.path.name}: {excerpt(what)} holds no plain numbers. Name another data set."
                )
            if not image or item.is_virtual or item.nbytes > item.id.get_storage_size():
                refuse_a_large_array(self.path.name, f"{excerpt(what)} {item.shape}", item.nbytes)
            require_sound_storage(item, self.path)
            if item.ndim:
                guard = guard_of(item)
                try:
                    guard.require(0, 0, item.shape[0])
                finally:
                    guard.close()
            return joined_complex(np.asarray(item[()]))

    def array(self, key: str) -> np.ndarray | None:
        """Read a data set by its path, None where there is none."""
        item = self.dataset(key)
        return None if item is None else self.read(item)

    def number(self, *keys: str) -> tuple[float, str | None] | None:
        """Read the first of these scalars that is there, with the unit that stands beside it."""
        for key in keys:
            item = self.dataset(key)
            if item is None or item.dtype.kind not in "iuf" or not 1 <= (item.size or 0) <= 1 << 20:
                continue
            values = self.read(item).reshape(-1)
            return float(values[0]), unit_of(item)
        return None

    def length_m(self, *keys: str) -> float | None:
        """Read a length in metres; numbers without a unit are metres."""
        found = self.number(*keys)
        if found is None:
            return None
        return _positive(found[0] * (length_factor(found[1]) or 1.0))

    def detector_pixel(self, x_key: str, y_key: str) -> tuple[float | None, float]:
        """Read a detector pixel's width, and its height over that; one that is there stands for both."""
        x, y = self.length_m(x_key), self.length_m(y_key)
        width = x or y
        return width, 1.0 if width is None else (y or width) / width

    def energy_ev(self, *keys: str) -> float | None:
        """Read a photon energy in electronvolts."""
        found = self.number(*keys)
        return None if found is None else _positive(energy_in_ev(*found))

    def frames(self, item: h5py.Dataset) -> Hdf5Source:
        """Leave the frames of a data set where they are.

        Raises:
            DataError: it has the wrong rank, or declares what it does not hold.
        """
        with translated(self.path.name, f"`{item.name}`"):
            return source_of(self.path, item)


def _positive(value: float) -> float | None:
    return value if np.isfinite(value) and value > 0 else None
