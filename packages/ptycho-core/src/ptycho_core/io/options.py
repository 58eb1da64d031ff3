"""How a scan is read: everything that can be asked for, in one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ptycho_config.values import Orientation

__all__ = ["ReadOptions"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What is asked for when a scan is read; it goes before what the file says.

    These are the keywords of `open_scan`, and the fields of `ptycho_config.models.RunConfig` that files and
    flags set; whether a value is possible is said when the scan is checked.

    Attributes:
        measurement: what the values are; "auto" decides by the rules of
            docs/reference/physics.md, "Counts or amplitude".
        dc: where the zero frequency is; "auto" looks where the mean pattern is bright.
        probe_file: an NPZ or a product file (`.h5`) whose probe replaces the scan's.
        probe_start: start from that probe, from one that is estimated from the frames instead, or from the
            complex conjugate, whose defocus has the other sign.
        pixel_size_m: side of an object pixel. energy_ev: photon energy. distance_m: sample to detector.
        electrons: volts that accelerate electrons, in the place of photons; a number, or text such as "80kV".
        detector_pixel_m: side of a detector pixel.
        frames_key, positions_key, probe_key: names in the file, before those that its format knows.
            Positions are (y, x) pairs, or two names joined by a comma, that of y first.
        positions_file: where the positions are, if not in the file of the frames.
        positions_unit: what the positions are counted in; "auto" goes by the file.
        scan_step: "DY,DX" of a raster, or one step for both, in object pixels or with a unit such as
            "31.25A"; it takes the place of positions.
        scan_shape: rows and columns of that raster; as the frames are stored when None.
        positions_orientation, frames_orientation: one of eight ways to turn them.
        positions_scale: factor on the positions behind that, or two, those of y and of x.
        positions_turn_deg: angle by which they are then turned about the origin, from y to x.
        crop_px: side of the square that is kept around the beam, in pixels as stored.
        beam_center_px: (y, x) pixel of the beam, as stored; found when None.
        rebin: so many pixels along either axis become one.
        dark: frame to subtract, an array or `FILE[:KEY]`. flat: response of each pixel to divide by.
        counts_per_photon: what the detector gives for a photon, by which the frames are divided.
        bad_pixels: "auto" leaves out what is not data beside the file's own mask; "file" only the mask;
            "off" neither.
        mask: an array or `FILE[:KEY]` (NPY, NPZ, HDF5, CXI, TIFF) that marks bad pixels by any value but 0;
            a key called `mask` in an NPZ marks good ones. It is joined with what else is bad.
        mask_invert: 0 marks bad pixels there instead; without `mask`, in the file's own mask.
        bad_frames: "auto" leaves out frames that are empty, far brighter or darker than all others, not
            finite, or stored twice; "off" keeps them.
        frames: use only these frames of the file, "START:STOP:STEP".
        exclude_frames: numbers and ranges such as "3,17,40:45", or a file that lists them.
        region: use only frames whose position lies in "Y0:Y1,X0:X1", in the unit of the positions.
        missing_positions: leave out frames without a position, or put them between their neighbours in time.
    """

    measurement: Literal["auto", "amplitude", "counts"] = "auto"
    dc: Literal["auto", "center", "corner"] = "auto"
    probe_file: str | Path | None = None
    probe_start: Literal["given", "estimated", "conjugate"] = "given"
    pixel_size_m: float | None = None
    energy_ev: float | None = None
    electrons: float | str | None = None
    distance_m: float | None = None
    detector_pixel_m: float | None = None
    frames_key: str | None = None
    positions_key: str | None = None
    probe_key: str | None = None
    positions_file: str | Path | None = None
    positions_unit: Literal["auto", "px", "m", "mm", "um", "nm"] = "auto"
    scan_step: str | None = None
    scan_shape: tuple[int, ...] | None = None
    positions_orientation: Orientation = "as-is"
    positions_scale: tuple[float, ...] = (1.0,)
    positions_turn_deg: float = 0.0
    frames_orientation: Orientation = "as-is"
    crop_px: int | None = None
    beam_center_px: tuple[int, ...] | None = None
    rebin: int = 1
    dark: str | Path | np.ndarray | None = None
    flat: str | Path | np.ndarray | None = None
    counts_per_photon: float | None = None
    bad_pixels: Literal["auto", "file", "off"] = "auto"
    mask: str | Path | np.ndarray | None = None
    mask_invert: bool = False
    bad_frames: Literal["auto", "off"] = "auto"
    frames: str | None = None
    exclude_frames: str | Sequence[int] | None = None
    region: str | None = None
    missing_positions: Literal["drop", "interpolate"] = "drop"

    @property
    def changes_frames(self) -> bool:
        """Whether frames are to be anything but as stored."""
        return (
            self.crop_px is not None
            or self.beam_center_px is not None
            or self.rebin > 1
            or self.frames_orientation != "as-is"
        )
