"""What a command needs besides the models: which method, which files, how much to say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ptycho_config.models.base import CanonicalConfig
from ptycho_config.values import (
    SWITCH,
    FilePath,
    FrameList,
    FrameRange,
    LogLevel,
    Number,
    Orientation,
    PixelPlace,
    PositiveInteger,
    PositiveNumber,
    Region,
    ScaleFactors,
    Voltage,
)

__all__ = ["RunConfig"]


class RunConfig(CanonicalConfig):
    """How a command reads its scan and where it leaves its results."""

    method: Literal["auto", "solver", "network", "both"] = Field(
        default="auto", description="how to reconstruct"
    )
    backend: Literal["pytorch", "tensorflow"] = Field(
        default="pytorch", description="core of the network, where the method has one"
    )
    output_dir: FilePath = Field(default=Path("reconstruction"), description="directory of the results")
    resume: bool = Field(default=False, description="go on from the result in the output directory")
    start: FilePath | None = Field(
        default=None,
        description="result to start from: a reconstruction.npz or its directory, a product, or a .ptyr",
    )
    prior_bundle: FilePath | None = Field(
        default=None,
        description="bundle of a trained network, whose image the solver is offered as prior mean where "
        "photons are few",
    )
    probe_file: FilePath | None = Field(
        default=None, description="file with the start probe; the scan's own when not given"
    )
    probe_start: Literal["given", "estimated", "conjugate"] = Field(
        default="given",
        description="start from the probe as given, from one estimated from the frames, or from the complex "
        "conjugate, whose defocus has the other sign",
    )
    probe_refinement: bool = Field(
        default=True, description="refine the probe together with the object; false holds it as it was given"
    )
    share_probe: bool | None = Field(
        default=None,
        description="of several scans each starts from the probe of one that is done; when not given, where "
        "they are done one after another",
    )
    do_stitching: bool = Field(default=False, description="join the patches to one object after training")
    measurement: Literal["auto", "amplitude", "counts"] = Field(
        default="auto", description="what the frames hold: amplitude (root of counts) or counts"
    )
    dc: Literal["auto", "center", "corner"] = Field(
        default="auto", description="where the zero frequency lies in a frame"
    )
    pixel_size_m: PositiveNumber | None = Field(
        default=None, description="object pixel in m; the file's own when not given"
    )
    energy_ev: PositiveNumber | None = Field(
        default=None, description="photon energy in eV; the file's own when not given"
    )
    electrons: Voltage | None = Field(
        default=None, description="electrons, accelerated by this voltage, instead of photons"
    )
    distance_m: PositiveNumber | None = Field(
        default=None, description="sample to detector in m; the file's own when not given"
    )
    detector_pixel_m: PositiveNumber | None = Field(
        default=None, description="side of a detector pixel in m; the file's own when not given"
    )
    frames_key: str | None = Field(default=None, description="name of the frames in the file")
    positions_key: str | None = Field(
        default=None, description="name of the positions: (y, x) pairs, or two names, Y,X"
    )
    probe_key: str | None = Field(default=None, description="name of the start probe in the file")
    positions_file: FilePath | None = Field(
        default=None, description="file with the positions: CSV, NPY, NPZ, HDF5 or a product"
    )
    positions_unit: Literal["auto", "px", "m", "mm", "um", "nm"] = Field(
        default="auto", description="what the positions are counted in"
    )
    scan_step: str | None = Field(
        default=None,
        description="step DY,DX of a raster, or one for both: 0.5um, 31.25A, or in object pixels",
    )
    scan_shape: PixelPlace | None = Field(
        default=None, description="rows and columns of that raster; as the frames are stored when not given"
    )
    positions_orientation: Orientation = Field(
        default="as-is", description="how the positions are turned; `ptycho inspect --orientations` tries all"
    )
    positions_scale: ScaleFactors = Field(
        default=(1.0,), description="factor on the positions behind that, or two: of y and of x"
    )
    positions_turn_deg: Number = Field(
        default=0.0, description="angle by which they are turned then, from y to x, in degrees"
    )
    frames_orientation: Orientation = Field(default="as-is", description="how the frames are turned")
    crop_px: PositiveInteger | None = Field(
        default=None, description="keep a square of this side around the beam, in pixels as stored"
    )
    beam_center_px: PixelPlace | None = Field(
        default=None, description="pixel (y, x) of the beam, as stored; found when not given"
    )
    rebin: PositiveInteger = Field(default=1, description="so many pixels along either axis become one")
    dark: FilePath | None = Field(
        default=None, description="file with a dark frame to subtract, FILE or FILE:KEY"
    )
    flat: FilePath | None = Field(
        default=None, description="file with the response of each pixel to divide by, FILE or FILE:KEY"
    )
    counts_per_photon: PositiveNumber | None = Field(
        default=None, description="what the detector gives for a photon; found where it is plain"
    )
    bad_pixels: Annotated[Literal["auto", "file", "off"], SWITCH] = Field(
        default="auto",
        description="leave out what is no data: found and the file's mask, only the mask, neither",
    )
    mask: FilePath | None = Field(
        default=None, description="file with the mask of bad pixels, FILE or FILE:KEY; 0 = good"
    )
    mask_invert: bool = Field(default=False, description="in the mask given, or in the file's own, 0 = bad")
    bad_frames: Annotated[Literal["auto", "off"], SWITCH] = Field(
        default="auto", description="leave out frames that are empty, far too bright or dark, or not finite"
    )
    frames: FrameRange | None = Field(default=None, description="use only these frames of the file")
    exclude_frames: FrameList | None = Field(
        default=None, description="frames of the file to leave out: numbers, or a file that lists them"
    )
    region: Region | None = Field(
        default=None, description="use only frames whose position lies in this rectangle"
    )
    missing_positions: Literal["drop", "interpolate"] = Field(
        default="drop", description="what to do with frames whose position is missing"
    )
    diagnose: Annotated[Literal["auto", "off"], SWITCH] = Field(
        default="auto", description="where the verdict is not good, try how the scan may be read otherwise"
    )
    frc: bool | None = Field(
        default=None, description="compare two halves of the frames; small scans are when not given"
    )
    uncertainty: bool = Field(
        default=False,
        description="also tell the standard deviation of each pixel, from six reconstructions of halves",
    )
    strict: bool = Field(default=False, description="exit with 1 where the verdict is not good")
    save_tiff: bool = Field(
        default=False, description="also write amplitude, phase and unwrapped phase as 32-bit TIFF"
    )
    save_mat: bool = Field(default=False, description="also write object and probe as a MATLAB 7.3 file")
    unwrap: bool = Field(default=False, description="also draw the phase without its jumps of 2 pi")
    crop_result: bool = Field(default=False, description="cut the object to its illuminated part")
    console_level: LogLevel = Field(default="INFO", description="least important lines shown on the screen")
