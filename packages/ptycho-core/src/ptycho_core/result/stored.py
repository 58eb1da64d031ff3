"""What a file holds of a result, under which keys, and the way back to the fields of a `Reconstruction`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.files import is_file
from ptycho_core.io.npz import Archive
from ptycho_core.io.recognise import one_line
from ptycho_core.result.history import HISTORY_COLUMNS, history_row, history_table
from ptycho_core.result.verdict import Verdict

__all__ = [
    "JUDGEMENT_KEYS",
    "OPTIONAL_KEYS",
    "PHYSICAL_KEYS",
    "RECONSTRUCTION_FILE",
    "RECONSTRUCTION_KEYS",
    "UNCERTAINTY_KEYS",
    "fields_of_file",
]

RECONSTRUCTION_FILE = "reconstruction.npz"
#: Results in HDF5, ours and those of other programs.
PRODUCT_SUFFIXES = (".h5", ".hdf5", ".ptyr")
#: Keys of `reconstruction.npz`: name -> (shape, dtype, meaning and unit).
RECONSTRUCTION_KEYS: Mapping[str, tuple[str, str, str]] = {
    "object": ("(H, W)", "complex64", "object on the canvas; 1 where no frame looks"),
    "probe": ("(P, N, N)", "complex64", "probe modes; |orthonormal FFT of probe x object|^2 is in counts"),
    "origin_px": ("(2,)", "float64", "scan coordinate (y, x) of the centre of canvas pixel [0, 0]"),
    "positions_px": (
        "(M, 2)",
        "float64",
        "scan coordinate (y, x) of index N/2 of each frame's window; NaN where the file has none",
    ),
    "coverage": ("(H, W)", "float32", "light that each canvas pixel got, relative to its maximum; 0 = none"),
    "residual_per_frame": (
        "(M,)",
        "float32",
        "data residual of each frame; NaN for a frame without counts, or not used",
    ),
    "data_residual": ("()", "float64", "data residual R of the whole scan"),
}
#: Keys that are there only where there is something to say.
OPTIONAL_KEYS: Mapping[str, tuple[str, str, str]] = {
    "positions_given_px": (
        "(M, 2)",
        "float64",
        "`positions_px` as they were given, where they were corrected",
    ),
    "frame_intensity": (
        "(M,)",
        "float64",
        "intensity of each frame relative to the mean, where it was found",
    ),
}
#: Keys of `--uncertainty true`.
UNCERTAINTY_KEYS: Mapping[str, tuple[str, str, str]] = {
    "amplitude_std": (
        "(H, W)",
        "float32",
        "standard deviation of the object's amplitude; NaN where it is not illuminated",
    ),
    "phase_std_rad": ("(H, W)", "float32", "standard deviation of the object's phase in rad; NaN likewise"),
}
#: Keys that are written with every result, and made up when a result of an earlier version is read.
JUDGEMENT_KEYS: Mapping[str, tuple[str, str, str]] = {
    "frames_used": ("(M,)", "bool", "whether the frame was used: its weight is not 0"),
    "frame_weight": ("(M,)", "float32", "weight of the frame in the fit: 1 fully, 0 left out"),
    "bad_pixels": ("(N, N)", "bool", "pixels left out of all frames, zero frequency in the centre"),
}
PHYSICAL_KEYS = ("pixel_size_m", "energy_ev", "distance_m")


def fields_of_file(path: Path) -> dict[str, Any]:
    """Read the fields of a `Reconstruction` from a file, or from the directory that holds one.

    Raises:
        DataError: there is no such file, or it is no result; says what is missing.
    """
    file = path
    with suppress(OSError, ValueError):  # a name that no system takes
        file = path / RECONSTRUCTION_FILE if path.is_dir() else path
    if not is_file(file):
        raise DataError(
            f"{one_line(str(file))}: no such file. Expected a `{RECONSTRUCTION_FILE}` or the directory that "
            "holds one; `ptycho reconstruct SCAN` writes it."
        )
    if file.suffix in PRODUCT_SUFFIXES:
        return _fields_of_product(file)
    try:
        archive = Archive(file, cure="Reconstruct the scan again.")
        arrays = {key: np.array(archive.read(key, image=True), order="K") for key in archive.members}
    except MemoryError as error:
        raise DataError(f"{file}: not enough memory to read the result.") from error
    missing = sorted(set(RECONSTRUCTION_KEYS) - set(arrays))
    if missing:
        raise DataError(
            f"{file}: the keys {', '.join(missing)} are missing "
            f"(found: {', '.join(sorted(arrays)) or 'none'}). "
            "Expected a result written by `ptycho reconstruct`."
        )
    return _fields_of_arrays(file, arrays)


def _fields_of_product(path: Path) -> dict[str, Any]:
    """Return the fields that a product file or PtyPy's `.ptyr` tells."""
    from ptycho_core.io.product import read_product
    from ptycho_core.physics.canvas import coverage_of
    from ptycho_core.physics.forward import whole_and_rest

    product = read_product(path)
    frame_px = product.probe.shape[-1]
    on_canvas = product.positions_px - product.origin_px
    corners, _ = whole_and_rest(on_canvas - frame_px // 2)
    last = np.array(product.obj.shape) - frame_px
    inside = ((corners >= 0) & (corners <= last)).all(axis=1)
    if not inside.any():
        raise DataError(
            f"{path.name}: no window of {frame_px} pixels lies on its object of "
            f"{product.obj.shape}. Expected a result with its positions."
        )
    return {
        "object": product.obj,
        "probe": product.probe,
        "origin_px": product.origin_px,
        "positions_px": product.positions_px,
        "coverage": coverage_of(product.probe, corners[inside], product.obj.shape),
        "residual_per_frame": np.full(len(on_canvas), np.nan, np.float32),
        "data_residual": math.nan,
        "method": "of another program",
        "scan_name": product.name,
        "image_reliable": False,
        "pixel_size_m": product.pixel_size_m,
        "pixel_aspect": product.pixel_aspect,
        "energy_ev": product.energy_ev,
        "distance_m": product.distance_m,
    }


def _fields_of_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the fields that the arrays of `reconstruction.npz` tell, if they fit together."""
    probe, positions = arrays["probe"], arrays["positions_px"]
    shapes_fit = (
        arrays["object"].ndim == 2
        and arrays["coverage"].shape == arrays["object"].shape
        and probe.ndim == 3
        and probe.shape[1] == probe.shape[2]
        and positions.ndim == 2
        and positions.shape[1] == 2
        and arrays["origin_px"].shape == (2,)
        and arrays.get("positions_given_px", positions).shape == positions.shape
        and arrays.get("frame_intensity", positions[:, 0]).shape == positions.shape[:1]
        and arrays.get("frame_weight", positions[:, 0]).shape == positions.shape[:1]
        and arrays.get("bad_pixels", probe[0]).shape == probe.shape[1:]
        and all(arrays.get(key, arrays["object"]).shape == arrays["object"].shape for key in UNCERTAINTY_KEYS)
        and arrays.get("history", np.empty((0, len(HISTORY_COLUMNS)))).shape[1:] == (len(HISTORY_COLUMNS),)
    )
    if not shapes_fit:
        found = ", ".join(f"{key} {arrays[key].shape}" for key in RECONSTRUCTION_KEYS)
        raise DataError(f"{file}: the arrays do not fit together ({found}). Reconstruct the scan again.")
    history = arrays.get("history", history_table(()))
    physical: dict[str, Any] = {key: _known(arrays.get(key)) for key in PHYSICAL_KEYS}
    return dict(
        object=arrays["object"].astype(np.complex64, copy=False),
        probe=probe.astype(np.complex64, copy=False),
        origin_px=arrays["origin_px"].astype(np.float64, copy=False),
        positions_px=positions.astype(np.float64, copy=False),
        coverage=arrays["coverage"].astype(np.float32, copy=False),
        residual_per_frame=arrays["residual_per_frame"].astype(np.float32, copy=False),
        data_residual=float(arrays["data_residual"]),
        method=one_line(str(arrays.get("method", "unknown"))),
        scan_name=one_line(str(arrays.get("scan_name", file.stem))),
        history=tuple(history_row(row) for row in history),
        interrupted=bool(arrays.get("interrupted", False)),
        pixel_aspect=float(arrays.get("pixel_aspect", 1.0)),
        image_reliable=bool(arrays.get("image_reliable", True)),
        dose_carries_image=bool(arrays.get("dose_carries_image", arrays.get("image_reliable", True))),
        **{key: arrays[key].astype(np.float64, copy=False) for key in OPTIONAL_KEYS if key in arrays},
        **{key: arrays[key].astype(np.float32, copy=False) for key in UNCERTAINTY_KEYS if key in arrays},
        verdict=_verdict_of(arrays.get("verdict")),
        frame_weight=_unless_all(arrays.get("frame_weight"), 1.0, np.float32),
        bad_pixels=_unless_all(arrays.get("bad_pixels"), False, np.bool_),
        **physical,
    )


def _verdict_of(text: np.ndarray | None) -> Verdict | None:
    """Return the verdict of a file; None where it has none, or one that cannot be read."""
    try:
        return None if text is None else Verdict.of_record(json.loads(str(text)))
    except ValueError:
        return None


def _unless_all(array: np.ndarray | None, usual: object, dtype: type[np.generic]) -> np.ndarray | None:
    """Return the array, or None where it says no more than None would."""
    return None if array is None or (array == usual).all() else array.astype(dtype, copy=False)


def _known(value: np.ndarray | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
