"""Patches put together: the client's canvas, gaps between the middles, and the older formula."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.raw_data import RawData
from ptycho.tf_helper import reassemble_position
from ptycho_config.errors import ConfigError, DataError

N = 64


def offsets(x: np.ndarray, y: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """The offsets that the client's calls lead to for a scan with these pixel centres."""
    frames = np.random.default_rng(0).poisson(5.0, (len(x), N, N)).astype(np.uint16)
    probe = np.ones((1, N, N), np.complex64)
    raw = RawData.from_coords_without_pc(x, y, frames, probe, None, np.ones(canvas, complex))
    return raw.generate_grouped_data(N, K=7, nsamples=1, gridsize=1)["coords_offsets"]


def wide_scan(step: float) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Six columns and two rows: much wider than high, and not on whole pixels."""
    columns, rows = np.meshgrid(np.arange(6) * step, np.arange(2) * step)
    x, y = columns.ravel() + 40.0, rows.ravel() + 36.0
    return x, y, (int(step) + 74, int(5 * step) + 85)


def test_steps_wider_than_the_middles_leave_no_gaps_and_no_nan() -> None:
    x, y, canvas = wide_scan(30.0)
    patches = np.full((len(x), N, N, 1), 2 + 1j, np.complex64)
    image = reassemble_position(patches, offsets(x, y, canvas), M=20)
    assert image.shape == canvas
    assert image.dtype == np.complex64
    assert np.isfinite(image).all()
    seen = image[10:100, 15:200]
    assert np.allclose(seen[:80, :], 2 + 1j)


@pytest.mark.parametrize("frame", [0, 5, 9])
def test_a_point_under_a_frame_comes_out_at_its_position(frame: int) -> None:
    x, y, canvas = wide_scan(30.0)
    patches = np.zeros((len(x), N, N, 1), np.complex64)
    # The client counts pixel centres: a frame on p = 40.5 has pixel 41 of the object at its index N/2.
    patches[frame, N // 2, N // 2] = 1
    image = reassemble_position(patches, offsets(x + 0.5, y + 0.5, canvas), M=20)
    row, column = int(y[frame]) + 1, int(x[frame]) + 1
    assert image[row, column] == pytest.approx(1, abs=0.01)
    around = image[row - 3 : row + 4, column - 3 : column + 4].copy()
    around[3, 3] = 0
    assert np.abs(around).max() < 0.01


def test_where_no_frame_looks_the_object_is_one() -> None:
    x, y, _ = wide_scan(12.0)
    patches = np.full((len(x), N, N, 1), 0.5, np.complex64)
    image = reassemble_position(patches, offsets(x, y, (400, 500)), M=20)
    assert image[399, 499] == image[399, 0] == 1
    assert image[36, 40] == 0.5


def test_windows_that_leave_the_canvas_are_cut() -> None:
    x, y, _ = wide_scan(12.0)
    patches = np.full((len(x), N, N, 1), 0.5, np.complex64)
    image = reassemble_position(patches, offsets(x, y, (50, 60)), M=20)
    assert image.shape == (50, 60)
    assert np.allclose(image[10:, 10:], 0.5)


def test_plain_offsets_give_the_older_square_canvas() -> None:
    # docs/reference/physics.md, "Stitching": these positions, with N = 16 and M = 8, give a side of 16.
    xy = np.array([[20.0, 20], [26, 20], [20, 28], [26, 28]])
    truth = np.random.default_rng(1).normal(size=(60, 60)) + 1j
    patches = np.stack([truth[int(y) - 8 : int(y) + 8, int(x) - 8 : int(x) + 8] for x, y in xy])[..., None]
    for shape in ((4, 1, 2, 1), (4, 1, 1, 2)):
        image = reassemble_position(patches, xy.reshape(shape), M=8)
        assert image.shape == (16, 16, 1)
        assert np.allclose(image[4, 5, 0], truth[20, 20], atol=1e-6)  # position (x, y) lands on (5, 4)
    with pytest.raises(ConfigError, match="the crop is 7 px; use an even number"):
        reassemble_position(patches, xy, M=7)
    with pytest.raises(DataError, match="4 patches and 3 positions"):
        reassemble_position(patches, xy[:3], M=8)


def test_an_odd_middle_is_refused_on_the_canvas_of_the_client_too() -> None:
    x, y, canvas = wide_scan(12.0)
    with pytest.raises(ConfigError, match="`M` is 21"):
        reassemble_position(np.ones((len(x), N, N, 1), complex), offsets(x, y, canvas), M=21)
