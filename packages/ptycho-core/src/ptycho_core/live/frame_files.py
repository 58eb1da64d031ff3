"""A directory into which a detector writes one file a frame: NPY, TIFF or NPZ.

The number at the end of a file's name is the frame's; numbers begin with 0 or with 1.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ptycho_config.errors import ConfigError, DataError, NotRegularError
from ptycho_config.regular import require_regular
from ptycho_core.io.formats.npy import read_array
from ptycho_core.io.npz import Archive
from ptycho_core.io.raw_scan import RawScan
from ptycho_core.live.arrival import Arrival
from ptycho_core.live.positions import PositionsBeside

__all__ = ["FrameFiles"]

_ENDINGS = (".npy", ".npz", ".tif", ".tiff")
_NUMBER = re.compile(r"(\d+)(?=\D*$)")
_SENTINELS = ("DONE", "done", ".done")
#: Names of a frame's own position in an NPZ: together, or y and x.
_TOGETHER = ("position_px", "position", "positions_px", "positions")
_PAIRS = (("ycoords", "xcoords"), ("y", "x"))
#: Files read at one look, so that the first picture does not wait for a full folder.
_MOST_AT_ONCE = 256


class FrameFiles:
    """The frame files of a directory, as they appear in it."""

    def __init__(
        self, path: Path, beside: PositionsBeside | None = None, *, first_number: int | None = None
    ) -> None:
        """Look into a directory.

        Args:
            beside: positions, one a frame; where there are none, each NPZ brings its own.
            first_number: of the first frame; 0 where a file has it, else the smallest seen first.
        """
        self.name, self._path, self._beside = path.name, path, beside
        self._first = first_number
        self._done: set[str] = set()
        self._failed: dict[str, tuple[tuple[int, int], str]] = {}
        self._without_position: dict[str, int] = {}

    def head(self) -> RawScan:
        blank = RawScan(name=self.name, frames=np.empty((0, 0, 0)), positions_px=None)
        return blank if self._beside is None else replace(self._beside.known, name=self.name)

    def positions_known(self) -> np.ndarray | None:
        return None if self._beside is None else self._beside.known.positions_px

    @property
    def expected(self) -> int | None:
        return None

    @property
    def ended(self) -> bool:
        return any((self._path / name).exists() for name in _SENTINELS)

    def missing(self) -> dict[int, str]:
        first = self._first or 0
        unread = {_number(name) - first: f"{name}: {why}" for name, (_, why) in self._failed.items()}
        why = f" ({self._beside.why_not})" if self._beside is not None and self._beside.why_not else ""
        lost = {index: f"{name}: it has no position{why}" for name, index in self._without_position.items()}
        return unread | lost

    def poll(self, *, last: bool = False) -> list[Arrival]:
        now = time.perf_counter()
        if not self._path.is_dir():
            return []
        beside = self._beside
        positions = None if beside is None else beside.read().positions_px
        files = self._new_files()
        if files and self._first is None:
            smallest = _number(files[0].name)
            self._first = 0 if smallest == 0 else smallest
        found: list[Arrival] = []
        for file in files[:_MOST_AT_ONCE]:
            arrival = self._arrival(file, positions, now)
            if arrival is not None:
                found.append(arrival)
                self._done.add(file.name)
        return found

    def _new_files(self) -> list[Path]:
        """List the files that were not had yet, in the order of their numbers."""
        files = [
            file
            for file in self._path.iterdir()
            if file.suffix.lower() in _ENDINGS
            and not file.name.startswith((".", "positions", f"{self.name}_positions"))
            and file.name not in self._done
            and _NUMBER.search(file.stem)
        ]
        return sorted(files, key=lambda file: _number(file.name))

    def _arrival(self, file: Path, positions: np.ndarray | None, now: float) -> Arrival | None:
        index = _number(file.name) - (self._first or 0)
        if index < 0:
            self._failed[file.name] = ((0, 0), "its number is smaller than that of the first frame")
            return None
        if positions is not None and index >= len(positions):
            self._without_position[file.name] = index
            return None
        try:
            status = require_regular(file)
            seen = (status.st_size, status.st_mtime_ns)
            if self._failed.get(file.name, (None, ""))[0] == seen:
                return None  # it has not changed since it could not be read
            frame, position_inside = _read(file)
        except (OSError, DataError, MemoryError) as error:
            why = error.strerror if isinstance(error, NotRegularError) else str(error)
            self._failed[file.name] = ((0, 0) if isinstance(error, OSError) else seen, why or "too large")
            return None
        position = position_inside if positions is None else np.asarray(positions[index])
        if position is None:
            self._without_position[file.name] = index
            return None
        self._failed.pop(file.name, None)
        self._without_position.pop(file.name, None)
        return Arrival(index, frame, position, now)


def _number(name: str) -> int:
    found = _NUMBER.search(Path(name).stem)
    if found is None:
        raise ConfigError(f"{name}: its name holds no number. Expected names such as `frame_0001.npy`.")
    return int(found.group(1))


def _read(file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read one frame and, from an NPZ, its position.

    Raises:
        DataError: unfinished, damaged, or not one frame.
    """
    position = None
    if file.suffix.lower() == ".npy":
        values = read_array(file)
    elif file.suffix.lower() == ".npz":
        values, position = _from_archive(file)
    else:
        from ptycho_core.io.formats import tiff

        frames = tiff.read(file, file.stem).frames
        if frames.shape[0] != 1:
            raise DataError(f"{file.name}: {frames.shape[0]} pages. Expected one frame a file.")
        values = np.asarray(frames[0])
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2:
        raise DataError(f"{file.name}: an array of shape {values.shape}. Expected one frame (H, W).")
    return values, position


def _from_archive(file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    archive = Archive(file)
    frames = [key for key, one in archive.members.items() if len(one.shape) >= 2 and one.dtype.kind in "biuf"]
    frames = [key for key in frames if min(archive.members[key].shape[-2:]) > 2]
    if len(frames) != 1:
        raise DataError(f"{file.name}: {len(frames)} arrays could be the frame. Expected one.")
    position = None
    for key in _TOGETHER:
        if key in archive.members and np.prod(archive.members[key].shape) == 2:
            position = archive.read(key).reshape(2)
    for y, x in _PAIRS:
        if position is None and y in archive.members and x in archive.members:
            position = np.array([archive.read(y).reshape(-1)[0], archive.read(x).reshape(-1)[0]])
    return archive.read(frames[0]), position
