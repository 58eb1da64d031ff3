"""The libraries that a wheel carries: which belongs to these sources, and which suits this processor.

They lie in `libraries/`, one for each level of instructions, as `step-LEVEL-SOURCES-CONTENT.so` (`.dylib`,
`.dll`), where SOURCES is the hash of the C files beside this one and CONTENT the library's own. On x86-64 a
tiny one more, `processor-CONTENT.so`, which any processor can run, tells the highest level that this one has.

The build of the wheels reads this file by its path, so that it imports nothing that is not Python's own.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

__all__ = [
    "LEVELS_OF",
    "Shipped",
    "hash_of",
    "hash_of_sources",
    "library_name",
    "shipped_library",
    "source_names",
]

_HASH_DIGITS = 20
#: The levels of each processor, by Python's names for it, the highest first. Those of x86-64 are numbered by
#: its psABI; v3 has AVX2 and FMA, v4 AVX-512.
LEVELS_OF = {
    **dict.fromkeys(("x86_64", "AMD64"), ("x86-64-v4", "x86-64-v3", "x86-64-v2")),
    **dict.fromkeys(("aarch64", "arm64"), ("neon",)),
}


@dataclass(frozen=True)
class Shipped:
    """What the wheel has for this processor.

    Attributes:
        path: the library; None where there is none to use.
        level: its instructions, such as `x86-64-v3`.
        wrong: why what is carried is not used; empty where all is well, or nothing is carried.
    """

    path: Path | None = None
    level: str = ""
    wrong: str = ""


def source_names(folder: Traversable) -> list[str]:
    """Name the C files of the kernel in their order."""
    return sorted(file.name for file in folder.iterdir() if file.name.endswith((".c", ".h")))


def hash_of_sources(folder: Traversable) -> str:
    """Return the hash of the kernel's C files, with their names."""
    digest = hashlib.sha256()
    for name in source_names(folder):
        content = folder.joinpath(name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:_HASH_DIGITS]


def hash_of(content: bytes) -> str:
    """Return the hash by which a library is called."""
    return hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]


def library_name(level: str, sources: str, content: bytes, suffix: str) -> str:
    """Name a library of a level, made from sources of a hash."""
    return f"step-{level}-{sources}-{hash_of(content)}{suffix}"


def shipped_library(folder: Path, sources: str) -> Shipped:
    """Find the library that suits this processor best; code of a level that it has not is never run.

    Args:
        folder: where libraries are, if there are any.
        sources: the hash of the sources that it must have been made from.
    Raises:
        OSError, AttributeError: what tells the processor's level cannot be read or loaded.
    """
    carried = sorted(folder.glob("step-*"))
    if not carried:
        return Shipped()
    ours = {_level_of(path): path for path in carried if path.stem.split("-")[-2] == sources}
    if not ours:
        return Shipped(wrong="was made from other sources")
    levels = LEVELS_OF.get(platform.machine(), ())
    if not any(level in ours for level in levels):
        return Shipped(wrong=f"is for other processors than {platform.machine() or 'this one'}")
    if levels[0].startswith("x86-64"):
        probe = next(iter(folder.glob("processor-*")), None)
        if probe is None or not _is_whole(probe):
            return Shipped(wrong=f"is damaged ({probe.name if probe else 'processor-*'})")
        offered = ctypes.CDLL(str(probe)).ptycho_processor_level()
        levels = tuple(level for level in levels if int(level[-1]) <= offered)
    best = next((level for level in levels if level in ours), None)
    if best is None:
        return Shipped(wrong="needs newer instructions than this processor has")
    if not _is_whole(ours[best]):
        return Shipped(wrong=f"is damaged ({ours[best].name})")
    return Shipped(ours[best], best)


def _level_of(path: Path) -> str:
    return path.stem.removeprefix("step-").rsplit("-", 2)[0]


def _is_whole(path: Path) -> bool:
    return path.stem.rpartition("-")[2] == hash_of(path.read_bytes())
