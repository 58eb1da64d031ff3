"""PtyLab's HDF5 files: `ptychogram`, `encoder`, `wavelength`, `zo` and `dxd` at the top, all in metres.

`encoder` is (M, 2), (row, column). `orientation` is a number from 0 to 7 as PtyPy counts them: its bits say
whether rows and columns are exchanged (4), then whether rows (2) and columns (1) are mirrored. The fields are
those of L. Loetgering et al., Opt. Express 31, 13763 (2023).
"""

from __future__ import annotations

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io.frame_values import warn
from ptycho_core.io.geometry import FrameGeometry
from ptycho_core.io.hdf5 import Hdf5
from ptycho_core.io.raw_scan import RawScan, RequestedKeys
from ptycho_core.io.units import HC_EV_M
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["matches", "read"]

_FRAMES, _POSITIONS = "ptychogram", "encoder"
#: Ours for each number.
_BY_NUMBER = (
    "as-is",
    "flip-x",
    "flip-y",
    "rotate-180",
    "transpose",
    "rotate-270",
    "rotate-90",
    "anti-transpose",
)


def matches(file: Hdf5) -> bool:
    """Whether frames and positions have the names of PtyLab."""
    return file.dataset(_FRAMES) is not None and file.dataset(_POSITIONS) is not None


def read(file: Hdf5, name: str, keys: RequestedKeys) -> RawScan:
    """Read a scan of conventional ptychography.

    Raises:
        DataError: it is Fourier ptychography, or the positions have another shape.
    """
    if file.dataset("zo") is None and file.dataset("zled") is not None:
        raise DataError(
            f"{file.path.name}: this is Fourier ptychography, an LED for each frame (`zled`, no `zo`). "
            "Expected a scan of a beam over the sample."
        )
    for key, what in (("spectralDensity", "several wavelengths"), ("theta", "a tilted sample")):
        values = file.array(key)
        if values is not None and values.size and (values.size > 1 if key[0] == "s" else values.any()):
            warn(f"{name}: `{key}` says {what}, which is not modelled: one wavelength, sample upright.")
    wavelength = file.length_m("wavelength")
    frames, note = _oriented(file, LazyFrames(file.frames(file.required(keys.frames or _FRAMES))))
    return RawScan(
        name=name,
        format="PtyLab",
        frames=frames,
        positions_px=_positions(file, keys),
        position_unit_m=1.0,
        position_unit_open=False,
        probe=None if keys.probe is None else file.read(file.required(keys.probe)),
        energy_ev=None if wavelength is None else HC_EV_M / wavelength,
        distance_m=file.length_m("zo"),
        detector_pixel_m=file.length_m("dxd"),
        declared_measurement=("counts", "PtyLab's `ptychogram` holds intensities"),
        source=file.path,
        notes=("`encoder` holds the positions, (y, x) in metres, as PtyLab reads them.", *note),
    )


def _positions(file: Hdf5, keys: RequestedKeys) -> np.ndarray:
    key = keys.positions or _POSITIONS
    values = file.read(file.required(key))
    if values.ndim == 2 and values.shape[0] == 2 != values.shape[1]:
        values = values.T  # as MATLAB writes it
    if values.ndim != 2 or values.shape[1] != 2:
        raise DataError(
            f"{file.path.name}: `{key}` has shape {values.shape}. Expected (frames, 2), in metres.",
            finding="DATA-001",
        )
    return values


def _oriented(file: Hdf5, frames: LazyFrames) -> tuple[LazyFrames, tuple[str, ...]]:
    """Turn the frames as the file says."""
    found = file.number("orientation")
    number = 0 if found is None or not np.isfinite(found[0]) else int(found[0])
    _, height, width = frames.shape
    if not 0 < number < len(_BY_NUMBER) or height != width:
        return frames, ()
    turn = FrameGeometry(
        shifted=False,
        top=0,
        left=0,
        side=height,
        rebin=1,
        orientation=_BY_NUMBER[number],
        combine="sum",
    )
    return frames.then(turn), (
        f"The frames were turned ({turn.orientation}), as `orientation` {number} says.",
    )
