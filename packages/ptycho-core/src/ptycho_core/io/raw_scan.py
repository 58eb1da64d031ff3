"""What a file or a caller brings to the door, before anything is checked, and under which names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ptycho_core.io.npz import Checksum
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["Arrays", "Found", "Keys"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Arrays:
    """Arrays and what was said of them. Fields as in `Scan`.

    Attributes:
        frames: an array, or frames that stay in their file.
        positions_px: (y, x), in the convention that `position_convention` names; in another unit where
            `position_unit_m` says so; None where the file has none.
        position_unit_m: metres in the unit of the positions; None: pixels, or not known.
        position_unit_open: nobody said that the positions are pixels; small numbers are then metres.
        position_scale: by which positions in pixels are multiplied, after a crop.
        detector_pixel_m: side of a detector pixel.
        pixel_size_asked: `pixel_size_m` is what the caller wants, not what the file says.
        format: what kind of file it was, for `ptycho inspect`.
        bad_pixels: True = bad, DC in the same place as in `frames`.
        declared_measurement: what the file says its values are, and why we think so.
        declared_dc: where the file says that the zero frequency is.
        checksum: of the frames, still to be verified while they are read.
    """

    name: str
    frames: np.ndarray | LazyFrames
    positions_px: np.ndarray | None
    position_unit_m: float | None = None
    position_unit_open: bool = True
    position_scale: float = 1.0
    detector_pixel_m: float | None = None
    pixel_size_asked: bool = False
    format: str = "NPZ"
    probe: np.ndarray | None = None
    probe_source: Literal["file", "given"] = "file"
    bad_pixels: np.ndarray | None = None
    position_convention: Literal["index", "center"] = "index"
    ground_truth: np.ndarray | None = None
    patch_truth: np.ndarray | None = None
    pixel_size_m: float | None = None
    energy_ev: float | None = None
    distance_m: float | None = None
    nphotons: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)  # Any: whatever JSON the file's author chose
    notes: tuple[str, ...] = ()
    source: Path | None = None
    known_sha256: str | None = None
    declared_measurement: tuple[Literal["amplitude", "counts"], str] | None = None
    declared_dc: Literal["center", "corner"] | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True)
class Keys:
    """Names that somebody gave; they go before those that a format knows.

    Attributes:
        positions: one array of (y, x) pairs, or two arrays, the one with y first, joined by a comma.
        positions_elsewhere: they come from another file, and none are needed here.
    """

    frames: str | None = None
    positions: str | None = None
    probe: str | None = None
    positions_elsewhere: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """Positions as they were found.

    Attributes:
        values: (M, 2), (y, x).
        unit_m: metres in their unit, None for pixels or where nobody says.
        open: whether small numbers may be metres.
        note: what was assumed.
    """

    values: np.ndarray
    unit_m: float | None
    open: bool
    note: str
