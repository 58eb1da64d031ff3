"""A directory with a file for each frame, or for some frames: NPY, or any HDF5 (MATLAB, CXI, NeXus).

The files come in the order of the numbers in their names. Of each, the frames are what was named with
`--frames-key`, what has the name of frames, or the only image in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io.formats.named import FRAMES
from ptycho_core.io.formats.npy import opened_array
from ptycho_core.io.formats.tiff import in_natural_order
from ptycho_core.io.hdf5 import Hdf5, opened, translated
from ptycho_core.io.raw_scan import RawScan, RequestedKeys
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["holds_frames", "read"]

_HDF5_SUFFIXES = (".h5", ".hdf5", ".cxi", ".nxs", ".mat", ".hdf")
_SUFFIXES = (".npy", *_HDF5_SUFFIXES)
_SMALLEST_PX = 8


def holds_frames(path: Path) -> bool:
    """Whether a directory holds files of a kind that can be frames."""
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    """Return the files of the commonest kind, in the order of their numbers; positions are left out."""
    known = [
        file
        for file in path.iterdir()
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith((".", "positions"))
    ]
    if not known:
        return []
    ((suffix, _),) = Counter(file.suffix.lower() for file in known).most_common(1)
    return in_natural_order(file for file in known if file.suffix.lower() == suffix)


def read(path: Path, name: str, keys: RequestedKeys) -> RawScan:
    """Leave the frames in their files; only the first file is looked at now.

    Raises:
        DataError: the first file holds no frame.
    """
    files = _files(path)
    suffix = files[0].suffix.lower()
    source = _Files(
        tuple(files), opened_array if suffix == ".npy" else _Named(keys.frames, turned=suffix == ".mat")
    )
    note = f"{source.shape[0]} frames of {len(files)} files `*{suffix}`, in the order of their numbers."
    return RawScan(
        name=name,
        format=f"a directory of {suffix[1:].upper()} files",
        frames=LazyFrames(source),
        positions_px=None,
        source=files[0],
        notes=(note,),
    )


@dataclass(frozen=True)
class _Named:
    """Reads the frames of an HDF5 file.

    Attributes:
        key: their name, where one was given. turned: MATLAB stores columns first.
    """

    key: str | None
    turned: bool

    def __call__(self, path: Path) -> np.ndarray:
        with opened(path) as file, translated(path.name):
            values = file.read(self._item(file))
        return np.swapaxes(values, -1, -2) if self.turned else values

    def _item(self, file: Hdf5) -> h5py.Dataset:
        if self.key is not None:
            return file.required(self.key)
        images = {
            key: item
            for key, item in file.datasets().items()
            if item.dtype.kind in "biuf" and item.ndim >= 2 and min(item.shape[-2:]) >= _SMALLEST_PX
        }
        named = [key for key in images if key.rsplit("/", 1)[-1] in FRAMES]
        chosen = named[:1] or list(images)
        if len(chosen) != 1:
            said = "no image" if not images else f"{len(images)} arrays that could be the frame"
            raise DataError(
                f"{file.path.name}: {said} was found. {file.listing()}",
                finding="DATA-001",
            )
        return images[chosen[0]]


class _Files:
    """The frames of files that hold equally many each."""

    def __init__(self, files: tuple[Path, ...], read: Callable[[Path], np.ndarray | LazyFrames]) -> None:
        self._paths, self._read = files, read
        first = self._of(files[0], None)
        self._each, self._frame_shape, self.dtype = first.shape[0], first.shape[1:], first.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width = self._frame_shape
        return self._each * len(self._paths), height, width

    def read(self, chosen: np.ndarray) -> np.ndarray:
        block = np.empty((chosen.size, *self._frame_shape), self.dtype)
        of_file, inside = np.divmod(chosen, self._each)
        for number in np.unique(of_file):
            rows = np.flatnonzero(of_file == number)
            expected = (self._each, *self._frame_shape)
            block[rows] = self._of(self._paths[int(number)], expected)[inside[rows]]
        return block

    def frames_first(self) -> _Files:
        raise DataError(
            f"{self._paths[0].parent.name}: its {self.shape[0]} frames do not fit the number of positions. "
            "Expected one position for each.",
            finding="FORMAT-001",
        )

    def _of(self, path: Path, expected: tuple[int, ...] | None) -> np.ndarray | LazyFrames:
        values = self._read(path)
        values = values[np.newaxis] if isinstance(values, np.ndarray) and values.ndim == 2 else values
        if values.ndim != 3 or values.dtype.kind not in "biuf" or 0 in values.shape:
            raise DataError(
                f"{path.name}: it holds {values.dtype} of shape {values.shape}. Expected a frame (H, W), or "
                "frames (k, H, W), of real numbers.",
                finding="DATA-001",
            )
        if expected is not None and values.shape != expected:
            raise DataError(
                f"{path.name}: it holds {values.shape}, the first file {expected}. Expected the same.",
                finding="DATA-001",
            )
        return values
