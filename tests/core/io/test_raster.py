"""Frames stored in rows and columns, and positions that only the step of the raster tells."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_config.errors import ConfigError, DataError
from ptycho_core import open_scan
from ptycho_core.io.raster import parse_step

ROWS, COLUMNS = 4, 6


@pytest.fixture
def counts() -> np.ndarray:
    y, x = np.mgrid[-8:8, -8:8]
    rate = 300 * np.exp(-(y**2 + x**2) / 20.0)
    return np.random.default_rng(0).poisson(rate, (ROWS, COLUMNS, 16, 16)).astype(np.uint16)


def stored(kind: str, counts: np.ndarray, folder: Path) -> Path:
    path = folder / f"scan.{kind}"
    if kind == "npy":
        np.save(path, counts)
    elif kind == "npz":
        np.savez(path, diffraction=counts)
    else:
        with h5py.File(path, "w") as file:
            file["datacube"] = counts
    return path


@pytest.mark.parametrize("kind", ["npy", "npz", "h5"])
def test_a_stack_of_rank_four_with_a_step_is_a_scan(kind: str, counts: np.ndarray, tmp_path: Path) -> None:
    scan = open_scan(stored(kind, counts, tmp_path), scan_step="2um,1500nm", pixel_size_m=0.5e-6)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    expected = np.stack([4.0 * y.ravel(), 3.0 * x.ravel()], axis=1)
    np.testing.assert_allclose(scan.positions_px, expected, atol=1e-6)
    np.testing.assert_array_equal(scan.counts(), counts.reshape(-1, 16, 16))
    assert any("raster of 4 x 6 with the step 2um,1500nm" in note for note in scan.notes)


@pytest.mark.filterwarnings("ignore:.*neighbouring positions do not overlap")
def test_frames_in_one_row_need_the_shape_of_the_scan(counts: np.ndarray, tmp_path: Path) -> None:
    path = stored("npy", counts.reshape(-1, 16, 16), tmp_path)
    with pytest.raises(DataError, match="--scan-shape ROWS,COLUMNS"):
        open_scan(path, scan_step="3")
    with pytest.raises(DataError, match="5 x 6 has not 24 frames"):
        open_scan(path, scan_step="3", scan_shape=(5, 6))
    scan = open_scan(path, scan_step="3", scan_shape=(ROWS, COLUMNS))
    assert scan.positions_px.max(axis=0).tolist() == [9.0, 15.0]


def test_positions_may_have_the_shape_of_the_raster(counts: np.ndarray, tmp_path: Path) -> None:
    y, x = np.mgrid[:ROWS, :COLUMNS] * 2.5
    np.savez(tmp_path / "scan.npz", diffraction=counts, xcoords=x, ycoords=y)
    scan = open_scan(tmp_path / "scan.npz")
    np.testing.assert_allclose(scan.positions_px, np.stack([y.ravel(), x.ravel()], axis=1), atol=1e-6)


def test_a_square_raster_may_be_given_by_its_axes(counts: np.ndarray, tmp_path: Path) -> None:
    side = 3
    square = counts[:side, :side]
    with h5py.File(tmp_path / "axes.h5", "w") as file:
        file["data"] = square
        file["y"], file["x"] = np.arange(side) * 2.0, np.arange(side) * 3.0
    scan = open_scan(tmp_path / "axes.h5")
    y, x = np.mgrid[:side, :side]
    expected = np.stack([2.0 * y.ravel(), 3.0 * x.ravel()], axis=1)
    np.testing.assert_allclose(scan.positions_px, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "step", "unit_m"),
    [
        ("31.25A", (31.25, 31.25), 1e-10),
        ("0.5um,400nm", (0.5, 0.4), 1e-6),
        ("0.5,0.4um", (0.5, 0.4), 1e-6),
        ("3", (3.0, 3.0), None),
        ("3px, 4px", (3.0, 4.0), None),
        ("1e-6 m", (1e-6, 1e-6), 1.0),
    ],
)
def test_a_step_has_a_unit_or_is_in_pixels(text: str, step: tuple, unit_m: float | None) -> None:
    found, factor = parse_step(text)
    assert found == pytest.approx(step)
    assert factor == unit_m


@pytest.mark.parametrize("text", ["", "0", "-1", "1parsec", "1,2,3", "1um,3px", "1.2.3", "nan"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="Expected DY,DX"):
        parse_step(text)
