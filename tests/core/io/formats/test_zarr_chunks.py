"""A Zarr store is read as far as its arrays need, whatever its chunks and its metadata claim."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import DataError
from ptycho_core import open_scan

zarr: Any = pytest.importorskip("zarr", reason="zarr is not installed: ptycho-core[zarr]")
numcodecs: Any = pytest.importorskip("numcodecs")

SECOND: dict[str, Callable[[], Any]] = {
    "zlib": lambda: numcodecs.Zlib(),
    "gzip": lambda: numcodecs.GZip(),
    "bz2": lambda: numcodecs.BZ2(),
    "lzma": lambda: numcodecs.LZMA(),
    "lz4": lambda: numcodecs.LZ4(),
    "zstd": lambda: numcodecs.Zstd(),
    "blosc": lambda: numcodecs.Blosc(),
}
THIRD: dict[str, Callable[[], dict[str, Any]]] = {
    "zstd": lambda: {"compressors": zarr.codecs.ZstdCodec()},
    "zstd, checked": lambda: {"compressors": zarr.codecs.ZstdCodec(checksum=True)},
    "zstd, checked behind": lambda: {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]},
    "checked alone": lambda: {"compressors": zarr.codecs.Crc32cCodec()},
    "gzip": lambda: {"compressors": zarr.codecs.GzipCodec()},
    "blosc": lambda: {"compressors": zarr.codecs.BloscCodec()},
    "axes turned": lambda: {"filters": zarr.codecs.TransposeCodec(order=(2, 0, 1))},
    "shards": lambda: {"chunks": (5, 16, 32), "shards": (15, 32, 32)},
    "shards, gzip": lambda: {
        "chunks": (5, 16, 32),
        "shards": (15, 32, 32),
        "compressors": zarr.codecs.GzipCodec(),
    },
    "nothing": lambda: {"compressors": None},
}
CHECKED = ("zstd, checked", "zstd, checked behind", "checked alone", "gzip")
LARGE = 1 << 26


def _store(path: Path, original: Any, version: int = 3, **options: Any) -> Path:
    root = zarr.open_group(path, mode="w", zarr_format=version)
    root.create_array("dp", data=original.counts, **{"chunks": (10, 32, 32), **options})
    root.create_array("positions", data=original.positions_px)
    root["positions"].attrs["units"] = "px"
    root.create_array("probe", data=original.probe)
    return path


def _chunks(path: Path) -> list[Path]:
    found = (one for one in (path / "dp").rglob("*") if one.is_file() and one.suffix != ".json")
    return sorted(one for one in found if not one.name.startswith(".z"))


@pytest.mark.parametrize("codec", SECOND)
def test_every_codec_of_the_second_version_is_read_and_its_bombs_are_refused(
    codec: str, tmp_path: Path, original: Any
) -> None:
    filters = [numcodecs.Delta(dtype=original.counts.dtype), numcodecs.Shuffle(2)]
    made = SECOND[codec]()
    path = _store(tmp_path / "scan.zarr", original, 2, compressors=made, filters=filters)
    np.testing.assert_array_equal(open_scan(path).counts(), original.counts)
    _chunks(path)[1].write_bytes(made.encode(np.zeros(LARGE, np.uint8)))
    with pytest.raises(DataError, match=r"scan.zarr: chunk \(1, 0, 0\) of `dp` (expands to more|is larger)"):
        open_scan(path).counts()


@pytest.mark.parametrize("codecs", THIRD)
def test_every_codec_of_the_third_version_is_read(codecs: str, tmp_path: Path, original: Any) -> None:
    path = _store(tmp_path / "scan.zarr", original, **THIRD[codecs]())
    np.testing.assert_array_equal(open_scan(path).counts(), original.counts)
    for chunk in _chunks(path):
        chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"scan.zarr: "):
        open_scan(path).counts()


def test_chunks_that_are_not_stored_are_filled_in(tmp_path: Path, original: Any) -> None:
    counts = original.counts.copy()
    counts[10:20] = 0
    path = _store(tmp_path / "scan.zarr", original)
    assert len(_chunks(path)) == 3
    _chunks(path)[1].unlink()
    np.testing.assert_array_equal(open_scan(path, bad_frames="off").counts(), counts)


def test_a_bomb_within_a_shard_is_refused(tmp_path: Path, original: Any) -> None:
    path = _store(tmp_path / "scan.zarr", original, **THIRD["shards, gzip"]())
    shard = _chunks(path)[0]
    index = np.frombuffer(shard.read_bytes()[-(6 * 16 + 4) : -4], "<u8").reshape(6, 2).copy()
    bomb = numcodecs.GZip().encode(np.zeros(1 << 18, np.uint8))
    index[0] = shard.stat().st_size - 100, len(bomb)
    raw = index.tobytes()
    checked = np.asarray(numcodecs.CRC32C().encode(raw)).tobytes()
    shard.write_bytes(shard.read_bytes()[:-100] + bomb + checked)
    with pytest.raises(DataError, match=r"chunk \(0, 0, 0\) of `dp` expands to more than the \d+ bytes"):
        open_scan(path).counts()


def test_frames_of_zstandard_that_do_not_say_their_size_are_walked_through(
    tmp_path: Path, original: Any
) -> None:
    path = _store(tmp_path / "scan.zarr", original, compressors=zarr.codecs.ZstdCodec())
    blocks = [(length << 3 | 1 << 1).to_bytes(3, "little") + b"\x07" for length in (1 << 17,) * 1000]
    end = (1).to_bytes(3, "little")
    _chunks(path)[0].write_bytes(b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(blocks) + end)
    with pytest.raises(DataError, match=r"chunk \(0, 0, 0\) of `dp` expands to more than"):
        open_scan(path).counts()
    n_bytes = 10 * 32 * 32 * original.counts.itemsize
    block = (n_bytes << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\x01"
    for chunk in _chunks(path):
        chunk.write_bytes(b"\x28\xb5\x2f\xfd\x00\x58" + block)
    counts = open_scan(path, bad_frames="off", bad_pixels="off").counts()
    assert np.unique(counts).tolist() == [int.from_bytes(b"\x01" * original.counts.itemsize, "little")]


def test_a_chunk_of_zeros_for_gigabytes_is_not_read(tmp_path: Path, original: Any) -> None:
    path = _store(tmp_path / "scan.zarr", original)
    os.truncate(_chunks(path)[0], 1 << 30)
    with pytest.raises(DataError, match=r"chunk \(0, 0, 0\) of `dp` is larger than the"):
        open_scan(path).counts()


@pytest.mark.parametrize("name", ["zarr.json", "dp/zarr.json"])
def test_metadata_of_gigabytes_is_not_read(name: str, tmp_path: Path, original: Any) -> None:
    path = _store(tmp_path / "scan.zarr", original)
    os.truncate(path / name, 1 << 30)
    with pytest.raises(DataError, match=r"scan.zarr: zarr.json in it has 1024 MiB. Expected at most 8 MiB"):
        open_scan(path)


@pytest.mark.parametrize("name", [".zgroup", "dp/.zarray", "dp/.zattrs", ".zmetadata"])
def test_metadata_of_the_second_version_is_bounded_too(name: str, tmp_path: Path, original: Any) -> None:
    path = _store(tmp_path / "scan.zarr", original, 2)
    (path / name).touch()
    os.truncate(path / name, 1 << 30)
    with pytest.raises(DataError, match=r"has 1024 MiB. Expected at most 8 MiB"):
        open_scan(path)


def _declare(path: Path, key: str, shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    told = json.loads((path / key / "zarr.json").read_text())
    told["shape"] = shape
    told["chunk_grid"]["configuration"]["chunk_shape"] = chunk
    (path / key / "zarr.json").write_text(json.dumps(told))


def test_large_arrays_and_large_chunks_out_of_nothing_are_refused(tmp_path: Path, original: Any) -> None:
    path = _store(tmp_path / "scan.zarr", original)
    _declare(path, "dp", (30, 32, 32), (1 << 20, 32, 32))
    (path / "dp" / "c/0/0/0").write_bytes(zarr_zeros := numcodecs.Zstd().encode(bytes(100)))
    with pytest.raises(DataError, match="a chunk of `dp` would grow from"):
        open_scan(path).counts()
    assert len(zarr_zeros) < 1000
    path = _store(tmp_path / "again.zarr", original)
    _declare(path, "positions", (30_000_000_000, 2), (30, 2))
    with pytest.raises(DataError, match=r"again.zarr: `positions` with shape .* needs 447 GiB"):
        open_scan(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compressors": ["gzip", "zstd"]}, "packed by gzip and then by zstd"),
        ({"version": 2, "compressors": "vlen"}, "packed by base64"),
    ],
)
def test_codecs_that_cannot_be_looked_through_are_named(
    options: dict[str, Any], said: str, tmp_path: Path, original: Any
) -> None:
    made = {
        "gzip": lambda: zarr.codecs.GzipCodec(),
        "zstd": lambda: zarr.codecs.ZstdCodec(),
        "vlen": lambda: numcodecs.Base64(),
    }
    named = options["compressors"]
    compressors = made[named]() if isinstance(named, str) else [made[one]() for one in named]
    path = _store(tmp_path / "scan.zarr", original, **{**options, "compressors": compressors})
    with pytest.raises(DataError, match=rf"`dp` is {said}, so how large"):
        open_scan(path)


@pytest.mark.parametrize("codecs", THIRD)
def test_bits_flipped_in_a_chunk_are_told_where_there_is_a_checksum_and_never_crash(
    codecs: str, tmp_path: Path, original: Any
) -> None:
    path = _store(tmp_path / "scan.zarr", original, **THIRD[codecs]())
    chunk = _chunks(path)[0]
    sound, rng = chunk.read_bytes(), np.random.default_rng(3)
    read = 0
    for bit in rng.choice(8 * len(sound), 12, replace=False):
        spoiled = bytearray(sound)
        spoiled[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(spoiled)
        try:
            counts = open_scan(path, bad_frames="off", bad_pixels="off").counts()
        except DataError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert codecs not in CHECKED or np.array_equal(counts, original.counts)
            read += 1
    assert codecs != "nothing" or read
