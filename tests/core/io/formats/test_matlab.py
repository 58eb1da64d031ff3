"""MATLAB's files of both kinds, with frames first or last, one row of them or a raster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from ptycho_config.errors import DataError
from ptycho_core import Scan, open_scan

ROWS, COLUMNS = 5, 6
STEP = (3.0, 4.0)

Write = Callable[..., Path]


def by_scipy(path: Path, **variables: Any) -> Path:
    scipy.io.savemat(path, variables, do_compression=True)
    return path


def by_matlab(path: Path, **variables: Any) -> Path:
    """The same, with the first line that MATLAB writes."""
    scipy.io.savemat(path, variables)
    content = path.read_bytes()
    path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(116) + content[116:])
    return path


def by_matlab_73(path: Path, **variables: Any) -> Path:
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in variables.items():
            file[key] = np.atleast_2d(value).T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(512))
    return path


def in_order(scan: Scan) -> np.ndarray:
    """The counts by rows, then columns, of the positions."""
    places = np.round(scan.positions_px - scan.positions_px.min(axis=0), 6)
    return np.asarray(scan.counts())[np.lexsort((places[:, 1], places[:, 0]))]


@pytest.fixture
def raster(original: Any) -> np.ndarray:
    """(rows, columns, N, N), no pattern its own mirror image."""
    return original.counts[: ROWS * COLUMNS].reshape(ROWS, COLUMNS, *original.counts.shape[1:])


@pytest.mark.parametrize("write", [by_scipy, by_matlab, by_matlab_73])
@pytest.mark.parametrize("frames_first", [False, True])
def test_frames_may_be_first_or_last(
    original: Any, tmp_path: Path, write: Write, *, frames_first: bool
) -> None:
    frames = original.counts if frames_first else np.moveaxis(original.counts, 0, 2)
    probe = original.probe.reshape(-1, *original.counts.shape[1:])[0]
    path = write(tmp_path / "scan.mat", diff3d=frames, positions=original.positions_px, probe=probe)
    scan = open_scan(path, bad_frames="off")
    np.testing.assert_array_equal(scan.counts(), original.counts)
    np.testing.assert_allclose(scan.positions_px, original.positions_px)
    np.testing.assert_array_equal(scan.probe[0], probe)


@pytest.mark.parametrize("write", [by_scipy, by_matlab, by_matlab_73])
@pytest.mark.parametrize("positions", ["step", "axes", "grids"])
def test_a_raster_keeps_its_rows_and_columns(
    raster: np.ndarray, tmp_path: Path, write: Write, positions: str
) -> None:
    y, x = np.mgrid[:ROWS, :COLUMNS] * np.array(STEP)[:, None, None]
    where: dict[str, Any] = {"step": {}, "axes": {"y": y[:, 0], "x": x[0]}, "grids": {"y": y, "x": x}}
    # By Python as (rows, columns, N, N); MATLAB has the pixels first.
    frames = raster if write is by_scipy and positions == "step" else raster.transpose(2, 3, 0, 1)
    path = write(tmp_path / "scan.mat", data=frames, **where[positions])
    step = {"scan_step": "3,4"} if positions == "step" else {}
    scan = open_scan(path, bad_frames="off", **step)  # type: ignore[arg-type]
    np.testing.assert_array_equal(in_order(scan), raster.reshape(-1, *raster.shape[2:]))


@pytest.mark.parametrize("write", [by_scipy, by_matlab, by_matlab_73])
def test_masks_and_positions_of_their_own_are_turned_as_the_frames_are(
    original: Any, tmp_path: Path, write: Write
) -> None:
    bad = np.zeros(original.counts.shape[1:], np.uint8)
    bad[2, 5:9] = 1
    np.save(tmp_path / "frames.npy", original.counts)
    mask = write(tmp_path / "mask.mat", mask=bad)
    where = write(tmp_path / "where.mat", positions_px=original.positions_px)
    scan = open_scan(tmp_path / "frames.npy", positions_file=where, mask=mask, bad_frames="off")
    np.testing.assert_array_equal(scan.bad_pixels, bad != 0)
    np.testing.assert_allclose(scan.positions_px, original.positions_px)


def test_a_struct_is_a_group(original: Any, tmp_path: Path) -> None:
    data = {"dp": np.moveaxis(original.counts, 0, 2), "p": {"pos": original.positions_px}}
    path = by_scipy(tmp_path / "scan.mat", data=data)
    scan = open_scan(path, frames_key="data/dp", positions_key="data/p/pos", bad_frames="off")
    np.testing.assert_array_equal(scan.counts(), original.counts)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.98])
def test_a_truncated_file_is_refused_in_one_line(original: Any, tmp_path: Path, part: float) -> None:
    path = by_scipy(tmp_path / "scan.mat", diff3d=original.counts, positions=original.positions_px)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(DataError, match="the MATLAB file is truncated or damaged"):
        open_scan(path)


def test_the_mask_of_a_scan_file_marks_bad_pixels_and_says_so(original: Any, tmp_path: Path) -> None:
    bad = np.zeros(original.counts.shape[1:], np.uint8)
    bad[2, 5:9] = 1
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["data"], file["positions_px"], file["mask"] = original.counts, original.positions_px, bad
    scan = open_scan(tmp_path / "scan.h5", bad_frames="off")
    np.testing.assert_array_equal(scan.bad_pixels, bad != 0)
    assert any("own mask marks 0.39 % of the pixels as bad: any value but 0" in one for one in scan.notes)
    np.savez(
        tmp_path / "scan.npz",
        diffraction=original.counts,
        xcoords=original.positions_px[:, 1],
        ycoords=original.positions_px[:, 0],
        mask=bad == 0,
    )
    scan = open_scan(tmp_path / "scan.npz", bad_frames="off")
    np.testing.assert_array_equal(scan.bad_pixels, bad != 0)
    assert any("own mask marks 0.39 % of the pixels as bad: 0 is" in one for one in scan.notes)


def test_frames_are_unpacked_once(original: Any, tmp_path: Path) -> None:
    path = by_scipy(tmp_path / "scan.mat", dp=original.counts, positions=original.positions_px)
    scan = open_scan(path, positions_unit="px", dc="center", measurement="counts")
    path.unlink()
    np.testing.assert_array_equal(scan.counts(), original.counts)
    scan.frames.source.close()
    with pytest.raises(DataError, match=r"scan.mat"):
        scan.select(slice(3, 9)).counts()
