"""What a file holds of a result, under which keys, and the way back to the fields of a `Reconstruction`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import one_line, plain
from ptycho_core.files import is_file
from ptycho_core.io.npz import Archive
from ptycho_core.result.checked import check_arrays, check_fields
from ptycho_core.result.history import HISTORY_COLUMNS, history_row, history_table
from ptycho_core.result.stored_tiles import RECONSTRUCTION_FILE, StoredTiles, Window, holds_tiles
from ptycho_core.result.verdict import Verdict

__all__ = [
    "JUDGEMENT_KEYS",
    "OPTIONAL_KEYS",
    "PHYSICAL_KEYS",
    "RECONSTRUCTION_FILE",
    "RECONSTRUCTION_KEYS",
    "UNCERTAINTY_KEYS",
    "fields_of_file",
    "fields_of_tiles",
    "holds_result",
]

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
    "probe_variations": (
        "(P, L, N, N)",
        "complex64",
        "OPR modes: what frames add to the probe, in its units, where it varies",
    ),
    "variation_weights": ("(M, L)", "float64", "weights of the OPR modes in each frame; NaN where not used"),
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
#: Key -> shape and dtype, of everything that a file may hold; letters of shapes are bound in this order.
_FORMS: Mapping[str, tuple[str, str]] = {
    **{
        key: (shape, dtype)
        for table in (RECONSTRUCTION_KEYS, OPTIONAL_KEYS, UNCERTAINTY_KEYS, JUDGEMENT_KEYS)
        for key, (shape, dtype, _) in table.items()
    },
    "history": (f"(E, {len(HISTORY_COLUMNS)})", "float64"),
    **dict.fromkeys(("interrupted", "image_reliable", "dose_carries_image"), ("()", "bool")),
    **dict.fromkeys((*PHYSICAL_KEYS, "pixel_aspect"), ("()", "float64")),
    **dict.fromkeys(("method", "scan_name", "verdict"), ("()", "str")),
}
_LONGEST_NAME = 200
_LARGEST_COUNT = 1e15


def fields_of_file(path: Path) -> dict[str, Any]:
    """Read the fields of a `Reconstruction` from a file, or from the directory that holds one.

    Raises:
        DataError: there is no such file, or it is no result; says what is missing.
    """
    if holds_tiles(path):
        return fields_of_tiles(StoredTiles(path))
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
    return _fields_of_arrays(file, arrays)


def holds_result(directory: Path) -> bool:
    """Whether a directory holds a result, or a state on the way to one."""
    return is_file(directory / RECONSTRUCTION_FILE) or holds_tiles(directory)


def fields_of_tiles(tiles: StoredTiles, window: Window | None = None) -> dict[str, Any]:
    """Read the fields of a `Reconstruction` from the tiles of several ranks.

    Args:
        window: rows and columns of the canvas to which object and coverage are cut.

    Raises:
        DataError: they are no result; says what is missing.
    """
    try:
        return _fields_of_arrays(tiles.file, tiles.arrays(window), whole=window is None)
    except MemoryError as error:
        raise DataError(f"{tiles.file}: not enough memory to read the result.") from error


def _fields_of_product(path: Path) -> dict[str, Any]:
    """Return the fields that a product file or PtyPy's `.ptyr` tells."""
    from ptycho_core.io.product import read_product
    from ptycho_core.physics.canvas import coverage_of
    from ptycho_core.physics.forward import whole_and_rest

    product = read_product(path)
    known: dict[str, Any] = {
        "object": product.obj,
        "probe": product.probe,
        "origin_px": product.origin_px,
        "positions_px": product.positions_px,
    }
    if product.frame_intensity is not None:
        known["frame_intensity"] = product.frame_intensity
    if product.variations is not None:
        known["probe_variations"] = product.variations.shapes
        known["variation_weights"] = product.variations.weights
    check_arrays(path, known, _FORMS)
    check_fields(path, known)
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
    return known | {
        "coverage": coverage_of(product.probe, corners[inside], product.obj.shape),
        "residual_per_frame": np.full(len(on_canvas), np.nan, np.float32),
        "data_residual": math.nan,
        "method": "of another program",
        "scan_name": plain(product.name)[:_LONGEST_NAME],
        "image_reliable": False,
        "pixel_size_m": product.pixel_size_m,
        "pixel_aspect": product.pixel_aspect,
        "energy_ev": product.energy_ev,
        "distance_m": product.distance_m,
    }


def _fields_of_arrays(file: Path, arrays: Mapping[str, np.ndarray], *, whole: bool = True) -> dict[str, Any]:
    """Return the fields that the arrays of `reconstruction.npz` tell, if they fit together.

    Args:
        whole: the object is no part of one, on which not every frame lies.
    """
    missing = sorted(set(RECONSTRUCTION_KEYS) - set(arrays))
    if missing:
        raise DataError(
            f"{file}: the keys {', '.join(missing)} are missing "
            f"(found: {', '.join(sorted(arrays)) or 'none'}). "
            "Expected a result written by `ptycho reconstruct`."
        )
    check_arrays(file, arrays, _FORMS)
    probe, positions = arrays["probe"], arrays["positions_px"]
    history = arrays.get("history", history_table(()))
    physical: dict[str, Any] = {key: _known(arrays.get(key)) for key in PHYSICAL_KEYS}
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
        fields: dict[str, Any] = dict(
            object=arrays["object"].astype(np.complex64, copy=False),
            probe=probe.astype(np.complex64, copy=False),
            origin_px=arrays["origin_px"].astype(np.float64, copy=False),
            positions_px=positions.astype(np.float64, copy=False),
            coverage=arrays["coverage"].astype(np.float32, copy=False),
            residual_per_frame=arrays["residual_per_frame"].astype(np.float32, copy=False),
            data_residual=float(arrays["data_residual"]),
            method=_name(arrays.get("method", "unknown")),
            scan_name=_name(arrays.get("scan_name", file.stem)),
            history=tuple(_epochs(file, history)),
            interrupted=bool(arrays.get("interrupted", False)),
            pixel_aspect=float(arrays.get("pixel_aspect", 1.0)),
            image_reliable=bool(arrays.get("image_reliable", True)),
            dose_carries_image=bool(arrays.get("dose_carries_image", arrays.get("image_reliable", True))),
            **{
                key: arrays[key].astype(dtype, copy=False)
                for key, (_, dtype, _) in OPTIONAL_KEYS.items()
                if key in arrays
            },
            **{key: arrays[key].astype(np.float32, copy=False) for key in UNCERTAINTY_KEYS if key in arrays},
            verdict=_verdict_of(arrays.get("verdict")),
            frame_weight=_unless_all(arrays.get("frame_weight"), 1.0, np.float32),
            bad_pixels=_unless_all(arrays.get("bad_pixels"), False, np.bool_),
            **physical,
        )
    check_fields(file, fields, whole=whole)
    return fields


def _epochs(file: Path, history: np.ndarray) -> Iterator[dict[str, Any]]:
    """Return the rows of the history; what is not known of an epoch may only be its residual.

    Raises:
        DataError: a number of an epoch is none.
    """
    known = np.delete(history, HISTORY_COLUMNS.index("residual"), axis=1)
    if not (np.abs(known) < _LARGEST_COUNT).all() or np.isinf(history).any():
        raise DataError(f"{file}: `history` holds what is no number. Reconstruct the scan again.")
    return (history_row(row) for row in history)


def _name(text: np.ndarray | str) -> str:
    """Return a name as plain text that fits on a line."""
    value = text if isinstance(text, str) else text.item()
    return plain(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)[:_LONGEST_NAME]


def _verdict_of(text: np.ndarray | None) -> Verdict | None:
    """Return the verdict of a file; None where it has none, or one that cannot be read."""
    try:
        return None if text is None else Verdict.of_record(json.loads(str(text)))
    except (ValueError, RecursionError):
        return None


def _unless_all(array: np.ndarray | None, usual: object, dtype: type[np.generic]) -> np.ndarray | None:
    """Return the array, or None where it says no more than None would."""
    return None if array is None or (array == usual).all() else array.astype(dtype, copy=False)


def _known(value: np.ndarray | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
