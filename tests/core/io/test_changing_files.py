"""A file that is cut, renamed, removed or replaced while it is worked on: what was read is not lost."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_config.errors import DataError, PolicyWarning
from ptycho_config.models import SolverConfig
from ptycho_core import Scan, open_scan, save_scan, solve
from ptycho_core.result.provenance import run_provenance
from ptycho_core.scan import held
from ptycho_core.scan.source_file import SourceFile


@pytest.fixture(scope="module")
def given(simulated) -> Scan:
    return simulated(object_kind="star", frames=40, frame_px=32, seed=1).scan


def written(scan: Scan, path: Path) -> Path:
    """Write a scan in the format that the name says."""
    if path.suffix == ".npz":
        return save_scan(scan, path)
    counts = scan.counts().astype(np.uint16)
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["dp"] = counts
            file["positions"] = scan.positions_px
        return path
    np.save(path, counts)
    np.savetxt(path.parent / "positions.csv", scan.positions_px, delimiter=",", header="y,x", comments="")
    return path


def opened(path: Path) -> Scan:
    return open_scan(path, positions_file=path.parent / "positions.csv" if path.suffix == ".npy" else None)


def cut(path: Path) -> None:
    os.truncate(path, 100)


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"another file")
    other.replace(path)


CHANGES = {
    "cut": (cut, "was changed"),
    "removed": (Path.unlink, "was renamed or removed"),
    "replaced": (replaced, "was replaced by another file"),
}


@pytest.mark.parametrize("name", ["scan.npz", "scan.npy", "scan.h5"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_read_is_what_the_result_is_of(name: str, change: str, given: Scan, tmp_path: Path) -> None:
    path = written(given, tmp_path / name)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    untouched = opened(path).amplitude()
    scan = opened(path)
    assert scan.source_sha256 == expected
    act, said = CHANGES[change]
    act(path)
    with pytest.warns(UserWarning, match=said):
        record = run_provenance(scan)["input"]
    assert record["sha256"] == expected
    assert record["changed_since"] == said
    assert np.array_equal(scan.amplitude(), untouched)


def test_a_run_whose_file_is_cut_on_the_way_ends_as_any_other(given: Scan, tmp_path: Path) -> None:
    path = written(given, tmp_path / "scan.npz")
    config = SolverConfig(effort="fast")
    expected = solve(open_scan(path), config)
    scan = open_scan(path)
    scan.source_sha256  # noqa: B018, taken
    cut(path)
    with pytest.warns(UserWarning, match="was changed after it was opened"):
        found = solve(scan, config)
    assert np.array_equal(found.object, expected.object)


@pytest.mark.parametrize("name", ["scan.npz", "scan.npy"])
def test_frames_that_are_not_held_are_missed_in_words(
    name: str, given: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "HELD_BYTES", 0)
    scan = opened(written(given, tmp_path / name))
    cut(tmp_path / name)
    with pytest.raises(DataError, match="truncated after it was opened"):
        scan.amplitude()


def test_large_frames_of_a_file_that_was_renamed_are_read_to_the_end(
    given: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "HELD_BYTES", 0)
    path = written(given, tmp_path / "scan.npz")
    untouched = open_scan(path).amplitude()
    scan = open_scan(path)
    path.rename(tmp_path / "archived.npz")
    assert np.array_equal(scan.amplitude(), untouched)


def test_a_checksum_is_not_that_of_another_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    source = SourceFile(path)
    path.write_bytes(b"behind and longer")
    assert source.sha256() is None
    assert source.changed() == "was changed"


def test_frames_go_to_another_process_by_their_file(given: Scan, tmp_path: Path) -> None:
    scan = open_scan(written(given, tmp_path / "scan.npz"))
    there = copy.deepcopy(scan.frames)
    assert np.array_equal(there[3:5], scan.frames[3:5])


@pytest.mark.parametrize("layout", ["last", "fortran", "raster"])
def test_every_layout_in_a_plain_file_gives_the_same_frames(layout: str, given: Scan, tmp_path: Path) -> None:
    frames = given.counts().astype(np.uint16)
    arrange: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "last": lambda array: np.ascontiguousarray(np.moveaxis(array, 0, 2)),
        "fortran": np.asfortranarray,
        "raster": lambda array: array.reshape(5, 8, 32, 32),
    }
    y, x = given.positions_px.T
    np.savez(tmp_path / "scan.npz", diffraction=arrange[layout](frames), ycoords=y, xcoords=x)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("warnings.warn", lambda *_, **__: None)  # of the frame axis
        scan = open_scan(tmp_path / "scan.npz", measurement="counts")
    assert np.array_equal(scan.counts(), frames)


def test_a_raster_with_as_many_columns_as_positions_is_read_by_its_last_axis(tmp_path: Path) -> None:
    """(2, 1, 1, 9) with nine positions: the last axis is taken for the frames, and one pixel is no frame."""
    nine = np.arange(9.0)
    np.savez(tmp_path / "scan.npz", diff3d=np.ones((2, 1, 1, 9), np.float32), xcoords=nine, ycoords=nine % 2)
    with (
        pytest.warns(PolicyWarning, match="the last axis was taken for the frame axis"),
        pytest.raises(DataError, match="the frames are 2 x 1 pixels"),
    ):
        open_scan(tmp_path / "scan.npz")
