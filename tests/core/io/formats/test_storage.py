"""How values lie in HDF5 makes no difference: compressed, virtual, behind a master file, still growing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptycho_core import open_scan
from ptycho_core.scan.lazy import LazyFrames

KEYS = {"positions_key": "scan"}


def _with_positions(path: Path, original: Any, mode: str = "a") -> Path:
    with h5py.File(path, mode) as file:
        file["scan"] = original.positions_px
        file["probe"] = original.probe
    return path


def _assert_same(path: Path, original: Any, **options: Any) -> LazyFrames:
    scan = open_scan(path, **options)
    np.testing.assert_array_equal(scan.counts(), original.counts)
    np.testing.assert_array_equal(scan.positions_px, original.positions_px)
    assert isinstance(scan.frames, LazyFrames)
    return scan.frames


def _filters() -> dict[str, dict[str, Any]]:
    import hdf5plugin

    return {
        "bitshuffle-lz4": dict(hdf5plugin.Bitshuffle()),
        "lz4": dict(hdf5plugin.LZ4()),
        "blosc": dict(hdf5plugin.Blosc()),
        "zstd": dict(hdf5plugin.Zstd()),
        "gzip": {"compression": "gzip", "shuffle": True},
        "none": {},
    }


@pytest.mark.parametrize("name", ["bitshuffle-lz4", "lz4", "blosc", "zstd", "gzip", "none"])
@pytest.mark.parametrize("chunk", [1, 7, 30])
def test_compressed_frames_are_read_in_blocks(name: str, chunk: int, tmp_path: Path, original: Any) -> None:
    path = _with_positions(tmp_path / "scan.h5", original, "w")
    with h5py.File(path, "a") as file:
        shape = (chunk, *original.counts.shape[1:])
        file.create_dataset("data", data=original.counts, chunks=shape, **_filters()[name])
    frames = _assert_same(path, original)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames))[4:6], original.counts[4:6])  # noqa: S301


def test_frames_last_are_moved(tmp_path: Path, original: Any) -> None:
    path = _with_positions(tmp_path / "scan.h5", original, "w")
    with h5py.File(path, "a") as file:
        file["data"] = np.moveaxis(original.counts, 0, 2)
    with pytest.warns(UserWarning, match="FORMAT-001"):
        _assert_same(path, original)


def test_axes_of_length_one_are_dropped(tmp_path: Path, original: Any) -> None:
    path = _with_positions(tmp_path / "scan.h5", original, "w")
    with h5py.File(path, "a") as file:
        file["data"] = original.counts[np.newaxis, ..., np.newaxis]
    _assert_same(path, original)


def test_virtual_data_sets_are_followed(tmp_path: Path, original: Any) -> None:
    path = _with_positions(tmp_path / "scan.h5", original, "w")
    layout = h5py.VirtualLayout(shape=original.counts.shape, dtype=np.uint16)
    for number, rows in enumerate(np.array_split(np.arange(len(original.counts)), 3)):
        part = f"part_{number}.h5"
        with h5py.File(tmp_path / part, "w") as file:
            file["data"] = original.counts[rows]
        layout[rows[0] : rows[-1] + 1] = h5py.VirtualSource(part, "data", shape=original.counts[rows].shape)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("data", layout)
    _assert_same(path, original)


def test_the_master_of_an_eiger_is_followed(tmp_path: Path, original: Any) -> None:
    master = tmp_path / "scan_master.h5"
    with h5py.File(master, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        for number, rows in enumerate(np.array_split(np.arange(len(original.counts)), 3), start=1):
            part = f"scan_data_{number:06d}.h5"
            with h5py.File(tmp_path / part, "w") as data:
                data["entry/data/data"] = original.counts[rows]
            file[f"entry/data/data_{number:06d}"] = h5py.ExternalLink(part, "/entry/data/data")
    table = tmp_path / "positions.txt"
    np.savetxt(table, original.positions_px[:, ::-1], header="pos_x pos_y")
    scan = open_scan(master, positions_file=table)
    np.testing.assert_array_equal(scan.counts(), original.counts)
    np.testing.assert_allclose(scan.positions_px, original.positions_px, rtol=1e-12)


def test_a_file_that_is_still_written_gives_the_frames_so_far(tmp_path: Path, original: Any) -> None:
    path = tmp_path / "growing.h5"
    shape = original.counts.shape[1:]
    with h5py.File(path, "w", libver="latest") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        frames = entry.create_dataset("data", (0, *shape), "u2", maxshape=(None, *shape), chunks=(1, *shape))
        places = entry.create_dataset("positions", data=original.positions_px)
        file.swmr_mode = True
        frames.resize((20, *shape))
        frames[:] = original.counts[:20]
        frames.flush()
        places.flush()
        scan = open_scan(path, positions_key="entry/positions")
        np.testing.assert_array_equal(scan.counts(), original.counts[:20])
        np.testing.assert_array_equal(scan.positions_px, original.positions_px[:20])


def test_a_unit_given_goes_before_the_file(tmp_path: Path, original: Any) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["data"] = original.counts
        file["y"], file["x"] = (original.positions_px * 25).T
    scan = open_scan(tmp_path / "scan.h5", positions_unit="nm", pixel_size_m=25e-9)
    np.testing.assert_allclose(scan.positions_px, original.positions_px, rtol=1e-12)
