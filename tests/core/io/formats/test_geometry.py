"""Crop, rebin and turn on load: what is left is the scan that a smaller, better mounted detector gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.errors import DataError, PolicyWarning
from ptycho_config.values import Orientation
from ptycho_core import open_scan, scan_from_arrays
from ptycho_core.io.geometry import ORIENTATIONS, beam_center_px, turned_frames, turned_positions

INVERSE = {name: name for name in ORIENTATIONS} | {"rotate-90": "rotate-270", "rotate-270": "rotate-90"}


@given(orientation=st.sampled_from(ORIENTATIONS), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_turning_back_restores(orientation: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames, positions = rng.normal(size=(2, 8, 8)), rng.normal(size=(5, 2))
    there = turned_frames(frames, orientation)
    np.testing.assert_array_equal(turned_frames(there, INVERSE[orientation]), frames)
    there = turned_positions(positions, orientation)
    np.testing.assert_array_equal(turned_positions(there, INVERSE[orientation]), positions)
    np.testing.assert_allclose(np.hypot(*there.T), np.hypot(*positions.T), rtol=1e-12)


def test_the_eight_orientations_differ() -> None:
    rng = np.random.default_rng(1)
    frames, positions = rng.normal(size=(1, 8, 8)), rng.normal(size=(3, 2))
    assert len({turned_frames(frames, name).tobytes() for name in get_args(Orientation)}) == 8
    assert len({(turned_positions(positions, name) + 0.0).tobytes() for name in get_args(Orientation)}) == 8


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_frames_and_positions_turn_alike(orientation: str) -> None:
    """A pixel of a frame, seen from the middle, goes where a position goes."""
    frame = np.zeros((1, 16, 16))
    frame[0, 8 + 3, 8 - 2] = 1
    turned = turned_frames(frame, orientation)[0]
    expected = turned_positions(np.array([[3.0, -2.0]]), orientation)[0]
    np.testing.assert_array_equal(np.argwhere(turned)[0] - 8, expected)


def _large(original: Any, tmp_path: Path, *, dtype: str = "u2") -> tuple[Path, np.ndarray]:
    """The scan in the corner of a larger, rectangular detector, beam at (y, x) = (36, 29)."""
    rng = np.random.default_rng(2)
    frames = rng.poisson(0.01, (len(original.counts), 70, 60)).astype(dtype)
    frames[:, 20:52, 13:45] = original.counts
    y, x = original.positions_px.T
    np.savez(tmp_path / "large.npz", diff3d=frames, xcoords=x, ycoords=y, probeGuess=original.probe)
    return tmp_path / "large.npz", frames


def test_a_rectangular_detector_is_cut_to_a_square_around_the_beam(original: Any, tmp_path: Path) -> None:
    path, frames = _large(original, tmp_path)
    with np.load(path) as file:
        np.savez(path, **{key: file[key] for key in file.files if key != "probeGuess"})
    with pytest.warns(
        PolicyWarning, match=r"70 x 60 pixels and were cut to 58 x 58 around the beam, .* light"
    ):
        scan = open_scan(path)
    np.testing.assert_array_equal(scan.counts(), frames[:, 7:65, 0:58])


def test_frames_of_an_odd_side_lose_a_row_and_a_column(original: Any) -> None:
    odd = np.pad(original.counts, ((0, 0), (0, 1), (0, 1)))
    with pytest.warns(PolicyWarning, match="33 x 33 pixels and were cut to 32 x 32"):
        scan = scan_from_arrays(odd, original.positions_px)
    np.testing.assert_array_equal(scan.counts(), original.counts)


@pytest.mark.parametrize("center", [(36, 29), None])
def test_the_square_around_the_beam_is_the_scan(center: Any, original: Any, tmp_path: Path) -> None:
    path, frames = _large(original, tmp_path)
    scan = open_scan(path, crop_px=32, beam_center_px=center)
    if center is None:
        said = next(note for note in scan.notes if note.startswith("The beam was found"))
        y, x = (int(text) for text in said.split("(")[-1].rstrip(").").split(","))
        assert max(abs(y - 36), abs(x - 29)) <= 1
    else:
        y, x = center
    np.testing.assert_array_equal(scan.counts(), frames[:, y - 16 : y + 16, x - 16 : x + 16])
    np.testing.assert_array_equal(scan.probe, original.probe)
    np.testing.assert_array_equal(scan.positions_px, original.positions_px)


def test_a_square_that_does_not_fit_names_one_that_does(original: Any, tmp_path: Path) -> None:
    path, _ = _large(original, tmp_path)
    with pytest.raises(DataError, match="--crop-px 58"):
        open_scan(path, crop_px=60, beam_center_px=(36, 29))
    with pytest.raises(DataError, match="outside the frames"):
        open_scan(path, crop_px=8, beam_center_px=(90, 2))
    with pytest.raises(DataError, match="that 4 divides"):
        open_scan(path, crop_px=18, rebin=2)


@pytest.mark.parametrize("how", ["counts", "amplitude", "corner"])
def test_bins_add_counts(how: str, original: Any, tmp_path: Path) -> None:
    counts = original.counts.astype(np.int64)
    stored = {
        "counts": original.counts,
        "amplitude": np.sqrt(counts).astype(np.float32),
        "corner": np.fft.ifftshift(original.counts, axes=(1, 2)),
    }[how]
    bad = np.zeros((32, 32), bool)
    bad[3, 4] = how == "counts"
    y, x = original.positions_px.T
    np.savez(tmp_path / "s.npz", diff3d=stored, xcoords=x, ycoords=y, mask=~bad)
    with np.errstate(all="raise"):
        scan = open_scan(tmp_path / "s.npz", rebin=2, measurement="counts" if how != "amplitude" else how)
    expected = counts.reshape(-1, 16, 2, 16, 2).sum(axis=(2, 4))
    if how == "counts":
        assert scan.bad_pixels is not None
        assert np.argwhere(scan.bad_pixels).tolist() == [[1, 2]]
        expected[:, 1, 2] = 0
    np.testing.assert_allclose(scan.counts(), expected, rtol=1e-5)
    assert scan.dc == "center"


def test_bins_of_sixteen_bits_do_not_wrap(tmp_path: Path) -> None:
    frames = np.full((9, 16, 16), 60_000, np.uint16)
    y, x = np.divmod(np.arange(9.0), 3)
    np.savez(tmp_path / "s.npz", diff3d=frames, xcoords=x, ycoords=y, probeGuess=np.ones((16, 16), complex))
    scan = open_scan(tmp_path / "s.npz", rebin=2)
    np.testing.assert_array_equal(scan.counts(), 240_000)


def test_a_crop_is_the_scan_at_a_lower_resolution(original: Any, tmp_path: Path, writers: Any) -> None:
    """Positions in metres and in pixels, probe and pixel size agree about what a crop leaves."""
    in_pixels = open_scan(writers["npz"](tmp_path, original).path, crop_px=16)
    written = writers["cxi"](tmp_path, original)
    in_metres = open_scan(written.path, crop_px=16)
    np.testing.assert_allclose(in_metres.positions_px, original.positions_px / 2, atol=1e-9)
    np.testing.assert_allclose(in_pixels.positions_px, original.positions_px / 2, atol=1e-9)
    assert in_metres.pixel_size_m == pytest.approx(2 * original.pixel_m)
    assert in_pixels.probe.shape == (1, 16, 16)
    spectra = [
        np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe[0]), norm="ortho"))
        for probe in (original.probe, in_pixels.probe)
    ]
    np.testing.assert_allclose(spectra[1], spectra[0][8:24, 8:24], atol=1e-4 * np.abs(spectra[0]).max())


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_turned_detector_is_turned_back(orientation: str, original: Any, tmp_path: Path) -> None:
    stored = turned_frames(original.counts, orientation)
    probe = turned_frames(original.probe, orientation)
    y, x = turned_positions(original.positions_px, orientation).T
    np.savez(tmp_path / "t.npz", diff3d=stored, xcoords=x, ycoords=y, probeGuess=probe)
    back = INVERSE[orientation]
    scan = open_scan(tmp_path / "t.npz", frames_orientation=back, positions_orientation=back)
    np.testing.assert_array_equal(scan.counts(), original.counts)
    np.testing.assert_array_equal(scan.positions_px, original.positions_px)
    np.testing.assert_array_equal(scan.probe, original.probe)


def test_a_damaged_plain_npz_is_found_in_spite_of_a_crop(original: Any, tmp_path: Path) -> None:
    path, _ = _large(original, tmp_path)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="checksum"):
        open_scan(path, crop_px=32)


def test_a_hot_pixel_is_not_the_beam() -> None:
    y, x = np.mgrid[:40, :50]
    pattern = 100.0 * np.exp(-((y - 12) ** 2 + (x - 31) ** 2) / 20)
    pattern[35, 3] = 1e9
    assert beam_center_px(pattern, np.ones(pattern.shape, bool)) == (12, 31)


def test_scans_in_memory_stay_as_they_are(original: Any) -> None:
    scan = scan_from_arrays(original.counts, original.positions_px, original.probe)
    assert isinstance(scan.frames, np.ndarray)
