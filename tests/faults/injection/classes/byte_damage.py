"""Damage to the bytes of any file: cut, flipped, overwritten, moved, made longer."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

__all__ = ["DAMAGES"]

Damage = Callable[[Path, random.Random], object]


def _edited(edit: Callable[[bytearray, random.Random], bytes | bytearray]) -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        path.write_bytes(edit(bytearray(path.read_bytes()), rng))

    return damage


def _place(content: bytearray, rng: random.Random) -> int:
    """Choose a byte; half of them among the first, where headers and trees are, or the last."""
    if not content:
        return 0
    where = rng.random()
    if where < 0.35:
        return rng.randrange(min(len(content), 4096))
    if where < 0.5:
        return len(content) - 1 - rng.randrange(min(len(content), 600))
    return rng.randrange(len(content))


def _flip(content: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 4, 64))):
        content[_place(content, rng)] ^= 1 << rng.randrange(8)
    return content


def _overwrite(content: bytearray, rng: random.Random) -> bytearray:
    start, length = _place(content, rng), rng.choice((1, 4, 8, 64, 4096))
    filling = rng.choice((b"\0", b"\xff", b"\x7f", b"A"))
    content[start : start + length] = filling * min(length, len(content) - start)
    return content


def _large_numbers(content: bytearray, rng: random.Random) -> bytearray:
    """Write numbers at the edge of their type where a size, an offset or a count may be."""
    for _ in range(rng.choice((1, 2, 8))):
        width = rng.choice((2, 4, 8))
        number = rng.choice((0, 1, (1 << 8 * width - 1) - 1, 1 << 8 * width - 1, (1 << 8 * width) - 1))
        start = _place(content, rng) // 4 * 4
        content[start : start + width] = number.to_bytes(width, "little")
    return content


def _cut_out(content: bytearray, rng: random.Random) -> bytearray:
    start = _place(content, rng)
    del content[start : start + rng.choice((1, 8, 512))]
    return content


def _put_in(content: bytearray, rng: random.Random) -> bytearray:
    start = _place(content, rng)
    content[start:start] = rng.randbytes(rng.choice((1, 8, 512)))
    return content


def _swap_blocks(content: bytearray, rng: random.Random) -> bytearray:
    length = rng.choice((16, 512, 4096))
    one, other = _place(content, rng), _place(content, rng)
    first, second = content[one : one + length], content[other : other + length]
    content[one : one + length], content[other : other + length] = second, first
    return content


def _sparse_tail(path: Path, rng: random.Random) -> None:
    """Say that the file is gigabytes long; the disk holds none of them."""
    os.truncate(path, rng.choice((1 << 28, 1 << 30)))


DAMAGES: dict[str, Damage] = {
    "cut": _edited(lambda content, rng: content[: _place(content, rng)]),
    "cut to nothing": _edited(lambda content, rng: b""),
    "one byte": _edited(lambda content, rng: content[:1]),
    "bits flipped": _edited(_flip),
    "bits flipped more": _edited(_flip),
    "overwritten": _edited(_overwrite),
    "edge numbers": _edited(_large_numbers),
    "cut out": _edited(_cut_out),
    "put in": _edited(_put_in),
    "blocks swapped": _edited(_swap_blocks),
    "garbage": _edited(lambda content, rng: rng.randbytes(rng.choice((1, 100, 100_000)))),
    "garbage behind its beginning": _edited(
        lambda content, rng: bytes(content[: rng.choice((4, 8, 64, 512))]) + rng.randbytes(4096)
    ),
    "garbage behind its end": _edited(lambda content, rng: bytes(content) + rng.randbytes(4096)),
    "twice": _edited(lambda content, rng: bytes(content) * 2),
    "zeros for gigabytes": _sparse_tail,
}
