"""A result is checked when it is loaded: one line says what cannot be, and nothing that loads fails later."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import DataError
from ptycho_core import Reconstruction

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """The arrays of a small sound result."""
    random = np.random.default_rng(0)
    positions = random.uniform(8, 24, (5, 2))
    result = Reconstruction(
        object=np.exp(1j * random.uniform(-1, 1, (32, 32))).astype(np.complex64),
        probe=np.ones((1, 16, 16), np.complex64),
        origin_px=np.zeros(2),
        positions_px=positions,
        coverage=np.ones((32, 32), np.float32),
        residual_per_frame=np.full(5, 0.1, np.float32),
        data_residual=0.1,
        method="solver",
        scan_name="made",
        history=({"level": 1, "size_px": 16, "epoch": 1, "residual": 0.1, "seconds": 1.0},),
        pixel_size_m=1e-8,
    )
    with np.load(result.save_arrays(tmp_path_factory.mktemp("sound"))) as archive:
        return {key: archive[key] for key in archive.files} | {
            "history": np.array([[1, 16, 1, 0.1, 1.0, 0]]),
            "amplitude_std": np.full((32, 32), 0.1, np.float32),
        }


DAMAGE: dict[str, Callable[[Arrays], Arrays]] = {
    "origin NaN": lambda a: {"origin_px": a["origin_px"] * np.nan},
    "origin text": lambda a: {"origin_px": np.array(["a", "b"])},
    "origin far away": lambda a: {"origin_px": np.array([1e12, 0.0])},
    "probe NaN": lambda a: {"probe": a["probe"] * np.nan},
    "probe dark": lambda a: {"probe": a["probe"] * 0},
    "probe huge": lambda a: {"probe": a["probe"] * 1e30},
    "probe beyond single precision": lambda a: {"probe": a["probe"].astype(complex) * 1e300},
    "no probe modes": lambda a: {"probe": a["probe"][:0]},
    "probe not square": lambda a: {"probe": a["probe"][:, :8]},
    "object empty": lambda a: {"object": a["object"][:0, :0], "coverage": a["coverage"][:0, :0]},
    "object infinite": lambda a: {"object": a["object"] * np.inf},
    "object of truth values": lambda a: {"object": np.ones((32, 32), bool)},
    "coverage of another shape": lambda a: {"coverage": a["coverage"][:5]},
    "coverage negative": lambda a: {"coverage": -a["coverage"]},
    "fewer positions": lambda a: {"positions_px": a["positions_px"][:2]},
    "positions infinite": lambda a: {"positions_px": a["positions_px"] * np.inf},
    "positions NaN": lambda a: {"positions_px": a["positions_px"] * np.nan},
    "residuals of rank 2": lambda a: {"residual_per_frame": np.zeros((3, 3), np.float32)},
    "residual text": lambda a: {"data_residual": np.array("x")},
    "residual infinite": lambda a: {"data_residual": np.array(math.inf)},
    "history NaN": lambda a: {"history": a["history"] * np.nan},
    "history one row": lambda a: {"history": a["history"][0]},
    "history huge": lambda a: {"history": a["history"] * 1e300},
    "interrupted array": lambda a: {"interrupted": np.zeros(3, bool)},
    "interrupted text": lambda a: {"interrupted": np.array("no")},
    "name array": lambda a: {"scan_name": np.array(["a", "b"])},
    "method number": lambda a: {"method": np.array(3)},
    "verdict number": lambda a: {"verdict": np.array(3)},
    "all pixels bad": lambda a: {"bad_pixels": np.ones((16, 16), bool)},
    "mask of another shape": lambda a: {"bad_pixels": np.zeros((3, 16), bool)},
    "weights negative": lambda a: {"frame_weight": np.full(5, -1, np.float32)},
    "weights all zero": lambda a: {"frame_weight": np.zeros(5, np.float32)},
    "weights NaN": lambda a: {"frame_weight": np.full(5, np.nan, np.float32)},
    "deviation negative": lambda a: {"amplitude_std": -a["amplitude_std"]},
    "pixel size -1": lambda a: {"pixel_size_m": np.array(-1.0)},
    "pixel size text": lambda a: {"pixel_size_m": np.array("8nm")},
    "pixel size infinite": lambda a: {"pixel_size_m": np.array(math.inf)},
    "energy 0": lambda a: {"energy_ev": np.array(0.0)},
    "aspect NaN": lambda a: {"pixel_aspect": np.array(math.nan)},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_a_result_is_refused_in_one_line(arrays: Arrays, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "reconstruction.npz"
    np.savez(file, **{**arrays, **DAMAGE[damage](arrays)})
    with pytest.raises(DataError, match=r"reconstruction\.npz: .+Reconstruct the scan again\.$") as refused:
        Reconstruction.load(file)
    assert "\n" not in str(refused.value)


def test_a_sound_result_comes_back_whole(arrays: Arrays, tmp_path: Path) -> None:
    file = tmp_path / "reconstruction.npz"
    np.savez(file, **arrays)
    result = Reconstruction.load(file)
    assert result.pixel_size_m == 1e-8
    assert result.history[0]["epoch"] == 1
    assert np.array_equal(result.object, arrays["object"])


def test_an_array_is_no_archive(arrays: Arrays, tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", arrays["object"])
    file = (tmp_path / "array.npy").rename(tmp_path / "reconstruction.npz")
    with pytest.raises(DataError, match="an NPY file with a single array"):
        Reconstruction.load(file)


def test_a_name_from_a_file_is_plain_text(arrays: Arrays, tmp_path: Path) -> None:
    file = tmp_path / "reconstruction.npz"
    np.savez(file, **{**arrays, "scan_name": np.array("a\x1b[31m\nb" + "c" * 10**6)})
    name = Reconstruction.load(file).scan_name
    assert name.startswith(r"a\x1b[31m\nbccc")
    assert len(name) <= 200
