"""DATA-001: what comes out of the door is amplitude, float32, centred, in pixels; the rest is refused."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import DataError
from ptycho_core.checks import samples
from ptycho_core.io import open_scan, scan_from_arrays
from ptycho_core.scan import Scan

__all__ = ["scans_are_checked_at_the_door"]

FINDING = "DATA-001"


def scans_are_checked_at_the_door() -> Evidence:
    """Open one scan stored in three ways, and several that are none.

    Raises:
        CheckError: DATA-001 does not hold.
    """
    counts = samples.counts()
    root = np.sqrt(counts.astype(np.float64)).astype(np.float32)
    stored = {
        "counts, zero frequency in the centre": counts,
        "counts, zero frequency in the corner": np.fft.ifftshift(counts, axes=(1, 2)),
        "amplitude, zero frequency in the centre": root,
    }
    for what, frames in stored.items():
        scan = _open(frames)
        amplitude = scan.amplitude()
        kind = amplitude.dtype.name
        demand(kind == "float32", FINDING, f"{what}: the amplitude is {kind}", "float32")
        same = np.allclose(amplitude, root, rtol=1e-6, atol=0)
        demand(same, FINDING, f"{what}: the amplitude is another", "the centred square root of the counts")
        kind = scan.positions_px.dtype.name
        demand(kind == "float64", FINDING, f"{what}: positions are {kind}", "float64")
        demand(
            np.array_equal(scan.positions_px, samples.positions_px()), FINDING, f"{what}: they moved", "px"
        )
    return {
        "read alike": "; ".join(stored),
        "amplitude": "float32, sqrt of counts, centred",
        "positions": "float64, pixels",
        "refused": ", ".join(_refusals(counts, root)),
        "left out": ", ".join(_left_out(counts, root)),
    }


def _open(frames: np.ndarray, **more: Any) -> Scan:
    arrays = {"positions_px": samples.positions_px(), "probe": samples.probe(), **more}
    return scan_from_arrays(frames, **arrays)


def _refusals(counts: np.ndarray, root: np.ndarray) -> list[str]:
    attempts = {
        "positions in metres": lambda: _open(counts, positions_px=1e-9 * samples.positions_px()),
        "positions that are all NaN": lambda: _open(counts, positions_px=np.nan * samples.positions_px()),
        "complex diffraction": lambda: _open(counts.astype(np.complex64)),
        "frames that are infinite everywhere": lambda: _open(np.full_like(root, np.inf)),
        "negative amplitudes": lambda: _open(-root, measurement="amplitude"),
        "frames without any light": lambda: _open(np.zeros_like(counts)),
        "pickled arrays": _open_a_pickle,
    }
    for what, attempt in attempts.items():
        refused(FINDING, DataError, what, attempt)
    return list(attempts)


def _left_out(counts: np.ndarray, root: np.ndarray) -> list[str]:
    """See that frames and pixels that are no data are left out with a warning, and the rest is read."""
    lost = samples.positions_px()
    lost[4] = np.nan
    struck = root.copy()
    struck[2, 3, 3] = np.inf
    attempts = {
        "a frame without a position": lambda: _open(counts, positions_px=lost),
        "an infinite value": lambda: _open(struck),
    }
    for what, attempt in attempts.items():
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            scan = attempt()
        told = any(getattr(warning.message, "finding", None) == FINDING for warning in heard)
        demand(told, FINDING, f"{what} brought no warning", "a warning that names it")
        without = scan.n_frames == len(counts) - 1 if "position" in what else scan.bad_pixels is not None
        demand(without, FINDING, f"{what} is still there", "left out")
    return list(attempts)


def _open_a_pickle() -> None:
    """Open an NPZ whose diffraction is declared as Python objects, the form in which NumPy keeps pickles."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pickled.npz"
        header = {"descr": "|O", "fortran_order": False, "shape": (9,)}
        with zipfile.ZipFile(path, "w") as archive:
            with archive.open("diff3d.npy", "w") as member:
                np.lib.format.write_array_header_1_0(member, header)
                member.write(b"\x80\x04N.")
            for name, array in (("positions", samples.positions_px()), ("probe", samples.probe())):
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        open_scan(path)
