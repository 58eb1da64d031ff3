"""Something else in a file's place: a FIFO, a device, a folder, a link to nowhere, another format."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

__all__ = ["DAMAGES", "put_fifo", "put_socket"]

Damage = Callable[[Path, random.Random], object]


def _removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def put_fifo(path: Path, rng: random.Random) -> None:
    """Put a FIFO in its place: opening it waits for ever."""
    _removed(path)
    os.mkfifo(path)


def put_socket(path: Path, rng: random.Random) -> None:
    """Put a socket in its place."""
    _removed(path)
    before = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def _linked(target: str) -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        _removed(path)
        path.symlink_to(target.replace("ITSELF", path.name))

    return damage


def _folder(path: Path, rng: random.Random) -> None:
    _removed(path)
    path.mkdir()
    if rng.random() < 0.5:
        (path / "something.txt").write_text("not a frame\n")


def _beside(name: str) -> Damage:
    """Leave the file and put a stranger of that name beside it."""

    def damage(path: Path, rng: random.Random) -> None:
        other = path.with_name(name.replace("SUFFIX", path.suffix))
        if rng.random() < 0.3:
            os.mkfifo(other)
        elif path.is_file():
            other.write_bytes(path.read_bytes() if rng.random() < 0.5 else rng.randbytes(100))

    return damage


def _gone(path: Path, rng: random.Random) -> None:
    _removed(path)


DAMAGES: dict[str, Damage] = {
    "a FIFO": put_fifo,
    "a socket": put_socket,
    "a folder": _folder,
    "gone": _gone,
    "a link to a FIFO": lambda path, rng: (
        put_fifo(path, rng),
        path.rename(path.with_name("fi%fo")),
        path.symlink_to("fi%fo"),
    )[0],
    "a link to nowhere": _linked("nowhere"),
    "a link to itself": _linked("ITSELF"),
    "a link to zeros without end": _linked("/dev/zero"),
    "a link to a full device": _linked("/dev/full"),
    "a link to a terminal": _linked("/dev/tty"),
    "a link to its folder": _linked("."),
    "a link to the memory of processes": _linked("/proc/self/mem"),
    "a stranger with an escape sequence": _beside("zz\x1b[2J\nINFO forged SUFFIX"),
    "a stranger that is not UTF-8": _beside("m\udcfcller SUFFIX"),
    "a stranger of two hundred letters": _beside("x" * 200 + "SUFFIX"),
    "a hidden stranger": _beside(".hiddenSUFFIX"),
}
