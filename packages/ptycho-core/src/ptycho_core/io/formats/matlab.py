"""MATLAB's files: HDF5 with its axes in reverse, or held as such where they are older than version 7.3. What
MATLAB calls (rows, columns, frames) is stored as (frames, columns, rows)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ptycho_core.io.formats import fold_slice, named
from ptycho_core.io.hdf5 import Hdf5
from ptycho_core.io.raw_scan import RawScan, RequestedKeys
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["matches", "read"]


def matches(file: Hdf5) -> bool:
    """Whether MATLAB's line of text begins the file."""
    return file.columns_first


def read(file: Hdf5, name: str, keys: RequestedKeys) -> RawScan:
    """Read variables by known or given names, rows and columns put right."""
    raw = (fold_slice if fold_slice.matches(file) else named).read(file, name, keys)
    frames = raw.frames
    if isinstance(frames, LazyFrames) and _frames_are_last(frames, raw.positions_px):
        frames = frames.frames_first()
    return replace(
        raw,
        format="MATLAB",
        frames=np.swapaxes(frames, 1, 2),  # pyright: ignore[reportArgumentType, reportCallIssue]
        raster_by_columns=True,
        positions_px=_columns(raw.positions_px),
        probe=_turned(raw.probe),
        bad_pixels=_turned(raw.bad_pixels),
        ground_truth=_turned(raw.ground_truth),
        notes=(*raw.notes, "MATLAB stores columns first; rows and columns were exchanged back."),
    )


def _frames_are_last(frames: LazyFrames, positions: np.ndarray | None) -> bool:
    """Whether MATLAB has them as (frames, rows, columns), which is stored with the frames last."""
    first, middle, last = frames.shape
    if getattr(frames.source, "grid", None) is not None or middle == last:
        return False
    return first == middle and (positions is None or last == max(positions.shape))


def _turned(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None or values.ndim < 2 else np.ascontiguousarray(np.swapaxes(values, -1, -2))


def _columns(positions: np.ndarray | None) -> np.ndarray | None:
    """Bring (2, M), as an (M, 2) variable is stored, back to (M, 2)."""
    if positions is not None and positions.ndim == 2 and positions.shape[0] == 2 != positions.shape[1]:
        return positions.T
    return positions
