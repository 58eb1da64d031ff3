"""Stacks of frames that grow in one file: HDF5 of any layout that `open_scan` reads, and NPY.

A writer may append frames, or make room for all of them first; room that is still empty reads as zeros, so a
frame of zeros is one that has not come yet.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ptycho_config.errors import DataError, NotRegularError
from ptycho_config.regular import require_regular
from ptycho_core.io.formats.reading import is_hdf5, read_scan_file
from ptycho_core.io.hdf5 import Hdf5Source, without_lock
from ptycho_core.io.raw_scan import RawScan, RequestedKeys
from ptycho_core.live.arrival import Arrival
from ptycho_core.live.positions import PositionsBeside, declared_rows, grown_array, without_blank_end
from ptycho_core.scan.lazy import ChainedSource, FrameSource, LazyFrames

__all__ = ["GrowingStack"]

#: Frames read at once, and late frames that are asked for again.
_BLOCK, _LATE = 128, 64
#: Of large frames fewer; and what has come is handed over at least so often, however much more there is.
_BLOCK_BYTES, _LONGEST_LOOK_S = 1 << 26, 0.5
#: A file that cannot be read is damaged, not unfinished, when it has not changed for so long.
_PATIENCE_S = 5.0


class GrowingStack:
    """The frames of one file, as they appear in it."""

    def __init__(self, path: Path, keys: RequestedKeys, beside: PositionsBeside | None = None) -> None:
        self.name = path.name.split(".")[0] or path.name
        self._path, self._keys, self._beside = path, keys, beside
        self._raw: RawScan | None = None
        self._positions: np.ndarray | None = None
        self._declared: int | None = None
        self._next = 0
        self._late: list[int] = []
        self._unread: tuple[tuple[int, int], float] | None = None
        self._delivered = 0

    def head(self) -> RawScan:
        if self._raw is None:
            raise DataError(f"{self._path}: nothing has come yet.")
        return self._raw

    def positions_known(self) -> np.ndarray | None:
        return self._positions

    @property
    def expected(self) -> int | None:
        return self._declared

    @property
    def ended(self) -> bool:
        return self._path.with_name(self._path.name + ".done").exists()

    def missing(self) -> dict[int, str]:
        return dict.fromkeys(self._late, "never written, its place holds zeros")

    def poll(self, *, last: bool = False) -> list[Arrival]:
        now = time.perf_counter()
        try:
            if not self._path.exists():
                return []
            require_regular(self._path)
            with without_lock():
                raw = self._look(last=last)
                found = [] if raw is None else self._take(raw, now, last=last)
                if raw is not None and isinstance(raw.frames, LazyFrames):
                    _let_go(raw.frames.source)
            self._unread = None
        except NotRegularError as error:
            raise DataError(f"{self._path}: {error.strerror}. Expected a file that grows.") from error
        except (DataError, OSError, MemoryError) as error:
            self._be_patient(error, now, last=last)
            return []
        return found

    def _be_patient(self, error: Exception, now: float, *, last: bool) -> None:
        """Take what cannot be read for unfinished, unless it has not changed for long."""
        try:
            status = self._path.stat()
            seen = (status.st_size, status.st_mtime_ns)
        except OSError:
            seen = (0, 0)
        if self._unread is None or self._unread[0] != seen:
            self._unread = (seen, now)
        too_long = now - self._unread[1] > _PATIENCE_S
        if self._raw is None and (too_long or last):
            if isinstance(error, DataError):
                raise error
            raise DataError(f"{self._path}: cannot be read ({error}). Is it still being copied?") from error

    def _look(self, *, last: bool) -> RawScan | None:
        """Look at the file anew: what it holds by now."""
        if is_hdf5(self._path):
            raw = read_scan_file(self._path, self.name, self._keys)
        else:
            frames = grown_array(self._path)
            raw = RawScan(name=self.name, format="NPY", frames=frames, positions_px=None, source=self._path)
            if self._declared is None and declared_rows(self._path) > len(frames):
                self._declared = declared_rows(self._path)
        positions = raw.positions_px
        if self._beside is not None:
            brought = self._beside.read()
            positions = brought.positions_px
            raw = replace(
                raw,
                positions_px=positions,
                position_unit_m=brought.position_unit_m,
                position_unit_open=brought.position_unit_open,
                position_convention=brought.position_convention,
                probe=brought.probe if raw.probe is None else raw.probe,
                pixel_size_m=brought.pixel_size_m or raw.pixel_size_m,
                energy_ev=brought.energy_ev or raw.energy_ev,
                distance_m=brought.distance_m or raw.distance_m,
            )
        if positions is None:
            if last:
                why = (
                    f" ({self._beside.why_not})" if self._beside is not None and self._beside.why_not else ""
                )
                raise DataError(
                    f"{self._path.name}: no positions were found{why}. Expected one (y, x) pair per frame, "
                    "in the file, in `positions.csv` beside it, or where `--positions-file` says."
                )
            return None
        positions = np.asarray(positions)
        self._positions = positions if last else without_blank_end(positions)
        self._raw = raw
        return raw

    def _take(self, raw: RawScan, now: float, *, last: bool) -> list[Arrival]:
        frames, positions = raw.frames, self._positions
        if frames.ndim != 3:
            raise DataError(f"{self._path.name}: frames of shape {frames.shape}. Expected (frames, H, W).")
        n_frames = frames.shape[0]
        n_now = min(n_frames, 0 if positions is None else len(positions))
        if positions is None or not n_now:
            return []
        found: list[Arrival] = []
        for index in self._late[:_LATE]:
            found += self._arrivals(frames, positions, np.array([index]), now)
        self._late = [index for index in self._late if index not in {one.index for one in found}]
        until = time.perf_counter() + _LONGEST_LOOK_S
        frame_bytes = math.prod(frames.shape[1:]) * frames.dtype.itemsize
        at_once = max(1, min(_BLOCK, _BLOCK_BYTES // max(1, frame_bytes)))
        while self._next < n_now and (last or not found or time.perf_counter() < until):
            block = np.arange(self._next, min(self._next + at_once, n_now))
            got = self._arrivals(frames, positions, block, now)
            if not got:
                # Room for frames to come: these are not late, they are not due yet.
                if n_frames > self._next + len(got) and self._declared is None:
                    self._declared = n_frames
                break
            reached = got[-1].index + 1
            there = {one.index for one in got}
            self._late += [index for index in range(self._next, reached) if index not in there]
            if reached <= block[-1] and self._declared is None:
                self._declared = n_frames
            self._next = reached
            found += got
        if last and self._next < n_now:
            self._late += list(range(self._next, n_now))
        self._delivered += len(found)
        return found

    def _arrivals(
        self, frames: np.ndarray | LazyFrames, positions: np.ndarray, chosen: np.ndarray, now: float
    ) -> list[Arrival]:
        block = np.asarray(frames[chosen])
        there = np.asarray(block.reshape(len(block), -1).any(axis=1))
        there &= np.isfinite(np.asarray(positions[chosen], np.float64)).all(axis=1)
        return [
            Arrival(int(index), frame, np.asarray(positions[index]), now)
            for index, frame, is_there in zip(chosen, block, there, strict=True)
            if is_there
        ]


def _let_go(source: FrameSource) -> None:
    """Close the files behind frames: a writer may be about to open them."""
    for part in source.parts if isinstance(source, ChainedSource) else (source,):
        if isinstance(part, Hdf5Source):
            part.close()
