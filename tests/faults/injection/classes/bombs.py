"""Small files that declare, or unpack to, far more than they are: bounded before memory is taken."""

from __future__ import annotations

import bz2
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

__all__ = ["DAMAGES", "DESCRIPTIONS", "fits", "npy_header", "packed_zeros", "write_member", "zlib_zeros"]

BLOCK = 1 << 24
#: What a bomb unpacks to: above what a case may take, below what its process may address.
BOMB_BLOCKS = 160
DESCRIPTIONS = (
    "<f8",
    "<c8",
    "<u2",
    "|O",
    "|S1000000000",
    "|V9999999999",
    "<U536870911",
    "no type",
    "<f4,<i8",
)


def fits(path: Path) -> bool:
    """Whether the file is an NPZ or NPY."""
    return path.suffix in (".npz", ".npy")


def npy_header(shape: tuple[int, ...], description: str, *, fortran: bool = False) -> bytes:
    """Write the header of an NPY file that claims this shape."""
    text = f"{{'descr': {description!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    room = -(len(text) + 11) % 64
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + room + 1) + (text + " " * room + "\n").encode()
    )


def zlib_zeros(blocks: int = BOMB_BLOCKS) -> bytes:
    """Deflate gigabytes of zeros as zlib does, checksum included, in no time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (blocks * BLOCK % 65521 << 16) + 1  # what Adler's sum of zeros comes to
    return b"\x78\xda" + one * blocks + packer.flush(zlib.Z_FINISH) + checksum.to_bytes(4, "big")


@cache
def packed_zeros(beginning: bytes, blocks: int = BOMB_BLOCKS) -> tuple[bytes, int, int]:
    """Deflate a beginning and gigabytes of zeros in no time: one block of them over and over.

    Returns:
        The stream, how many bytes it unpacks to, and their checksum.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(beginning) + packer.flush(zlib.Z_FULL_FLUSH)
    first = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = packer.flush(zlib.Z_FINISH)
    checksum = zlib.crc32(beginning)
    for _ in range(blocks):
        checksum = zlib.crc32(bytes(BLOCK), checksum)
    return start + first + one * (blocks - 1) + end, len(beginning) + blocks * BLOCK, checksum


def write_member(
    path: Path, name: str, stream: bytes, size: int, checksum: int, others: dict[str, bytes]
) -> None:
    """Write a zip with a deflated member just as it is given, behind others that are stored."""
    with zipfile.ZipFile(path, "w") as archive:
        for other, content in others.items():
            archive.writestr(other, content)
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_STORED
        archive.writestr(info, stream)
        found = archive.getinfo(name)
        found.compress_type, found.file_size, found.CRC = zipfile.ZIP_DEFLATED, size, checksum
        end = archive.fp.tell()  # type: ignore[union-attr]
        # The member's own header says the same as the list at the end.
        archive.fp.seek(found.header_offset)  # type: ignore[union-attr]
        archive.fp.write(found.FileHeader(zip64=False))  # type: ignore[union-attr]
        archive.fp.seek(end)  # type: ignore[union-attr]


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _deflated(path: Path, rng: random.Random) -> None:
    """Let a member unpack to gigabytes, with the shape that says so."""
    if path.suffix == ".npy":
        _declared(path, rng)
        return
    members = _members(path)
    victim = rng.choice(sorted(members))
    shape = rng.choice(((BOMB_BLOCKS * BLOCK // 8,), (BOMB_BLOCKS * BLOCK // 8192, 32, 32)))
    stream, size, checksum = packed_zeros(npy_header(shape, "<f8"))
    del members[victim]
    write_member(path, victim, stream, size, checksum, members)


def _bzipped(path: Path, rng: random.Random) -> None:
    """Put a bz2 of gigabytes in its place; readers unpack it by its content, not its name."""
    one = bz2.compress(bytes(BLOCK))
    path.write_bytes(bz2.compress(path.read_bytes()) + one * BOMB_BLOCKS)


def _declared(path: Path, rng: random.Random) -> None:
    """Declare a shape or type that the values do not have."""
    shape = rng.choice(
        (
            (10**9, 64, 64),
            (1 << 62, 4),
            (1 << 31, 1 << 31),
            (-5, 32, 32),
            (0,),
            (30, 32, 32, 0),
            (1 << 70,),
            (30, 32, 32),
        )
    )
    content = npy_header(shape, rng.choice(DESCRIPTIONS), fortran=rng.random() < 0.2) + bytes(30 * 32 * 32)
    if path.suffix == ".npy":
        path.write_bytes(content)
        return
    members = _members(path)
    members[rng.choice(sorted(members))] = content
    with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, one in members.items():
            archive.writestr(name, one)


def _strange_archive(path: Path, rng: random.Random) -> None:
    """Members twice, with strange names, packed by other methods, encrypted, or a hundred thousand."""
    if path.suffix == ".npy":
        _declared(path, rng)
        return
    members = _members(path)
    victim, how = rng.choice(sorted(members)), rng.randrange(7)
    method = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[how % 2] if how < 2 else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if how == 2:
            archive.writestr(f"../../{victim}", members[victim])
        if how == 3:
            archive.writestr("\x1b[31m\nINFO forged.npy", members[victim])
        if how == 4:
            for number in range(20_000):
                archive.writestr(f"{number}.npy", b"")
        if how == 5:
            archive.writestr("x" * 60_000 + ".npy", members[victim])
    if how == 6:  # the flag of encryption, in both headers
        content = bytearray(path.read_bytes())
        for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            start = content.find(magic)
            content[start + offset] |= 1
        path.write_bytes(content)


def _pickled(path: Path, rng: random.Random) -> None:
    """Put an array of Python objects in: it would be unpickled, and run code."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (Path.write_text, (Path("executed"), "code ran"))  # type: ignore[return-value]

    content = io.BytesIO()
    np.lib.format.write_array(content, np.array([Trap()], object), allow_pickle=True)
    if path.suffix == ".npy":
        path.write_bytes(content.getvalue())
        return
    members = _members(path)
    members[rng.choice(sorted(members))] = content.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, one in members.items():
            archive.writestr(name, one)


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    "a member that unpacks to gigabytes": _deflated,
    "bz2 of gigabytes": _bzipped,
    "a shape that is not there": _declared,
    "a strange archive": _strange_archive,
    "a pickle": _pickled,
}
