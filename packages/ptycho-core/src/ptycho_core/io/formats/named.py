"""HDF5 with no format of its own: frames, positions and probe under known or given names."""

from __future__ import annotations

import h5py
import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io.hdf5 import Hdf5, unit_of
from ptycho_core.io.layout import require_real_numbers
from ptycho_core.io.raw_scan import (
    INTENSITIES,
    FoundPositions,
    RawScan,
    RequestedKeys,
    declared_by_name,
)
from ptycho_core.io.units import length_factor
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["find_frames", "find_positions", "find_probe", "matches", "read"]

FRAMES = ("diff3d", "diffraction", *INTENSITIES, "data", "frames", "exchange/data", "fmag")
PAIRS = (
    ("ycoords", "xcoords", None),
    ("probe_position_y_m", "probe_position_x_m", 1.0),
    ("ppY", "ppX", 1.0),
    ("positions_y", "positions_x", None),
    ("position_y", "position_x", None),
    ("pos_y", "pos_x", None),
    ("y", "x", None),
)
TOGETHER = (("positions_px", None), ("positions", None), ("scan", None))
PROBE = ("probeGuess", "probe", "illumination")
#: Any value but 0 is a bad pixel.
BAD_PIXELS = ("bad_pixels", "pixel_mask", "mask")
GROUND_TRUTH = "objectGuess"
PIXELS = ("pixel", "pixels", "px")


def matches(file: Hdf5) -> bool:
    """Take any file: this is the last resort."""
    return True


def read(file: Hdf5, name: str, keys: RequestedKeys) -> RawScan:
    """Read a scan by names.

    Raises:
        DataError: something has no known name and no given one; lists what is there.
    """
    frames = find_frames(file, keys)
    positions = find_positions(file, keys, "")
    bad = next((one for one in map(file.array, BAD_PIXELS) if one is not None), None)
    if bad is not None:
        require_real_numbers(bad, file.path.name, "the mask of pixels")
    return RawScan(
        name=name,
        format="HDF5",
        frames=LazyFrames(file.frames(frames)),
        declared_measurement=declared_by_name(str(frames.name)),
        positions_px=None if positions is None else positions.values,
        position_unit_m=None if positions is None else positions.unit_m,
        position_unit_open=positions is None or positions.open,
        probe=find_probe(file, keys),
        bad_pixels=None if bad is None else bad != 0,
        ground_truth=file.array(GROUND_TRUTH),
        energy_ev=file.energy_ev("energy_ev", "energy"),
        distance_m=file.length_m("distance_m", "distance"),
        detector_pixel_m=file.length_m("detector_pixel_m", "psize"),
        pixel_size_m=file.length_m("pixel_size_m"),
        source=file.path,
        notes=(f"The frames are `{frames.name}`.", *(() if positions is None else (positions.note,))),
    )


def find_frames(file: Hdf5, keys: RequestedKeys, group: str = "") -> h5py.Dataset:
    """Find the stack of frames: the one that was named, one of a known name, or the only one of rank 3.

    Raises:
        DataError: there is none, or there are several.
    """
    if keys.frames is not None:
        return file.required(keys.frames)
    for known in FRAMES:
        item = file.dataset(f"{group}{known}")
        if item is not None and item.ndim >= 3:
            return item
    stacks = {
        key: item for key, item in file.datasets().items() if item.ndim >= 3 and item.dtype.kind in "biuf"
    }
    if len(stacks) == 1:
        return next(iter(stacks.values()))
    said = "no stack of frames" if not stacks else f"{len(stacks)} arrays that could be the frames"
    raise DataError(f"{file.path.name}: {said} was found. {file.listing()}", finding="DATA-001")


def find_positions(file: Hdf5, keys: RequestedKeys, group: str) -> FoundPositions | None:
    """Find the positions: those that were named, or of a known name in a group. None where there are none."""
    if keys.positions is not None:
        return _named_positions(file, keys.positions)
    for y_key, x_key, unit_m in PAIRS:
        y, x = file.dataset(group + y_key), file.dataset(group + x_key)
        if y is not None and x is not None:
            return _pair(file, y, x, unit_m)
    for key, unit_m in TOGETHER:
        item = file.dataset(group + key)
        if item is not None and item.ndim >= 2:
            return _together(file, item, unit_m)
    return None


def find_probe(file: Hdf5, keys: RequestedKeys, group: str = "") -> np.ndarray | None:
    """Read the probe that was named, or one of a known name; None where there is none."""
    if keys.probe is not None:
        return file.read(file.required(keys.probe))
    for key in PROBE:
        item = file.dataset(group + key)
        if item is not None and item.ndim >= 2:
            return file.read(item)
    return None


def _named_positions(file: Hdf5, key: str) -> FoundPositions:
    parts = [part.strip() for part in key.split(",") if part.strip()]
    items = [file.required(part) for part in parts]
    if len(items) == 1:
        return _together(file, items[0], None)
    if len(items) != 2:
        raise DataError(
            f"{file.path.name}: `--positions-key` names {len(items)} data sets. Expected one of (y, x) "
            "pairs, or two: that of y, a comma, that of x."
        )
    return _pair(file, items[0], items[1], None)


def _pair(file: Hdf5, y: h5py.Dataset, x: h5py.Dataset, unit_m: float | None) -> FoundPositions:
    y_values, x_values = file.read(y), file.read(x)
    for item, values in ((y, y_values), (x, x_values)):
        if values.dtype.kind not in "iuf":
            raise DataError(f"{file.path.name}: `{item.name}` is {values.dtype}. Expected real numbers.")
    unit_m, open_, said = _unit(unit_of(y), unit_m)
    if _are_axes(file, y_values, x_values):
        if file.columns_first:  # the raster is stored one column after the other
            rows, columns = np.meshgrid(y_values.reshape(-1), x_values.reshape(-1))
        else:
            columns, rows = np.meshgrid(x_values, y_values)
        values = np.stack([rows.reshape(-1), columns.reshape(-1)], axis=1)
        note = f"`{y.name}` (y) and `{x.name}` (x) are the axes of a raster, {said}."
        return FoundPositions(values, unit_m, open_, note)
    if y_values.size != x_values.size:
        raise DataError(
            f"{file.path.name}: `{y.name}` {y_values.shape} and `{x.name}` {x_values.shape} differ. Expected "
            "one number per frame in each.",
            finding="DATA-001",
        )
    values = np.stack([y_values.reshape(-1), x_values.reshape(-1)], axis=1)
    return FoundPositions(
        values, unit_m, open_, f"The positions are `{y.name}` (y) and `{x.name}` (x), {said}."
    )


def _are_axes(file: Hdf5, y: np.ndarray, x: np.ndarray) -> bool:
    """Whether y and x are the rows and columns of a raster of frames in the file, one value for each."""
    if max(y.ndim, x.ndim) > 1 and not file.columns_first:  # MATLAB has no arrays of rank 1
        return False
    if max(y.shape, default=0) != y.size or max(x.shape, default=0) != x.size or min(y.size, x.size) < 2:
        return False
    raster = (x.size, y.size) if file.columns_first else (y.size, x.size)
    return any(item.ndim == 4 and item.shape[:2] == raster for item in file.datasets().values())


def _together(file: Hdf5, item: h5py.Dataset, unit_m: float | None) -> FoundPositions:
    values = file.read(item)
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 2 and values.shape[0] == 2 and values.shape[1] != 2:
        values = values.T
    unit_m, open_, said = _unit(unit_of(item), unit_m)
    return FoundPositions(
        values, unit_m, open_, f"The positions are `{item.name}`, taken for (y, x), {said}."
    )


def _unit(said: str | None, unit_m: float | None) -> tuple[float | None, bool, str]:
    """Return metres in the unit, whether small numbers may be metres, and a phrase."""
    factor = length_factor(said)
    if factor is not None:
        return factor, False, f"in {said} as the file says"
    if said is not None and said.strip().lower() in PIXELS:
        return None, False, "in pixels as the file says"
    if unit_m is not None:
        return unit_m, False, "in metres as its name implies"
    return None, True, "without a unit"
