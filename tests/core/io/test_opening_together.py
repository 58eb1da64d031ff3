"""Several ranks open a scan together: each reads its own frames, and all find what one alone finds."""

from __future__ import annotations

import zlib
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.errors import DataError
from ptycho_core import Scan, open_scan
from ptycho_core.io import save_scan
from ptycho_core.io.npz import crc32_joined
from ptycho_core.io.opening import read_scan
from ptycho_core.io.options import ReadOptions
from ptycho_core.ranks import in_threads
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.shared_survey import own_frames
from ptycho_core.scan.survey import FrameSurvey
from ptycho_core.simulate import simulate_scan
from ptycho_core.solver.team import Team

FRAMES, SIDE = 120, 32


@pytest.fixture(scope="module")
def made() -> Scan:
    return simulate_scan(frames=FRAMES, frame_px=SIDE, object_kind="star", seed=3).scan


def as_npz(scan: Scan, path: Path) -> Path:
    return save_scan(scan, path / "scan.npz")


def as_compressed(scan: Scan, path: Path) -> Path:
    return save_scan(scan, path / "scan.npz", compressed=True)


def as_ptyd(scan: Scan, path: Path) -> Path:
    return as_hdf5(scan, path, {"chunks": (1, SIDE, SIDE), "compression": "gzip"})


def as_hdf5(scan: Scan, path: Path, how: dict | None = None) -> Path:
    with h5py.File(path / "scan.h5", "w") as file:
        file.create_dataset("diff3d", data=scan.counts(), **(how or {}))
        file["ycoords"], file["xcoords"] = scan.positions_px.T
        file["probeGuess"] = scan.probe[0]
    return path / "scan.h5"


def opened_by(count: int, path: Path, **options) -> list[Scan]:
    return in_threads(count, lambda ranks: read_scan(path, ReadOptions(**options), ranks=ranks))


def assert_same(found: Scan, wanted: Scan) -> None:
    assert found.notes == wanted.notes
    assert (found.measurement, found.dc) == (wanted.measurement, wanted.dc)
    assert np.array_equal(found.positions_px, wanted.positions_px)
    np.testing.assert_allclose(found.probe, wanted.probe, rtol=1e-5, atol=1e-5 * np.abs(wanted.probe).max())
    for one in fields(FrameSurvey):
        mine, theirs = getattr(found.survey(), one.name), getattr(wanted.survey(), one.name)
        if isinstance(theirs, np.ndarray) and theirs.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, err_msg=one.name)
        else:
            assert np.array_equal(mine, theirs), one.name
    assert np.array_equal(found.amplitude(slice(5, 90, 7)), wanted.amplitude(slice(5, 90, 7)))


@pytest.mark.parametrize("write", [as_npz, as_compressed, as_hdf5, as_ptyd])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_all_ranks_find_what_one_finds(made: Scan, write, count: int, tmp_path: Path) -> None:
    path = write(made, tmp_path)
    wanted = open_scan(path)
    for found in opened_by(count, path):
        assert_same(found, wanted)


@pytest.mark.parametrize("write", [as_npz, as_hdf5, as_ptyd])
def test_each_rank_holds_its_own_frames_alone(made: Scan, write, tmp_path: Path) -> None:
    path = write(made, tmp_path)

    def work(ranks) -> tuple[int, np.ndarray, int]:
        scan = read_scan(path, ReadOptions(), ranks=ranks)
        assert isinstance(scan.frames, LazyFrames)
        held = scan.frames.source.n_held
        own = Team.of(ranks, scan.positions_px).mine(scan.n_frames)
        scan.amplitude()  # of all, some of which are read for nothing
        return held, own, scan.frames.source.n_held

    found = in_threads(4, work)
    assert [held for held, _, _ in found] == [FRAMES // 4] * 4
    assert [held for _, _, held in found] == [FRAMES // 4] * 4
    assert sorted(np.concatenate([own for _, own, _ in found]).tolist()) == list(range(FRAMES))


def test_what_was_left_out_and_marked_is_that_of_one(made: Scan, tmp_path: Path) -> None:
    counts = made.counts()
    counts[:, 3, 4] = 1e7
    counts[17] = 0
    positions = made.positions_px.copy()
    positions[40] = np.nan
    path = tmp_path / "scan.npz"
    np.savez(path, diff3d=counts, xcoords=positions[:, 1], ycoords=positions[:, 0], probeGuess=made.probe[0])
    with pytest.warns(UserWarning, match="left out"):
        wanted = open_scan(path, frames="5:115")
    with pytest.warns(UserWarning, match="left out"):
        scans = opened_by(3, path, frames="5:115")
    assert wanted.n_frames == 108
    for found in scans:
        assert_same(found, wanted)
        assert np.array_equal(found.bad_pixels, wanted.bad_pixels)
        assert np.array_equal(found.frame_numbers, wanted.frame_numbers)


@pytest.mark.parametrize("fraction", [False, True])
def test_one_frame_may_tell_all_ranks_what_the_values_are(made: Scan, fraction: bool, tmp_path: Path) -> None:
    # Whole numbers everywhere are counts, but for a fraction that one rank alone sees.
    values = np.rint(made.amplitude()).astype(np.float32)
    if fraction:
        values[FRAMES // 2, 10, 10] += np.float32(0.5)
    path = tmp_path / "scan.npz"
    y, x = made.positions_px.T
    np.savez(path, diff3d=values, xcoords=x, ycoords=y, probeGuess=made.probe[0])
    wanted = open_scan(path)
    assert wanted.measurement == ("amplitude" if fraction else "counts")
    for found in opened_by(3, path):
        assert_same(found, wanted)


def test_a_damaged_file_is_refused_by_all_ranks(made: Scan, tmp_path: Path) -> None:
    path = as_npz(made, tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"scan.npz: `diff3d` is damaged"):
        opened_by(3, path)


def test_frames_in_fortrans_order_are_chosen_and_checked(made: Scan, tmp_path: Path) -> None:
    # More of them than are read at a time, whose pieces are scattered over the file.
    counts = np.asfortranarray(np.tile(made.counts(), (10, 1, 1)))
    x, y = (np.tile(one, 10) for one in made.positions_px.T[::-1])
    path = tmp_path / "scan.npz"
    np.savez(path, diff3d=counts, xcoords=x, ycoords=y, probeGuess=made.probe[0])
    wanted = open_scan(path, frames="5:1100")
    assert np.array_equal(wanted.counts(slice(0, 5)), made.counts(slice(5, 10)))
    for found in opened_by(2, path, frames="5:1100"):
        assert_same(found, wanted)


def test_a_scan_with_too_few_frames_is_read_by_each(made: Scan, tmp_path: Path) -> None:
    path = as_npz(made.select(slice(10)), tmp_path)
    assert in_threads(4, lambda ranks: own_frames(made.positions_px[:10], ranks)) == [None] * 4
    wanted = open_scan(path)
    for found in opened_by(4, path):
        assert np.array_equal(found.survey().counts_sum, wanted.survey().counts_sum)


@settings(deadline=None)
@given(first=st.binary(max_size=300), second=st.binary(max_size=3000))
def test_checksums_of_two_pieces_make_that_of_both(first: bytes, second: bytes) -> None:
    joined = crc32_joined(zlib.crc32(first), zlib.crc32(second), len(second))
    assert joined == zlib.crc32(first + second)
