"""Frames of a raster, stored in rows and columns, and positions that only its step tells."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.naming import shown
from ptycho_core.io.options import ReadOptions
from ptycho_core.io.raw_scan import RawScan
from ptycho_core.io.units import length_factor
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["as_raster", "parse_step", "raster_positions"]

_STEP = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([^\W\d_]*)\s*")


def as_raster(raw: RawScan, options: ReadOptions) -> RawScan:
    """Lay frames of rank 4 out one after the other, and make positions of the step that was asked for.

    Raises:
        ConfigError: the step or the shape cannot be read.
        DataError: the shape does not fit the frames.
    """
    frames, grid = raw.frames, _grid_of(raw.frames)
    if isinstance(frames, np.ndarray) and grid is not None:
        raw = replace(raw, frames=frames.reshape(-1, *frames.shape[2:]))
    if options.scan_step is None:
        return _on_the_axes(raw, grid)
    step, unit_m = parse_step(options.scan_step)
    n_frames = raw.frames.shape[0]
    by_columns = grid is not None and raw.raster_by_columns
    if grid is not None and by_columns:
        grid = grid[1], grid[0]
    rows, columns = _shape(options.scan_shape, grid, n_frames, raw.name)
    places = raster_positions(columns, rows)[:, ::-1] if by_columns else raster_positions(rows, columns)
    raster = f"raster of {rows} x {columns} with the step {options.scan_step}"
    said = f"The positions are a {raster} that was asked for."
    return replace(
        raw,
        positions_px=places * np.array(step),
        position_unit_m=unit_m,
        position_unit_open=False,
        position_convention="index",
        notes=(*raw.notes, said),
    )


def _on_the_axes(raw: RawScan, grid: tuple[int, int] | None) -> RawScan:
    """Make positions of the two axes of a square raster, where a file holds these."""
    positions = raw.positions_px
    if grid is None or positions is None or np.shape(positions) != (grid[0], 2) or grid[0] != grid[1]:
        return raw
    y, x = np.meshgrid(positions[:, 0], positions[:, 1], indexing="ij")
    note = f"The positions are the axes of a raster of {grid[0]} x {grid[1]}."
    return replace(raw, positions_px=np.stack([y.ravel(), x.ravel()], axis=1), notes=(*raw.notes, note))


def raster_positions(rows: int, columns: int) -> Float64[np.ndarray, "frame 2"]:
    """Return (row, column) of every frame of a raster, row by row."""
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    return np.stack([y.ravel(), x.ravel()], axis=1)


def parse_step(text: str) -> tuple[tuple[float, float], float | None]:
    """Read `DY,DX` or one step for both, each with a unit (m, mm, um, nm, A) or none for object pixels.

    Returns:
        Both steps, and the metres in their unit; None for pixels.

    Raises:
        ConfigError: it is none of these.
    """
    refused = ConfigError(
        f"`scan_step` is {shown(text)}. Expected DY,DX or one step for both, in object pixels or with a unit "
        "(m, mm, um, nm, A), such as 31.25A or 0.5um,0.4um."
    )
    found: list[tuple[float, float | None]] = []
    for part in text.split(","):
        match = _STEP.fullmatch(part)
        unit = match[2] if match else ""
        factor = None if unit in ("", "px") else length_factor(unit)
        if match is None or (factor is None and unit not in ("", "px")):
            raise refused
        try:
            found.append((float(match[1]), factor))
        except ValueError:
            raise refused from None
    if len(found) not in (1, 2) or any(not (step > 0 and math.isfinite(step)) for step, _ in found):
        raise refused
    (dy, of_y), (dx, of_x) = found[0], found[-1]
    if of_y is None and of_x is not None:
        of_y = of_x  # 0.5,0.4um
    if (of_y is None) != (of_x is None):
        raise refused
    if of_y is None or of_x is None:
        return (dy, dx), None
    return (dy, dx * of_x / of_y), of_y


def _grid_of(frames: np.ndarray | LazyFrames) -> tuple[int, int] | None:
    """Return rows and columns of a raster of frames; None where they are stored in one row."""
    if isinstance(frames, LazyFrames):
        return getattr(frames.source, "grid", None)
    if frames.ndim != 4 or 1 in (frames.shape[0], frames.shape[-1]):
        return None
    return frames.shape[0], frames.shape[1]


def _shape(
    asked: tuple[int, ...] | None, grid: tuple[int, int] | None, n_frames: int, name: str
) -> tuple[int, int]:
    if asked is not None:
        if len(asked) != 2 or asked[0] * asked[1] != n_frames:
            raise DataError(
                f"{name}: a scan of {' x '.join(map(str, asked))} has not {n_frames} frames. Expected "
                "`--scan-shape ROWS,COLUMNS` whose product is the number of frames.",
                finding="DATA-001",
            )
        return asked[0], asked[1]
    if grid is not None:
        return grid
    side = math.isqrt(n_frames)
    if side * side != n_frames:
        raise DataError(
            f"{name}: the rows and columns of its {n_frames} frames are not known. Name them: `--scan-shape "
            "ROWS,COLUMNS`.",
            finding="DATA-001",
        )
    return side, side
