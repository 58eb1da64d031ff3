"""The pictures: what is prepared for the eye is right, and the files are complete or absent."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from ptycho_config.errors import OutputError
from ptycho_core import Reconstruction, scan_from_arrays
from ptycho_core.figures import FIGURE_FILES, write_comparison, write_figures, write_scan_picture
from ptycho_core.figures.display import (
    colour_wheel,
    covered_box,
    covered_region,
    mode_mosaic,
    mode_shares,
    phase_without_ramp,
    robust_limits,
    scale_bar,
)


def result(n_modes: int = 1, **changes: object) -> Reconstruction:
    """A small result with everything a picture shows, put together by hand."""
    rng = np.random.default_rng(3)
    n, side = 32, 96
    grid = np.arange(n) - n / 2
    disc = np.exp(-(grid[:, None] ** 2 + grid[None, :] ** 2) / 60)
    probe = np.stack([disc * (0.5**mode) * np.exp(1j * mode * grid / 5) for mode in range(n_modes)])
    positions = rng.uniform(-30, 30, (50, 2))
    coverage = np.zeros((side, side), np.float32)
    for y, x in np.round(positions + 32).astype(int):
        coverage[y : y + n, x : x + n] += disc
    residual = rng.uniform(0.1, 0.2, 50).astype(np.float32)
    residual[7] = np.nan
    history = [{"level": 1 + i // 5, "size_px": 16 * (1 + i // 5), "residual": 1 / (i + 2)} for i in range(9)]
    whole = Reconstruction(
        object=np.exp(1j * rng.uniform(-0.5, 0.5, (side, side))).astype(np.complex64),
        probe=probe.astype(np.complex64),
        origin_px=np.full(2, -48.0),
        positions_px=positions,
        coverage=coverage / coverage.max(),
        residual_per_frame=residual,
        data_residual=0.123,
        method="solver",
        scan_name="by hand",
        history=tuple(history),
    )
    return replace(whole, **changes)


def picture(path: Path) -> np.ndarray:
    return imread(path)[..., :3]


def test_three_pictures_are_written_and_nothing_else(tmp_path: Path) -> None:
    files = write_figures(result(), tmp_path)
    assert tuple(files) == FIGURE_FILES
    assert {path.name for path in tmp_path.iterdir()} == set(FIGURE_FILES)
    for path in files.values():
        drawn = picture(path)
        assert min(drawn.shape[:2]) > 600
        assert drawn.std() > 0.1


@pytest.mark.parametrize(
    "changes",
    [
        {"n_modes": 3},
        {"history": ()},
        {"data_residual": float("nan")},
        {"pixel_size_m": 8e-9, "interrupted": True},
        {"residual_per_frame": np.full(50, np.nan, np.float32)},
        {"coverage": np.zeros((96, 96), np.float32)},
        {"history": ({"level": 1, "residual": float("nan")},)},
        {"positions_px": np.zeros((1, 2)), "residual_per_frame": np.full(1, 0.2, np.float32)},
        {"scan_name": "name_with_$dollar$ and \\alpha"},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_unusual_results_are_drawn_too(tmp_path: Path, changes: dict[str, object]) -> None:
    write_figures(result(**changes), tmp_path)


def test_an_unreliable_image_is_not_shown(tmp_path: Path) -> None:
    def commonest_share(name: str, reliable: bool) -> float:
        inside = picture(write_figures(result(dose_carries_image=reliable), tmp_path)[name])[300:700, 100:700]
        return float(np.mean(np.all(inside == inside[0, 0], axis=-1)))

    # Two sentences on a plain ground, or an object.
    assert commonest_share("amplitude.png", reliable=False) > 0.9
    assert commonest_share("phase.png", reliable=False) > 0.9
    assert commonest_share("phase.png", reliable=True) < 0.5


def test_figures_never_ask_for_a_display(tmp_path: Path) -> None:
    code = (
        "import sys; import ptycho_core.figures; "
        "print(sorted({'matplotlib.pyplot', 'tkinter', 'torch'} & set(sys.modules)))"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "MPLBACKEND")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_place_that_cannot_be_written_is_named_and_left_clean(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    with pytest.raises(OutputError, match=r"amplitude\.png"):
        write_figures(result(), file)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@given(
    slope=st.tuples(st.floats(-2, 2), st.floats(-2, 2)), offset=st.floats(-3, 3), seed=st.integers(0, 1000)
)
def test_ramp_and_offset_of_the_phase_make_no_difference(
    slope: tuple[float, float], offset: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(np.cumsum(rng.normal(0, 0.002, (24, 30)), axis=0), axis=1)
    y, x = np.mgrid[:24, :30]
    plain = np.exp(1j * smooth).astype(np.complex64)
    turned = (plain * np.exp(1j * (slope[0] * y + slope[1] * x + offset))).astype(np.complex64)
    seen = np.ones(plain.shape, bool)
    difference = np.angle(np.exp(1j * (phase_without_ramp(turned, seen) - phase_without_ramp(plain, seen))))
    # float32 phases up to 120 rad lose some 1e-5 each.
    assert np.abs(difference).max() < 1e-3


@given(top=st.integers(0, 20), left=st.integers(0, 20), height=st.integers(1, 30), width=st.integers(1, 30))
def test_the_crop_holds_all_that_is_seen_and_stays_on_the_canvas(
    top: int, left: int, height: int, width: int
) -> None:
    coverage = np.zeros((40, 50), np.float32)
    coverage[top : top + height, left : left + width] = 1
    seen = covered_region(coverage)
    rows, columns = covered_box(seen)
    assert seen[rows, columns].sum() == seen.sum()
    assert 0 <= rows.start < rows.stop <= 40
    assert 0 <= columns.start < columns.stop <= 50


def test_colour_limits_ignore_wild_pixels_and_missing_ones() -> None:
    values = np.linspace(0.0, 1.0, 10_001)
    values[:3] = (1e6, np.nan, -np.inf)
    low, high = robust_limits(values)
    assert low == pytest.approx(0.0, abs=0.02)
    assert high == pytest.approx(1.0, abs=0.02)
    assert robust_limits(np.full(5, 2.0)) == pytest.approx((1.99, 2.01))
    assert robust_limits(np.full(5, np.nan)) == (0.0, 1.0)


def test_every_phase_of_the_wheel_is_equally_bright_to_the_eye() -> None:
    colours = colour_wheel(np.exp(1j * np.linspace(-np.pi, np.pi, 181))[None].astype(np.complex64))[0]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    # OKLab lightness is not CIE luminance; equal lightness keeps the latter within a fifth.
    assert np.ptp(luminance) < 0.2 * luminance.mean()
    assert np.all(colour_wheel(np.zeros((2, 2), np.complex64)) == 0)


def test_probe_modes_lie_side_by_side_each_at_its_own_brightness() -> None:
    probe = result(n_modes=3).probe
    mosaic = mode_mosaic(probe)
    assert mosaic.shape == (64, 64)
    assert np.abs(mosaic[:32, :32]).max() == pytest.approx(1)
    assert np.abs(mosaic[:32, 32:]).max() == pytest.approx(1)
    assert not mosaic[32:, 32:].any()
    assert sum(mode_shares(probe)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("width_px", "pixel_size_m", "length_px", "label"),
    [
        (400, None, 100, "100 px"),
        (345, None, 50, "50 px"),
        (3, None, 1, "1 px"),
        (400, 1e-8, 100, "1 µm"),
        (400, 8e-9, 62.5, "500 nm"),
        (200, 1e-6, 50, "50 µm"),
        (400, 1e-10, 100, "10 nm"),
        (100, 0.1, 20, "2 m"),
    ],
)
def test_scale_bars_have_round_lengths(
    width_px: int, pixel_size_m: float | None, length_px: float, label: str
) -> None:
    length, text = scale_bar(width_px, pixel_size_m)
    assert length == pytest.approx(length_px)
    assert text == label


def test_a_scan_and_a_comparison_have_their_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.poisson(3.0, (6, 32, 32)).astype(np.uint16)
    scan = scan_from_arrays(frames, rng.uniform(0, 12, (6, 2)), dc="center", probe=result().probe)
    counts = frames.sum(axis=(1, 2)).astype(float)
    assert picture(write_scan_picture(scan, tmp_path / "scan.png", counts_per_frame=counts)).std() > 0.05
    obj = result().object
    compared = write_comparison(
        tmp_path / "comparison.png",
        first=obj,
        second=(obj * np.complex64(1.02)),
        seen=np.ones(obj.shape, bool),
        names=("ours", "truth"),
        frc=np.linspace(1, 0, 40),
    )
    assert picture(compared).std() > 0.05
