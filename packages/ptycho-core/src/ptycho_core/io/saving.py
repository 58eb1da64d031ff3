"""`save_scan`: a scan as an NPZ that `open_scan` reads back equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy import fft

from ptycho_core.files import jsonable, write_npz
from ptycho_core.given import expect, expect_path
from ptycho_core.scan import Scan

SCHEMA_VERSION = "1.0.0"


def save_scan(
    scan: Scan,
    path: str | Path,
    *,
    measurement: Literal["keep", "amplitude"] = "keep",
    compressed: bool = False,
) -> Path:
    """Write a scan under the keys of docs/reference/scan-format.md, DC in the centre.

    Args:
        path: the file, under exactly this name.
        measurement: "keep" stores counts as counts, in their own type, so that nothing is lost; "amplitude"
            stores their square root in float32, which is what programs without a rule for counts expect.
        compressed: smaller, but unpacked into memory when it is opened.

    Raises:
        OutputError: the file could not be written. TypeError: there is no scan to write, or no path.
    """
    import json

    expect(scan, Scan, "save_scan", "a Scan; `open_scan(FILE)` returns one")
    expect_path(path, "save_scan", "a file")
    positions_px = np.ascontiguousarray(scan.positions_px)
    x, y = positions_px[:, 1].copy(), positions_px[:, 0].copy()
    as_amplitude = measurement == "amplitude"
    arrays: dict[str, np.ndarray] = {
        "diff3d": scan.amplitude() if as_amplitude else _centred(scan),
        "xcoords": x,
        "ycoords": y,
        "xcoords_start": x,
        "ycoords_start": y,
        "scan_index": np.zeros(scan.n_frames, dtype=np.int64),
    }
    if scan.probe_source != "estimated":
        arrays["probeGuess"] = scan.probe if scan.probe.shape[0] > 1 else scan.probe[0]
    if scan.ground_truth is not None:
        arrays["objectGuess"] = scan.ground_truth
    if scan.patch_truth is not None:
        arrays["Y"] = scan.patch_truth
    if scan.bad_pixels is not None:
        arrays["bad_pixels"] = scan.bad_pixels
    said = "amplitude" if as_amplitude else scan.measurement
    arrays["_metadata"] = np.array(json.dumps(jsonable(_metadata(scan, said))))
    return write_npz(path, arrays, compressed=compressed)


def _centred(scan: Scan) -> np.ndarray:
    frames = np.asarray(scan.frames)
    return fft.fftshift(frames, axes=(-2, -1)) if scan.dc == "corner" else frames


def _metadata(scan: Scan, measurement: str) -> dict[str, Any]:  # Any: the scan's own metadata, whatever it is
    known = {
        "N": scan.frame_px,
        "measurement": measurement,
        "dc": "center",
        "position_convention": "index",
        "nphotons": scan.nphotons,
        "pixel_size_m": scan.pixel_size_m,
        "pixel_aspect": None if scan.pixel_aspect == 1 else scan.pixel_aspect,
        "energy_ev": scan.energy_ev,
        "distance_m": scan.distance_m,
    }
    own = dict(scan.metadata)
    physical = own.get("physics_parameters")
    physical = dict(physical) if isinstance(physical, dict) else {}
    return {
        "data_transformations": list(scan.notes),
        **own,
        "schema_version": SCHEMA_VERSION,
        "physics_parameters": physical | {key: value for key, value in known.items() if value is not None},
    }
