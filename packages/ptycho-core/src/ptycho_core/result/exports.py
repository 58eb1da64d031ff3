"""Results for other programs: TIFF images that any viewer opens, and a file that MATLAB loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import h5py
import numpy as np
import tifffile
from jaxtyping import Complex64, Float32, Float64

from ptycho_core.figures.display import covered_region, phase_without_ramp
from ptycho_core.figures.view import DrawnResult, aspect_of
from ptycho_core.files import atomic_path
from ptycho_core.io.hdf5 import HdfImage, written_hdf5

__all__ = [
    "MATLAB_FILE",
    "TIFF_FILES",
    "ExportedResult",
    "unwrapped_phase",
    "write_mat",
    "write_tiffs",
]

TIFF_FILES = ("amplitude.tif", "phase.tif", "phase_unwrapped.tif")
MATLAB_FILE = "reconstruction.mat"
_CM_PER_M = 100.0
#: A TIFF keeps its resolution as a fraction of two 32-bit numbers.
_LARGEST_RESOLUTION = 4.0e9
_MATLAB_HEADER_BYTES = 512


@runtime_checkable
class ExportedResult(DrawnResult, Protocol):
    """What the files need of a result: what is drawn, and where it lies."""

    @property
    def origin_px(self) -> Float64[np.ndarray, "2"]: ...


def unwrapped_phase(result: ExportedResult) -> Float32[np.ndarray, "height width"]:
    """Return the phase in radians without its jumps of 2 pi; 0 where the object is hardly illuminated.

    Source: scikit-image's `unwrap_phase`, after M. A. Herráez, D. R. Burton, M. J. Lalor and M. A. Gdeisat,
    Appl. Opt. 41 (2002) 7437, 10.1364/AO.41.007437.
    """
    from skimage.restoration import unwrap_phase

    seen = covered_region(result.coverage)
    masked = np.ma.array(phase_without_ramp(result.object, seen), mask=~seen)
    unwrapped = np.asarray(np.ma.filled(unwrap_phase(masked, rng=0), 0.0), np.float32)
    if seen.any():
        # The unwrapped mean is that of the wrapped phase up to whole turns.
        unwrapped[seen] -= np.float32(2 * np.pi * np.rint(np.median(unwrapped[seen]) / (2 * np.pi)))
    return unwrapped


def write_tiffs(result: ExportedResult, directory: Path) -> dict[str, Path]:
    """Write amplitude, phase and unwrapped phase as 32-bit floats, the pixel size in the tags.

    Returns:
        File name -> path.
    Raises:
        OutputError: the directory cannot be written or the disk is full.
    """
    amplitude = np.abs(result.object).astype(np.float32)
    phase = phase_without_ramp(result.object, covered_region(result.coverage))
    images = (amplitude, phase, unwrapped_phase(result))
    units = ("relative amplitude", "phase in rad", "unwrapped phase in rad")
    files: dict[str, Path] = {}
    for name, image, unit in zip(TIFF_FILES, images, units, strict=True):
        with atomic_path(directory / name) as temporary:
            tifffile.imwrite(temporary, image, metadata=None, **_tags(result, unit))
        files[name] = directory / name
    return files


def _tags(result: ExportedResult, unit: str) -> dict[str, Any]:  # Any: tags of several types
    said = f"{result.scan_name}: {unit}"
    pixel_m = result.pixel_size_m
    if pixel_m is None:
        return {"description": f"{said}; pixel size unknown"}
    high = "" if aspect_of(result) == 1 else f" wide, {pixel_m * aspect_of(result):.6g} m high"
    tags: dict[str, Any] = {"description": f"{said}; pixel {pixel_m:.6g} m{high}"}
    per_cm = 1 / (_CM_PER_M * pixel_m)
    if max(per_cm, per_cm / aspect_of(result)) <= _LARGEST_RESOLUTION:
        tags |= {"resolution": (per_cm, per_cm / aspect_of(result)), "resolutionunit": "CENTIMETER"}
    return tags


def write_mat(result: ExportedResult, directory: Path) -> Path:
    """Write object, probe, positions and lengths as a MATLAB file of version 7.3, which is HDF5.

    MATLAB's `load` gives `object` (H x W), `probe` (N x N x P) and `positions_px` (M x 2), all in (y, x).

    Raises:
        OutputError: the directory cannot be written or the disk is full.
    """
    path = directory / MATLAB_FILE
    values = {
        "probe": np.moveaxis(result.probe, 0, -1),
        "positions_px": result.positions_px,
        "origin_px": result.origin_px[None],
        "pixel_size_m": np.full((1, 1), result.pixel_size_m or np.nan),
        "pixel_aspect": np.full((1, 1), aspect_of(result)),
        "data_residual": np.full((1, 1), result.data_residual),
    }
    # The bytes of complex numbers are those of the pairs under which MATLAB looks for them.
    pairs = np.dtype([("real", np.float32), ("imag", np.float32)])
    told = {"MATLAB_class": np.bytes_("single")}
    image = HdfImage("object", result.object.T, dtype=pairs, attributes=told)
    with written_hdf5(path, head=_matlab_header(), images=(image,)) as file:
        for key, value in values.items():
            _write_matlab_array(file, key, value)
    return path


def _write_matlab_array(file: h5py.File, key: str, value: Complex64[np.ndarray, "..."] | np.ndarray) -> None:
    # MATLAB counts columns first, so that its file has the axes the other way round.
    turned = np.ascontiguousarray(value.T)
    kind = "double" if turned.dtype.itemsize in (8, 16) and turned.dtype.kind != "c" else "single"
    if turned.dtype.kind == "c":
        pairs = np.empty(turned.shape, dtype=[("real", np.float32), ("imag", np.float32)])
        pairs["real"], pairs["imag"] = np.real(turned), np.imag(turned)
        turned = pairs
    file[key] = turned
    file[key].attrs["MATLAB_class"] = np.bytes_(kind)


def _matlab_header() -> bytes:
    text = b"MATLAB 7.3 MAT-file, written by ptycho-core, HDF5 schema 1.00 ."
    about = text.ljust(116) + bytes(8) + b"\x00\x02" + b"IM"
    return about.ljust(_MATLAB_HEADER_BYTES, b"\0")
