"""TIFF files that are whole and wrong: pages too large, packed to too much or to nothing, companions."""

from __future__ import annotations

import lzma
import os
import struct
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import DataError
from ptycho_core import open_scan


@cache
def _zeros_in_lzma(size: int) -> bytes:
    return lzma.compress(bytes(size), preset=0)


def test_a_tiff_that_declares_a_huge_page_is_refused(tmp_path: Path, original: Any) -> None:
    """One strip of a few bytes that claims to be 2^31 pixels."""
    entries = [
        (256, 4, 1 << 16),
        (257, 4, 1 << 15),
        (258, 3, 16),
        (259, 3, 8),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 1 << 15),
        (279, 4, 8),
    ]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    directory = struct.pack("<H", len(entries)) + body + struct.pack("<I", 0)
    (tmp_path / "bomb.tif").write_bytes(b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory)
    np.save(tmp_path / "p.npy", original.positions_px)
    with pytest.raises(DataError, match="cannot be read as TIFF"):
        open_scan(tmp_path / "bomb.tif", positions_file=tmp_path / "p.npy")


def _one_page(path: Path, compression: int, stored: bytes) -> Path:
    """A TIFF of 32 x 32 pixels of 16 bits in one strip, whatever the strip holds."""
    tags = (256, 32), (257, 32), (258, 16), (259, compression), (262, 1), (273, 200), (277, 1), (278, 32)
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in (*tags, (279, len(stored))))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags) + 1) + body + bytes(4)
    path.write_bytes(head.ljust(200, b"\0") + stored)
    return path


def _zstandard(size: int) -> bytes:
    """A frame that does not say its size, of zeros in blocks of 128 KiB."""
    block = (1 << 17 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x58" + block * (size >> 17) + (1).to_bytes(3, "little")


@pytest.mark.parametrize(
    ("compression", "stored", "said"),
    [
        (34925, lambda: b"no stream of LZMA", "one.tif: cannot be read as TIFF"),
        (50000, lambda: _zstandard(1 << 27), "expands to more than the 2048 bytes"),
        (50000, lambda: bytes(2048), "one.tif: cannot be read as TIFF"),  # Zstandard
        (1, np.arange(600, dtype=np.uint16).tobytes, "page 0 is stored in 1200 of 2048 bytes"),
        (8, lambda: zlib.compress(bytes(1 << 28), 9), "expands to more than the 2048 bytes"),
        (34925, lambda: _zeros_in_lzma(1 << 26), "expands to more than the 2048 bytes"),
        (
            34925,
            lambda: _zeros_in_lzma(2048) + _zeros_in_lzma(1 << 26),
            "expands to more than the 2048 bytes",
        ),
    ],
)
def test_a_packed_page_that_cannot_be_read_is_one_line(
    tmp_path: Path, compression: int, stored: Callable[[], bytes], said: str
) -> None:
    np.save(tmp_path / "p.npy", np.arange(8.0).reshape(4, 2))
    for number in range(4):
        _one_page(tmp_path / f"{number}.tif", 1, np.full((32, 32), 9 + number, np.uint16).tobytes())
    _one_page(tmp_path / "one.tif", compression, stored())
    (tmp_path / "0.tif").unlink()
    with pytest.raises(DataError, match=said):
        open_scan(tmp_path, positions_file=tmp_path / "p.npy")


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (
            _zstandard(1 << 17),
            r"are packed \(ZSTD\) in a way that another package unpacks. Type `pip install",
        ),
        (_zstandard(1 << 17)[:-2], r"cannot be read as TIFF \(page 0 is damaged\)"),
        (b"\x29" + _zstandard(1 << 17)[1:], r"cannot be read as TIFF \(page 0 is damaged\)"),
    ],
)
def test_a_package_that_is_missing_is_named_for_pages_that_may_be_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bytes, said: str
) -> None:
    for module in ("imagecodecs", "compression", "compression.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    np.save(tmp_path / "p.npy", np.arange(2.0).reshape(1, 2))
    one = _one_page(tmp_path / "one.tif", 50000, stored)
    with pytest.raises(DataError, match=said):
        open_scan(one, positions_file=tmp_path / "p.npy")


def test_the_companions_of_an_ome_tiff_are_not_followed(tmp_path: Path, original: Any) -> None:
    """Each file is read for its own pages; what it names, a pipe or a file elsewhere, is not opened."""
    import tifffile

    part = (
        '<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
    )
    parts = part.format(z=0, name="0.ome.tif") + part.format(z=1, name="../pipe")
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="32" SizeY="32" SizeZ="30" SizeC="1" SizeT="1">{parts}</Pixels></Image></OME>'
    )
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "in").mkdir()
    for number, frame in enumerate(original.counts.astype(np.uint16)):
        about = {"photometric": "minisblack", "metadata": None, "description": text}
        tifffile.imwrite(tmp_path / "in" / f"{number}.ome.tif", frame, **about)
    np.save(tmp_path / "p.npy", original.positions_px)
    scan = open_scan(tmp_path / "in", positions_file=tmp_path / "p.npy")
    np.testing.assert_array_equal(scan.counts(), original.counts)
