"""Global heaps of HDF5 files: one that can be walked is let through, one without an end is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_config.errors import DataError
from ptycho_core.io.heaps import check_global_heaps
from ptycho_core.io.product import read_product

HEADER, OBJECT = 16, 16


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A file with texts of variable length, as an attribute and as a data set."""
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(100.0)
        file.attrs["name"] = "x" * 30
        file["texts"] = ["one", "two", "three"]
    return path


def free_room(content: bytes) -> int:
    """Where the object without a number, the free room, lies."""
    start = content.index(b"GCOL")
    here, end = start + HEADER, start + struct.unpack_from("<Q", content, start + 8)[0]
    while here < end:
        number, length = struct.unpack_from("<H6xQ", content, here)
        if number == 0:
            return here
        here += OBJECT + -(-length // 8) * 8
    raise AssertionError("the heap is full")


def test_a_sound_file_passes(texts: Path) -> None:
    check_global_heaps(texts)
    with h5py.File(texts) as file:
        assert file.attrs["name"] == "x" * 30


@pytest.mark.parametrize("length", [0, 2**64 - 16, 2**63])
def test_free_room_that_takes_no_room_is_refused(texts: Path, length: int) -> None:
    content = bytearray(texts.read_bytes())
    struct.pack_into("<Q", content, free_room(content) + 8, length)
    texts.write_bytes(content)
    with pytest.raises(DataError, match=r"texts\.h5: the HDF5 file is damaged: .*global heap at byte \d+"):
        check_global_heaps(texts)
    with pytest.raises(DataError, match="global heap"):
        read_product(texts)


def test_an_object_whose_size_wraps_to_nothing_is_refused(texts: Path) -> None:
    content = bytearray(texts.read_bytes())
    struct.pack_into("<Q", content, content.index(b"GCOL") + HEADER + 8, 2**64 - 16)
    texts.write_bytes(content)
    with pytest.raises(DataError, match="global heap"):
        check_global_heaps(texts)


@pytest.mark.parametrize("content", [b"", b"GCOL", b"GCOL\1\0\0\0" + b"\0" * 7, b"GCOL\2" + b"\0" * 90])
def test_what_is_no_heap_is_left_to_those_who_read_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(content)
    check_global_heaps(path)
    check_global_heaps(tmp_path / "nothing")
