"""The compiled kernel in the cache, damaged or another's: rebuilt; no run ends, no image is wrong."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from injection.case import Act, Case
from injection.classes import byte_damage, paths_damage
from injection.ground import Ground

__all__ = ["draw"]

WORDS = ("reconstruct", "scan.npz", "--effort", "fast", "--output-dir", "out")
#: A library of the right names that computes nothing.
FOREIGN = """
#include <stdint.h>
double ptycho_step(void *a, void *b) { return 0; }
void ptycho_proximal(void *a) {}
int64_t ptycho_scratch_floats(int32_t a, int32_t b, int64_t c) { return 1 << 20; }
int32_t ptycho_vector_width(void) { return 8; }
"""
#: The image is that of the sound kernel.
SAME = """
from ptycho_core import Reconstruction
found, right = Reconstruction.load(place / "out").data_residual, $RIGHT
assert abs(found / right - 1) < 0.02, (found, right)
"""


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw what is done to the library, or to its folder."""
    name = rng.choice(sorted(DAMAGES))
    seed = rng.randrange(1000)

    def prepare(place: Path) -> list[Act]:
        from ptycho_core import Reconstruction

        shutil.copytree(ground.cache, place / "cache")
        shutil.copy(ground.scan, place / "scan.npz")
        libraries = sorted((place / "cache" / "kernels").rglob("*.so"))
        if libraries:
            DAMAGES[name](libraries[0], random.Random(seed))
        check = SAME.replace("$RIGHT", repr(Reconstruction.load(ground.result).data_residual))
        environment: dict[str, str | None] = {"PTYCHO_CACHE_DIR": "cache"}
        # The second run shows whether it has healed.
        return [Act(WORDS, codes=frozenset({0}), environment=environment, patience_s=60, check=check)] * 2

    return Case("cache", f"{name} ({seed})", prepare)


def _foreign(path: Path, rng: random.Random) -> None:
    source = path.with_name("foreign.c")
    source.write_text(FOREIGN)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    source.unlink()


def _zero_pages(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    page = rng.randrange(1, len(content) // 4096)
    content[4096 * page : 4096 * (page + 3)] = bytes(len(content[4096 * page : 4096 * (page + 3)]))
    path.write_bytes(content)


def _of_another(path: Path, rng: random.Random) -> None:
    path.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(path, 1000, 1000)


def _open_folder(path: Path, rng: random.Random) -> None:
    path.parent.chmod(0o777)


def _leftovers(path: Path, rng: random.Random) -> None:
    for name in ("build-abc123", "build-xyz"):
        (path.parent / name).mkdir()
        (path.parent / name / "fused.so").write_bytes(path.read_bytes()[:5000])
    path.unlink()


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    **{
        f"the library, {name}": one
        for name, one in byte_damage.DAMAGES.items()
        if name != "zeros for gigabytes"
    },
    **{f"in its place, {name}": one for name, one in paths_damage.DAMAGES.items() if "stranger" not in name},
    "pages of zeros": _zero_pages,
    "another library of the right names": _foreign,
    "a library of another user": _of_another,
    "a folder where anybody writes": _open_folder,
    "leftovers of a build": _leftovers,
}
