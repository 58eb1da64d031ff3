"""How values lie in HDF5 makes no difference: compressed, virtual, behind a master file, still growing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptycho_config.errors import DataError
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
        "bitshuffle-zstd": dict(hdf5plugin.Bitshuffle(cname="zstd")),
        "bitshuffle-alone": dict(hdf5plugin.Bitshuffle(cname="none")),
        "blosc2": dict(hdf5plugin.Blosc2()),
        "bzip2": dict(hdf5plugin.BZip2()),
        "lzf": {"compression": "lzf"},
        "checked": {"compression": "gzip", "shuffle": True, "fletcher32": True},
        "scaleoffset": {"scaleoffset": 0},
        "scaleoffset-gzip": {"scaleoffset": 0, "compression": "gzip"},
        "szip": {"compression": "szip"},
        "gzip": {"compression": "gzip", "shuffle": True},
        "none": {},
    }


_NAMES = (
    *("bitshuffle-lz4", "bitshuffle-zstd", "bitshuffle-alone", "lz4", "blosc", "blosc2", "zstd", "bzip2"),
    *("gzip", "lzf", "checked", "scaleoffset", "scaleoffset-gzip", "szip", "none"),
)


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("chunk", [1, 7, 30])
def test_compressed_frames_are_read_in_blocks(name: str, chunk: int, tmp_path: Path, original: Any) -> None:
    path = _with_positions(tmp_path / "scan.h5", original, "w")
    with h5py.File(path, "a") as file:
        shape = (chunk, *original.counts.shape[1:])
        file.create_dataset("data", data=original.counts, chunks=shape, **_filters()[name])
    frames = _assert_same(path, original)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames))[4:6], original.counts[4:6])  # noqa: S301


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("behind", ["directly", "virtually"])
def test_a_block_that_is_cut_short_is_refused_at_any_byte(
    name: str, behind: str, tmp_path: Path, original: Any
) -> None:
    # HDF5 gave what lay in memory behind the block for frames.
    path, shape = _with_positions(tmp_path / "scan.h5", original, "w"), original.counts.shape
    with h5py.File(path, "a") as file:
        how = dict(chunks=(5, *shape[1:]), **_filters()[name])
        whole = file.create_dataset("whole", data=original.counts, **how).id.read_direct_chunk((10, 0, 0))[1]
        item = file.create_dataset("data", original.counts.shape, original.counts.dtype, **how)
        item[:10], item[15:] = original.counts[:10], original.counts[15:]
        if behind == "virtually":
            layout = h5py.VirtualLayout(shape, item.dtype)
            layout[:] = h5py.VirtualSource(item)
            file.create_virtual_dataset("seen", layout)
    key = "data" if behind == "directly" else "seen"
    # Of a plain block HDF5 itself writes no other length twice.
    for length in (2,) if name == "none" else (2, 30, len(whole) // 2, len(whole) - 40):
        with h5py.File(path, "a") as file:
            file["data"].id.write_direct_chunk((10, 0, 0), whole[:length])
        with pytest.raises(DataError, match=r"scan\.h5.*(block at \(10, 0, 0\) holds less|damaged)"):
            open_scan(path, frames_key=key)


@pytest.mark.parametrize("name", [name for name in _NAMES if not name.startswith(("scaleoffset", "none"))])
def test_a_block_that_holds_more_than_it_should_is_refused(name: str, tmp_path: Path, original: Any) -> None:
    path, shape = _with_positions(tmp_path / "scan.h5", original, "w"), original.counts.shape
    with h5py.File(path, "a") as file:
        larger = file.create_dataset("a", data=original.counts, chunks=(10, *shape[1:]), **_filters()[name])
        _, block = larger.id.read_direct_chunk((10, 0, 0))
        item = file.create_dataset("data", data=original.counts, chunks=(5, *shape[1:]), **_filters()[name])
        item.id.write_direct_chunk((10, 0, 0), block)
    said = "damaged" if name == "blosc2" else r"block at \(10, 0, 0\) expands to more than"
    with pytest.raises(DataError, match=said):
        open_scan(path, frames_key="data")


def test_a_block_of_zstandard_that_does_not_say_its_size_is_walked_through(
    tmp_path: Path, original: Any
) -> None:
    path = _with_positions(tmp_path / "scan.h5", original, "w")
    block = (1 << 17 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    bomb = b"\x28\xb5\x2f\xfd\x00\x58" + block * 1000 + (1).to_bytes(3, "little")
    with h5py.File(path, "a") as file:
        how = dict(chunks=(5, *original.counts.shape[1:]), **_filters()["zstd"])
        file.create_dataset("data", data=original.counts, **how).id.write_direct_chunk((10, 0, 0), bomb)
    with pytest.raises(DataError, match=r"block at \(10, 0, 0\) expands to more than"):
        open_scan(path)


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", [name for name in _NAMES if not name.startswith("scaleoffset")])
def test_bits_flipped_in_a_block_are_told_where_there_is_a_checksum_and_never_crash(
    name: str, checked: bool, tmp_path: Path, original: Any
) -> None:
    path = _with_positions(tmp_path / "scan.h5", original, "w")
    how = {**_filters()[name], **({"fletcher32": True} if checked else {})}
    with h5py.File(path, "a") as file:
        chunks = (5, *original.counts.shape[1:])
        item = file.create_dataset("data", data=original.counts, chunks=chunks, **how)
        sound = item.id.read_direct_chunk((10, 0, 0))[1]
    for bit in np.random.default_rng(4).choice(8 * len(sound), 8, replace=False):
        spoiled = bytearray(sound)
        spoiled[bit // 8] ^= 1 << bit % 8
        with h5py.File(path, "a") as file:
            file["data"].id.write_direct_chunk((10, 0, 0), bytes(spoiled))
        try:
            counts = open_scan(path, bad_frames="off", bad_pixels="off").counts()
        except DataError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert not checked or np.array_equal(counts, original.counts)


def test_a_block_that_is_written_by_the_bits_is_read(tmp_path: Path, original: Any) -> None:
    path = _with_positions(tmp_path / "scan.h5", original, "w")
    assert original.counts.max() < 1 << 12
    with h5py.File(path, "a") as file:
        of_12_bits, plist = h5py.h5t.NATIVE_UINT16.copy(), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        of_12_bits.set_precision(12)
        plist.set_chunk((5, *original.counts.shape[1:]))
        plist.set_filter(h5py.h5z.FILTER_NBIT)
        space = h5py.h5s.create_simple(original.counts.shape)
        item = h5py.h5d.create(file.id, b"data", of_12_bits, space, plist)
        item.write(h5py.h5s.ALL, h5py.h5s.ALL, original.counts.astype(np.uint16))
        assert item.get_storage_size() < original.counts.size * 1.6
        _, whole = item.read_direct_chunk((10, 0, 0))
    _assert_same(path, original)
    with h5py.File(path, "a") as file:
        file["data"].id.write_direct_chunk((10, 0, 0), whole[:-40])
    with pytest.raises(DataError, match=r"block at \(10, 0, 0\) holds less"):
        open_scan(path)


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
