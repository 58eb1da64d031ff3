"""Frames that stay in an HDF5 file until they are asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.hdf5.chunks import Guard, guard_of
from ptycho_core.io.hdf5.handles import held_in_memory, open_file, translated
from ptycho_core.io.hdf5.links import require_regular_files
from ptycho_core.io.hdf5.storage import require_sound_storage

__all__ = ["Hdf5Source", "source_of"]

_CLOSE = 16  # frames, which are looked at together


@dataclass(frozen=True, eq=False)
class Hdf5Source:
    """Frames of an HDF5 data set of rank 3, or 4 for a raster of (rows, columns) frames.

    Attributes:
        frame_axis_last: the frames are stored as (H, W, M).
        leading: how many axes of length 1 stand before the others.
    """

    path: Path
    key: str
    stored_shape: tuple[int, ...]
    stored_dtype: np.dtype
    leading: int = 0
    trailing: int = 0
    frame_axis_last: bool = False
    _open: dict[int, tuple[h5py.File, h5py.Dataset, Guard]] = field(default_factory=dict, repr=False)

    @property
    def _inner(self) -> tuple[int, ...]:
        return self.stored_shape[self.leading : len(self.stored_shape) - self.trailing]

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of a raster; None where the frames are stored in one row."""
        return (self._inner[0], self._inner[1]) if len(self._inner) == 4 else None

    @property
    def shape(self) -> tuple[int, int, int]:
        if len(self._inner) == 4:
            rows, columns, height, width = self._inner
            return rows * columns, height, width
        first, second, third = self._inner
        return (third, first, second) if self.frame_axis_last else (first, second, third)

    @property
    def dtype(self) -> np.dtype:
        return self.stored_dtype

    def frames_first(self) -> Hdf5Source:
        return replace(self, frame_axis_last=True)

    def read(self, chosen: np.ndarray) -> np.ndarray:
        with translated(self.path.name, f"`{self.key}`"):
            return self._read(*self._dataset(), chosen)

    def _read(self, item: h5py.Dataset, guard: Guard, chosen: np.ndarray) -> np.ndarray:
        lead = (0,) * self.leading
        trail = (0,) * self.trailing
        if chosen.size == 0:
            return np.empty((0, *self.shape[1:]), self.dtype)
        along = chosen // self._inner[1] if len(self._inner) == 4 else chosen
        axis = self.leading + (2 if self.frame_axis_last else 0)
        for first, last in _runs(along):
            guard.require(axis, first, last + 1)
        if len(self._inner) == 4:
            row, column = np.divmod(chosen, self._inner[1])
            blocks = [item[(*lead, int(r), _selection(column[row == r]))] for r in np.unique(row)]
            return np.concatenate(blocks)
        if self.frame_axis_last:
            block = item[(*lead, slice(None), slice(None), _selection(chosen), *trail)]
            return np.ascontiguousarray(np.moveaxis(block, 2, 0))
        return item[(*lead, _selection(chosen), slice(None), slice(None), *trail)]

    def _dataset(self) -> tuple[h5py.Dataset, Guard]:
        """Open the file once in each process: a handle does not survive a fork or a pickle."""
        held = self._open.get(os.getpid())
        if held is None:
            file = open_file(self.path)
            require_regular_files(file)
            item = file[self.key]
            if not isinstance(item, h5py.Dataset):
                raise DataError(f"{self.path.name}: `{excerpt(self.key, 80)}` is no data set any more.")
            require_sound_storage(item, self.path)
            held = self._open[os.getpid()] = (file, item, guard_of(item))
        return held[1:]

    def beginning_with(self, file: h5py.File, item: h5py.Dataset) -> Hdf5Source:
        """Read from a file that is open, and now this source's, until it is closed."""
        self._open[os.getpid()] = (file, item, guard_of(item))
        return self

    def close(self) -> None:
        """Let the file go; the next read opens it again."""
        held = self._open.pop(os.getpid(), None)
        if held is not None:
            held[2].close()
            held[0].close()

    def __getstate__(self) -> dict[str, Any]:  # Any: the fields
        return {**self.__dict__, "_open": {}}


def _runs(numbers: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and the last of every row of numbers that lie close together."""
    ordered = np.unique(numbers)
    breaks = np.flatnonzero(np.diff(ordered) > _CLOSE) + 1
    return [(int(run[0]), int(run[-1])) for run in np.split(ordered, breaks)]


def _selection(numbers: np.ndarray) -> slice | np.ndarray:
    """Consecutive frames as a slice, for which HDF5 is much faster."""
    steps = np.diff(numbers)
    if steps.size == 0 or np.all(steps == 1):
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers


def source_of(path: Path, item: h5py.Dataset) -> Hdf5Source:
    shape, name = item.shape, f"{path.name}: `{excerpt(str(item.name), 80)}`"
    if shape is None or item.dtype.kind not in "biuf":
        kind = "complex" if item.dtype.kind == "c" else item.dtype
        raise DataError(
            f"{name} is {kind}. Expected real numbers, one pattern per position.", finding="DATA-001"
        )
    leading = trailing = 0
    while len(shape) - leading > 3 and shape[leading] == 1:
        leading += 1
    while len(shape) - leading - trailing > 3 and shape[-1 - trailing] == 1:
        trailing += 1
    inner = shape[leading : len(shape) - trailing]
    if len(inner) not in (3, 4) or (len(inner) == 4 and trailing) or 0 in inner:
        raise DataError(
            f"{name} has shape {shape}. Expected (frames, H, W), or a raster (rows, columns, H, W).",
            finding="DATA-001",
        )
    require_sound_storage(item, path)
    # Behind an external link it is another file, in which the data set has another name.
    file = item.file
    source = Hdf5Source(Path(file.filename), str(item.name), shape, item.dtype, leading, trailing)
    return source.beginning_with(file, item) if held_in_memory(file) else source
