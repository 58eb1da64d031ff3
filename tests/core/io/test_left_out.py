"""Frames and pixels that are no data are left out with one warning; the rest, and nothing else, is used."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, open_scan, scan_from_arrays, solve
from ptycho_core.io.frame_choice import far_from_all_others, interpolated, listed_frames
from ptycho_core.io.left_out import some_numbers
from ptycho_core.io.product import read_product

FRAME_PX, ROWS = 32, 9


@pytest.fixture
def counts() -> np.ndarray:
    """Poisson counts (81, 32, 32) under a bright centre."""
    y, x = np.mgrid[-16:16, -16:16]
    return np.random.default_rng(0).poisson(300 * np.exp(-(y**2 + x**2) / 50.0), (ROWS**2, 32, 32))


@pytest.fixture
def positions() -> np.ndarray:
    y, x = np.mgrid[:ROWS, :ROWS] * 4.0
    jitter = np.random.default_rng(1).uniform(-1, 1, (ROWS**2, 2))
    return np.stack([y.ravel(), x.ravel()], axis=1) + jitter


def opened(counts: np.ndarray, positions: np.ndarray, **options: object) -> tuple[Scan, list[str]]:
    """Make the scan; return it and what was warned of."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        scan = scan_from_arrays(counts, positions, **options)  # type: ignore[arg-type]
    return scan, [str(warning.message) for warning in heard]


def empty(counts: np.ndarray, positions: np.ndarray) -> None:
    counts[[5, 40]] = 0


def far_too_bright(counts: np.ndarray, positions: np.ndarray) -> None:
    counts[[5, 40]] *= 7


def far_too_dark(counts: np.ndarray, positions: np.ndarray) -> None:
    counts[[5, 40]] //= 20


def stored_twice(counts: np.ndarray, positions: np.ndarray) -> None:
    counts[5], counts[40] = counts[4], counts[39]


def without_a_position(counts: np.ndarray, positions: np.ndarray) -> None:
    positions[5], positions[40, 1] = np.nan, np.inf


def far_away(counts: np.ndarray, positions: np.ndarray) -> None:
    positions[40] += 5000
    positions[5] -= (0, 300)


FAULTS = {
    empty: "2 empty (5, 40)",
    far_too_bright: "2 far brighter than all around (5, 40)",
    far_too_dark: "2 far darker than all around (5, 40)",
    stored_twice: "2 stored twice (5, 40)",
    without_a_position: "2 frames without a finite position left out: 5, 40",
    far_away: "2 frames far from all others left out: 5, 40",
}


@pytest.mark.finding("DATA-001")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_frames_that_are_no_data_are_left_out_with_one_warning(
    fault, counts: np.ndarray, positions: np.ndarray
) -> None:
    fault(counts, positions)
    kept = np.delete(np.arange(len(counts)), [5, 40])
    scan, heard = opened(counts, positions)
    (said,) = heard
    assert FAULTS[fault] in said
    np.testing.assert_array_equal(scan.frame_numbers, kept)
    np.testing.assert_array_equal(scan.counts(), counts[kept])
    np.testing.assert_allclose(scan.positions_px, positions[kept], atol=1e-6)
    assert len(scan.counts_per_frame()) == len(kept)


def test_frames_that_are_mostly_nan_are_left_out(counts: np.ndarray, positions: np.ndarray) -> None:
    values = counts.astype(np.float32)
    values[[5, 40], 4:] = np.nan
    scan, (said,) = opened(values, positions)
    assert "2 mostly NaN or infinite (5, 40)" in said
    assert scan.bad_pixels is None
    assert scan.n_frames == len(counts) - 2


def test_an_infinite_value_is_a_bad_pixel(counts: np.ndarray, positions: np.ndarray) -> None:
    values = counts.astype(np.float32)
    values[7, 3, 4] = np.inf
    scan, (said,) = opened(values, positions)
    assert "1 infinite values, the first in frame 7" in said
    assert np.isfinite(scan.amplitude()).all()
    assert scan.bad_pixels is not None
    np.testing.assert_array_equal(np.argwhere(scan.bad_pixels), [[7, 3, 4]])


def test_bad_frames_off_keeps_them(counts: np.ndarray, positions: np.ndarray) -> None:
    far_too_bright(counts, positions)
    scan, heard = opened(counts, positions, bad_frames="off")
    assert heard == []
    assert scan.frame_numbers is None
    assert scan.n_frames == len(counts)


@given(fade=st.floats(0.05, 1), absorption=st.floats(0.1, 1), seed=st.integers(0, 99))
def test_a_beam_that_fades_and_a_sample_that_absorbs_are_no_fault(
    fade: float, absorption: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    y, x = (axis.ravel() for axis in np.mgrid[:12, :12] * 4.0)
    level = 200 * np.linspace(1, fade, 144) * np.where(np.hypot(y - 22, x - 22) < 14, absorption, 1)
    frames = rng.poisson(level[:, None, None], (144, 8, 8))
    scan, heard = opened(frames, np.stack([y, x], axis=1))
    assert not any("left out" in said for said in heard)
    assert scan.n_frames == 144


def test_low_dose_frames_without_photons_are_data(positions: np.ndarray) -> None:
    frames = np.random.default_rng(0).poisson(2 / FRAME_PX**2, (len(positions), FRAME_PX, FRAME_PX))
    assert (frames.sum(axis=(1, 2)) == 0).any()
    scan, heard = opened(frames, positions)
    assert not any("left out" in said for said in heard)
    assert scan.n_frames == len(positions)


def test_many_frames_stored_twice_are_left_out(counts: np.ndarray, positions: np.ndarray) -> None:
    again = np.arange(1, len(counts), 4)
    counts[again] = counts[again - 1]
    scan, (said,) = opened(counts, positions)
    assert f"{again.size} stored twice" in said
    np.testing.assert_array_equal(scan.frame_numbers, np.setdiff1d(np.arange(len(counts)), again))


def test_frames_that_are_alike_for_a_reason_are_data(counts: np.ndarray, positions: np.ndarray) -> None:
    """Positions measured twice; and frames without noise, all alike where there is no sample."""
    twice = np.repeat(counts[::2][:40], 2, axis=0)
    scan, heard = opened(twice, np.repeat(positions[::2][:40], 2, axis=0))
    assert heard == []
    assert scan.n_frames == 80
    counts[5:9] = counts[40:44] = counts[4]
    scan, heard = opened(counts, positions)
    assert heard == []
    assert scan.n_frames == len(counts)


@pytest.mark.parametrize(
    "choice", [{"frames": "0:40"}, {"exclude_frames": "40:81"}, {"region": "-2:9,-2:40"}]
)
def test_frames_that_were_not_asked_for_are_not_said_to_be_missing(
    counts: np.ndarray, positions: np.ndarray, tmp_path: Path, choice: dict[str, str]
) -> None:
    counts[1] = 0
    y, x = positions.T
    np.savez(tmp_path / "scan.npz", diffraction=counts, ycoords=y, xcoords=x)
    with pytest.warns(UserWarning, match="1 empty"):
        scan = open_scan(tmp_path / "scan.npz", **choice)
    assert scan.share_left_out == pytest.approx(1 / (scan.n_frames + 1))
    assert solve(scan, SolverConfig(effort="fast")).verdict.measures["frames_left_out"] == pytest.approx(
        scan.share_left_out
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_empty_frames_are_found_at_any_scale(counts: np.ndarray, positions: np.ndarray, scale: float) -> None:
    values = gaussian_filter(counts.astype(float), (0, 0.7, 0.7)) * scale
    values[[5, 40]] = 0
    scan, heard = opened(values, positions, measurement="counts")
    assert any("2 empty (5, 40)" in said for said in heard)
    assert scan.n_frames == len(counts) - 2


@pytest.mark.parametrize("surplus", [1, 4, -3])
def test_the_surplus_at_the_end_is_left_out(counts: np.ndarray, positions: np.ndarray, surplus: int) -> None:
    n = len(counts)
    frames = np.concatenate([counts, counts[:surplus]]) if surplus > 0 else counts[:surplus]
    scan, (said,) = opened(frames, positions)
    kept = min(len(frames), n)
    assert f"the last {abs(surplus)}" in said
    np.testing.assert_array_equal(scan.counts(), counts[:kept])
    assert scan.of_all_frames(np.ones(kept)).size == len(frames)


def test_far_more_frames_than_positions_are_refused(counts: np.ndarray, positions: np.ndarray) -> None:
    with pytest.raises(DataError, match="one \\(y, x\\) position per frame"):
        scan_from_arrays(np.concatenate([counts, counts]), positions)


# What is asked for


@pytest.fixture
def file(tmp_path: Path, counts: np.ndarray, positions: np.ndarray) -> Path:
    path = tmp_path / "scan.npz"
    np.savez(path, diffraction=counts.astype(np.uint32), xcoords=positions[:, 1], ycoords=positions[:, 0])
    return path


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"frames": "10:50"}, range(10, 50)),
        ({"frames": "::2"}, range(0, 81, 2)),
        ({"frames": "-20:"}, range(61, 81)),
        ({"exclude_frames": "0,3,10:80"}, [1, 2, *range(4, 10), 80]),
        ({"exclude_frames": [0, 3]}, [1, 2, *range(4, 81)]),
        ({"frames": "10:50", "exclude_frames": "11"}, [10, *range(12, 50)]),
    ],
)
def test_some_of_the_frames_are_used(file: Path, counts: np.ndarray, options: dict, kept) -> None:
    scan = open_scan(file, **options)
    np.testing.assert_array_equal(scan.frame_numbers, list(kept))
    np.testing.assert_array_equal(scan.counts(), counts[list(kept)])


def test_a_region_is_in_the_unit_of_the_positions(file: Path, positions: np.ndarray) -> None:
    scan = open_scan(file, region="4.5:20,:16", positions_orientation="flip-y")
    y, x = positions.T
    np.testing.assert_array_equal(scan.frame_numbers, np.flatnonzero((y >= 4.5) & (y <= 20) & (x <= 16)))
    np.testing.assert_allclose(scan.positions_px[:, 0], -y[scan.frame_numbers], atol=1e-6)


@pytest.mark.parametrize("kind", ["lines", "one line", "numbers", "marks"])
def test_frames_to_exclude_come_from_a_file(file: Path, tmp_path: Path, kind: str) -> None:
    listed = tmp_path / ("list.npy" if kind in ("numbers", "marks") else "list.txt")
    if kind == "lines":
        listed.write_text("# bad ones\n0\n3 # shutter\n10:80\n")
    elif kind == "one line":
        listed.write_text("0, 3, 10:80")
    elif kind == "numbers":
        np.save(listed, np.array([0, 3, *range(10, 80)]))
    else:
        np.save(listed, np.isin(np.arange(81), [0, 3, *range(10, 80)]))
    scan = open_scan(file, exclude_frames=str(listed))
    np.testing.assert_array_equal(scan.frame_numbers, [1, 2, *range(4, 10), 80])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"exclude_frames": "3,81"}, ConfigError, "names frame 81; scan has frames 0 to 80"),
        ({"exclude_frames": "there-is-none.txt"}, ConfigError, "none of that name"),
        ({"frames": "5:5"}, DataError, "`frames` 5:5 leaves none of its 81 frames"),
        ({"frames": "a:b"}, ConfigError, "no range of frames"),
        ({"region": "1:2"}, ConfigError, "Expected Y0:Y1,X0:X1"),
        ({"region": "9:2,:"}, ConfigError, "wrong way round"),
        ({"region": "900:,:"}, DataError, "The positions span"),
    ],
)
def test_what_cannot_be_meant_is_refused(file: Path, options: dict, error: type, said: str) -> None:
    with pytest.raises(error, match=said.replace(":", "\\:")):
        open_scan(file, **options)


def test_missing_positions_are_put_between_their_neighbours(counts: np.ndarray, tmp_path: Path) -> None:
    line = np.stack([np.arange(81) * 1.0, np.arange(81) * 2.0], axis=1)
    lost = line.copy()
    lost[[20, 21, 80]] = np.nan
    path = tmp_path / "scan.npz"
    np.savez(path, diffraction=counts.astype(np.uint32), xcoords=lost[:, 1], ycoords=lost[:, 0])
    with pytest.warns(UserWarning) as heard:
        scan = open_scan(path, missing_positions="interpolate")
    said = [str(warning.message) for warning in heard]
    assert "2 missing positions were put between their neighbours in time: frames 20-21" in said[0]
    assert "1 frame without a finite position left out: 80" in said[1]
    np.testing.assert_allclose(scan.positions_px, line[:80], atol=1e-6)


def test_nothing_is_interpolated_beyond_the_ends() -> None:
    known = np.array([[np.nan, 1.0], [1.0, 1.0], [np.nan, np.nan], [3.0, 3.0], [np.nan, np.nan]])
    filled = interpolated(known)
    np.testing.assert_array_equal(filled[1:4], [[1, 1], [2, 2], [3, 3]])
    assert np.isnan(filled[[0, 4]]).any(axis=1).all()


@given(st.lists(st.integers(0, 40), max_size=12))
def test_a_list_reads_as_its_text(numbers: list[int]) -> None:
    assert listed_frames(",".join(map(str, numbers)) or " ", 41).tolist() == numbers
    assert listed_frames(numbers, 41).tolist() == numbers


def test_a_few_that_are_far_together_are_lonely() -> None:
    rng = np.random.default_rng(0)
    scan = rng.uniform(0, 90, (200, 2))
    scan[[3, 70, 71]] = np.array([4000, -3000]) + rng.uniform(0, 5, (3, 2))
    scan[90] = [-500, 20]
    np.testing.assert_array_equal(np.flatnonzero(far_from_all_others(scan, 32)), [3, 70, 71, 90])


def test_a_position_that_is_not_believed_is_none(counts: np.ndarray, positions: np.ndarray) -> None:
    far_away(counts, positions)
    scan, _ = opened(counts, positions)
    assert scan.all_positions_px is not None
    assert np.isnan(scan.all_positions_px[[5, 40]]).all()


def test_ranges_read_as_the_warnings_write_them() -> None:
    assert listed_frames("1,5-9", 41).tolist() == [1, 5, 6, 7, 8, 9]
    assert listed_frames(some_numbers(np.array([0, 3, 4, 5, 40])), 41).tolist() == [0, 3, 4, 5, 40]


def test_clusters_are_not_lonely() -> None:
    rng = np.random.default_rng(0)
    two = np.concatenate([rng.uniform(0, 50, (40, 2)), rng.uniform(0, 50, (3, 2)) + 3000])
    assert not far_from_all_others(two, 32).any()


# Masks


@pytest.mark.parametrize("kind", ["npy", "npz", "good", "h5", "cxi", "tif", "array"])
def test_a_mask_of_any_format_is_joined(file: Path, tmp_path: Path, kind: str) -> None:
    bad = np.zeros((FRAME_PX, FRAME_PX), np.uint8)
    bad[3:5, 20:] = 7
    mask: object = tmp_path / f"mask.{kind}"
    if kind == "npy":
        np.save(tmp_path / "mask.npy", bad)
    elif kind == "npz":
        np.savez(tmp_path / "mask.npz", gaps=bad, other=bad[:2])
        mask = f"{tmp_path / 'mask.npz'}:gaps"
    elif kind == "good":
        np.savez(tmp_path / "mask.npz", mask=bad == 0)
        mask = tmp_path / "mask.npz"
    elif kind in ("h5", "cxi"):
        with h5py.File(tmp_path / f"mask.{kind}", "w") as store:
            store["entry_1/instrument_1/detector_1/mask"] = bad
    elif kind == "tif":
        tifffile.imwrite(tmp_path / "mask.tif", bad)
    else:
        mask = bad
    scan = open_scan(file, mask=mask, dc="center")  # type: ignore[arg-type]
    assert scan.bad_pixels is not None
    np.testing.assert_array_equal(scan.bad_pixels, bad != 0)
    assert any("marks 2.3 % of the pixels as bad" in note for note in scan.notes)
    with pytest.warns(UserWarning, match="98 % of the pixels are marked bad.*it looks inverted"):
        turned = open_scan(file, mask=mask, mask_invert=True, dc="center")  # type: ignore[arg-type]
    np.testing.assert_array_equal(turned.bad_pixels, bad == 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.npy", "no such file"),
        ("scan.npz", "none of bad_pixels, pixel_mask, mask, pixelmask, detector_mask in it"),
        ("text.txt", "no mask of"),
    ],
)
def test_what_is_no_mask_is_named(file: Path, name: str, said: str) -> None:
    (file.parent / "text.txt").write_text("0 0 1\n")
    with pytest.raises(DataError, match=said):
        open_scan(file, mask=file.parent / name)


# The result


def test_the_result_has_a_place_for_every_frame_of_the_file(
    counts: np.ndarray, positions: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Frames that show no sample bear no refinement out; what is asked here is where its results stand.
    monkeypatch.setattr("ptycho_core.solver.unseen_frames._LEAST_GAIN", -1.0)
    monkeypatch.setattr("ptycho_core.solver.unseen_frames._LEAST_SHARE", 0.0)
    without_a_position(counts, positions)
    counts[60] = 0
    scan, _ = opened(counts, positions)
    config = SolverConfig(effort="fast", refine_positions=True, frame_intensity=True)
    result = solve(scan, config)
    result.save(tmp_path)
    back = Reconstruction.load(tmp_path)
    n, out = len(counts), [5, 40, 60]
    with np.load(tmp_path / "reconstruction.npz") as saved:
        np.testing.assert_array_equal(np.flatnonzero(~saved["frames_used"]), out)
        np.testing.assert_array_equal(saved["frame_weight"] == 0, ~saved["frames_used"])
        assert saved["bad_pixels"].shape == (FRAME_PX, FRAME_PX)
    for one in (result, back):
        assert one.n_frames == n - 3
        assert one.positions_px.shape == one.positions_given_px.shape == (n, 2)
        assert np.isnan(one.positions_px[[5, 40]]).any(axis=1).all()
        np.testing.assert_allclose(one.positions_px[60], positions[60], atol=1e-6)
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(one.residual_per_frame)), out)
        assert np.isfinite(np.delete(one.frame_intensity, out)).all()
    assert result.run_record()["frames_left_out"] == out
    product = read_product(tmp_path / "reconstruction.h5")
    assert len(product.positions_px) == n - 3
    with h5py.File(tmp_path / "reconstruction.h5") as store:
        np.testing.assert_array_equal(store["probe_position_indexes"], np.delete(np.arange(n), out))
    again = solve(scan, config.model_copy(update={"refine_positions": False}), start=back)
    np.testing.assert_allclose(again.positions_px, back.positions_px)
