"""What a file or a caller offers, before anything is checked, and under which names it is looked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ptycho_config.moved import moved_name
from ptycho_core.io.npz import Checksum
from ptycho_core.io.options import ReadOptions
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.source_file import SourceFile

__all__ = ["INTENSITIES", "FoundPositions", "RawScan", "RequestedKeys", "declared_by_name"]

#: Names of frames that mean intensity, and so counts, whether they are whole numbers or not.
INTENSITIES = ("dp", "intensities", "intensity", "counts", "ptychogram")
_AMPLITUDES = ("fmag",)


def declared_by_name(key: str) -> tuple[Literal["amplitude", "counts"], str] | None:
    """Return what the name of the frames says that they are, and why; None where it says nothing."""
    name = key.rsplit("/", 1)[-1]
    for names, what in ((INTENSITIES, "counts"), (_AMPLITUDES, "amplitude")):
        if name.lower() in names:
            return ("counts" if what == "counts" else "amplitude"), f"the name `{name}` says so"
    return None


#: Which values of a mask mark bad pixels.
NOT_0_IS_BAD, IS_0_BAD = "any value but 0 is a bad pixel", "0 is a bad pixel"


@dataclass(frozen=True, eq=False, kw_only=True)
class RawScan:
    """What a file offers and what it says of it, unchecked. Fields as in `Scan`, but for these.

    Attributes:
        frames: an array, or frames that stay in their file; the frame axis may still be the last.
        positions_px: (y, x), in the convention that `position_convention` names; in another unit where
            `position_unit_m` says so; None where the file has none.
        position_unit_m: metres in the unit of the positions; None: pixels, or not known.
        position_unit_open: nothing says that the positions are pixels; small numbers are then metres.
        detector_pixel_m: width of a detector pixel. detector_aspect: its height over its width.
        electrons: the wavelength is that of electrons; `energy_ev` is then of photons with the same.
        format: what kind of file it was, for `ptycho inspect`.
        raster_by_columns: frames of rank 4 are stored one column of the raster after the other.
        bad_pixels: True = bad, zero frequency in the same place as in `frames`.
        mask_convention: which of the file's values mean that.
        declared_measurement: what the file says its values are, and why we think so.
        declared_dc: where the file says that the zero frequency is. declared_dc_by: or what else says so.
        checksum: of the frames, still to be verified while they are read.
        origin: the file as it was when it was opened.
    """

    name: str
    frames: np.ndarray | LazyFrames
    positions_px: np.ndarray | None
    position_unit_m: float | None = None
    position_unit_open: bool = True
    detector_pixel_m: float | None = None
    detector_aspect: float = 1.0
    electrons: bool = False
    format: str = "NPZ"
    raster_by_columns: bool = False
    probe: np.ndarray | None = None
    probe_source: Literal["file", "given"] = "file"
    bad_pixels: np.ndarray | None = None
    mask_convention: str = NOT_0_IS_BAD
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
    origin: SourceFile | None = None
    declared_measurement: tuple[Literal["amplitude", "counts"], str] | None = None
    declared_dc: Literal["center", "corner"] | None = None
    declared_dc_by: str = "the file's metadata says so"
    checksum: Checksum | None = None

    def at(self, found: FoundPositions, note: str) -> RawScan:
        """Return the same frames at positions that were found elsewhere.

        Args:
            note: says where.
        """
        return replace(
            self,
            positions_px=found.values,
            position_unit_m=found.unit_m,
            position_unit_open=found.open,
            notes=(*self.notes, note),
        )


@dataclass(frozen=True)
class RequestedKeys:
    """Names in a file that were asked for; they go before those that its format knows.

    Attributes:
        positions: one array of (y, x) pairs, or two arrays, the one with y first, joined by a comma.
        positions_elsewhere: they come from another file, and none are needed here.
    """

    frames: str | None = None
    positions: str | None = None
    probe: str | None = None
    positions_elsewhere: bool = False

    @classmethod
    def of(cls, options: ReadOptions, *, positions_elsewhere: bool = False) -> RequestedKeys:
        """Return the names to look for in the file of the frames.

        With a file of positions, `positions_key` is a name in that one.
        """
        elsewhere = positions_elsewhere or options.positions_file is not None
        positions = options.positions_key if options.positions_file is None else None
        return cls(options.frames_key, positions, options.probe_key, elsewhere)


@dataclass(frozen=True, eq=False)
class FoundPositions:
    """Positions as a file holds them.

    Attributes:
        values: (M, 2), (y, x).
        unit_m: metres in their unit, None for pixels or where the file does not say.
        open: whether small numbers may be metres.
        note: what was assumed.
    """

    values: np.ndarray
    unit_m: float | None
    open: bool
    note: str


_RENAMED = {
    name: f"{__name__}:{new}"
    for name, new in (
        ("Arrays", "RawScan"),
        ("Found", "FoundPositions"),
        ("Keys", "RequestedKeys"),
    )
}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _RENAMED)
