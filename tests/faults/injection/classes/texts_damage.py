"""Damage to files of text and tags: CSV, JSON of a Zarr store, TIFF."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

__all__ = ["DAMAGES", "fits"]

Edit = Callable[[str, random.Random], str]
OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="32" SizeY="32" '
    'SizeZ="{frames}" SizeC="1" SizeT="1"><TiffData FirstZ="0" IFD="0" PlaneCount="1">'
    '<UUID FileName="{target}">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
)


def fits(path: Path) -> bool:
    """Whether the file is text or TIFF."""
    return path.suffix in (".csv", ".json", ".tif")


def _one_line(edit: Edit) -> Edit:
    def change(text: str, rng: random.Random) -> str:
        lines = text.splitlines()
        number = rng.randrange(len(lines))
        lines[number] = edit(lines[number], rng)
        return "\n".join(lines)

    return change


def _one_number(new: str) -> Edit:
    def edit(line: str, rng: random.Random) -> str:
        parts = line.replace(":", ",").split(",")
        part = rng.choice(parts)
        return line.replace(part, new, 1) if part else line + new

    return _one_line(edit)


TEXTS: dict[str, Edit] = {
    **{
        f"a number is {number}": _one_number(number)
        for number in ("nan", "inf", "1e400", "-1e18", "", "0x10", "true")
    },
    "a number of a thousand digits": _one_number("9" * 1000),
    "an escape sequence": _one_number("\x1b[31m\x07"),
    "a line of a megabyte": _one_line(lambda line, rng: line * (1_000_000 // max(1, len(line)))),
    "a line less": _one_line(lambda line, rng: ""),
    "a column more": _one_line(lambda line, rng: f"{line},7"),
    "a quote left open": _one_line(lambda line, rng: f'"{line}'),
    "a zero byte": _one_line(lambda line, rng: f"{line}\0"),
    "brackets a hundred thousand deep": lambda text, rng: "[" * 100_000,
    "only its first line": lambda text, rng: text.splitlines()[0],
    "other ends of lines": lambda text, rng: text.replace("\n", "\r"),
    "semicolons": lambda text, rng: text.replace(",", ";"),
    "all lines twice": lambda text, rng: f"{text}\n{text}",
    "an object": lambda text, rng: "{}",
}
CODES = ("utf-16", "utf-8-sig", "utf-32", "latin-1")


def _text(edit: Edit) -> Callable[[Path, random.Random], object]:
    def damage(path: Path, rng: random.Random) -> None:
        if path.suffix == ".tif":
            _tags(path, rng)
        else:
            path.write_bytes(edit(path.read_text("utf-8"), rng).encode())

    return damage


def _coded(path: Path, rng: random.Random) -> None:
    if path.suffix == ".tif":
        _companion(path, rng)
    else:
        path.write_bytes(path.read_text("utf-8").encode(rng.choice(CODES)))


def _tags(path: Path, rng: random.Random) -> None:
    """Write a TIFF whose tags say what they like."""
    side = rng.choice((32, 0, 1, 1 << 16, (1 << 32) - 1))
    packed = rng.choice((1, 5, 8, 32773, 34925, 50000, 34712, 9999))
    bits = rng.choice((16, 1, 12, 64, 65535))
    tags = [
        *((256, 4, 1, side), (257, 4, 1, rng.choice((32, side))), (258, 3, 1, bits), (259, 3, 1, packed)),
        *((262, 3, 1, rng.choice((1, 2, 6))), (273, 4, 1, rng.choice((200, 0, 1 << 31))), (277, 3, 1, 1)),
        *((278, 4, 1, 32), (279, 4, 1, rng.choice((2048, 0, 1 << 31)))),
        (317, 3, 1, rng.choice((1, 2, 3))),
    ]
    following = rng.choice((0, 8, 1 << 31))  # 8: the page is its own next one
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    path.write_bytes(head.ljust(200, b"\0") + rng.randbytes(2048))


def _companion(path: Path, rng: random.Random) -> None:
    """Let OME metadata lead to another file, which is a FIFO, a device, or far more frames than there are."""
    import numpy as np
    import tifffile

    target = rng.choice(
        ("fifo.tif", "/dev/zero", "../../outside.tif", "\x1b.tif".replace("\x1b", "&#27;"), path.name)
    )
    if not (path.parent / "fifo.tif").exists():
        os.mkfifo(path.parent / "fifo.tif")
    text = OME.format(frames=rng.choice((30, 10**9)), target=target)
    tifffile.imwrite(
        path, np.ones((1, 32, 32), "u2"), photometric="minisblack", metadata=None, description=text
    )


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    **{name: _text(edit) for name, edit in TEXTS.items()},
    "coded otherwise": _coded,
    "coded otherwise, again": _coded,
}
