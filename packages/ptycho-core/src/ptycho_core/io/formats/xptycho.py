"""The HDF5 files of xptycho: a group `scan` with `frames`, `positions` and what the instrument is.

Frames are intensities. Positions are (row, column) of the probe's centre in metres; wavelength, distance and
pixel of the detector are attributes of the group, in metres too.
"""

from __future__ import annotations

import h5py
import numpy as np

from ptycho_core.io.formats.named import find_positions
from ptycho_core.io.hdf5 import Hdf5
from ptycho_core.io.raw_scan import RawScan, RequestedKeys
from ptycho_core.io.units import HC_EV_M
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["matches", "read"]

_GROUP = "scan"


def matches(file: Hdf5) -> bool:
    """Whether the group is there, and says what xptycho says of a detector."""
    group = file.group(_GROUP)
    return group is not None and "detector_pitch" in group.attrs and file.dataset("scan/frames") is not None


def read(file: Hdf5, name: str, keys: RequestedKeys) -> RawScan:
    """Read the group; the probe, where the file holds a sample too, is only taken when it is named."""
    group = file.group(_GROUP)
    wavelength = _length(group, "wavelength")
    key = keys.positions or f"{_GROUP}/positions"
    positions = None if keys.positions_elsewhere else find_positions(file, RequestedKeys(positions=key), "")
    return RawScan(
        name=name,
        format="xptycho",
        frames=LazyFrames(file.frames(file.required(keys.frames or f"{_GROUP}/frames"))),
        positions_px=None if positions is None else positions.values,
        position_unit_m=1.0 if positions is None or positions.unit_m is None else positions.unit_m,
        position_unit_open=False,
        probe=None if keys.probe is None else file.read(file.required(keys.probe)),
        energy_ev=None if wavelength is None else HC_EV_M / wavelength,
        distance_m=_length(group, "detector_distance"),
        detector_pixel_m=_length(group, "detector_pitch"),
        declared_measurement=("counts", "xptycho stores intensities"),
        source=file.path,
        notes=() if positions is None else (f"The positions are `{key}`, (y, x) in metres.",),
    )


def _length(group: h5py.Group | None, key: str) -> float | None:
    value = None if group is None else group.attrs.get(key)
    if value is None or np.size(value) != 1:
        return None
    number = np.asarray(value).reshape(-1)[0]
    usable = np.issubdtype(np.asarray(number).dtype, np.number) and np.isfinite(number) and number > 0
    return float(number) if usable else None
