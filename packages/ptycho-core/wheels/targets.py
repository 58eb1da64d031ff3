"""The platforms for which wheels carry the compiled kernel, and how their libraries are made.

zig's C compiler makes all of them on any of them: it brings the headers and start-up code of each system's C
library. `hatch_build.py` reads this file by its path; as a program it lists the platforms.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TARGETS", "Target", "compile_library", "compile_program", "licences"]

#: Those of `kernel.build`, with instructions named instead of the host's, and zig's own checks left out.
_COMPILED = (
    *("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-sanitize=undefined", "-fPIC", "-pthread", "-c"),
)
_LINKED = ("-shared", "-pthread", "-s", "-lm")
#: zig's names for what the levels of `kernel.shipped` may use.
_X86 = {"x86-64-v2": "x86_64_v2", "x86-64-v3": "x86_64_v3", "x86-64-v4": "x86_64_v4"}
#: Beside much other work: the first call for a platform also compiles what its libraries need besides.
_LONGEST_S = 3600


@dataclass(frozen=True)
class Target:
    """One platform.

    Attributes:
        triple: zig's name for it, with the oldest C library or system that will do.
        levels: zig's processor for each level of instructions.
        suffix: of its libraries.
        linked: what of zig's files is linked in, by its folder or file: their licences go into the wheel.
    """

    triple: str
    levels: dict[str, str]
    suffix: str
    linked: tuple[str, ...] = ()

    @property
    def is_x86(self) -> bool:
        """Whether the processor has to be asked for its level."""
        return self.triple.startswith("x86_64")

    @property
    def any_processor(self) -> str:
        """zig's name for what every processor of the platform can do."""
        return "x86_64" if self.is_x86 else self.levels["neon"]


_GLIBC = ("lib/libc/glibc/LICENSES",)
_MUSL = ("lib/libc/musl/COPYRIGHT",)
_MINGW = ("lib/libc/mingw/COPYING", "lib/libc/mingw/winpthreads/thread.c")
#: By the platform's part of the wheel's tag. macOS tells a program of AVX-512 only once it has been used, so
#: that nobody can ask first: its wheel goes up to v3.
TARGETS = {
    "manylinux_2_17_x86_64": Target("x86_64-linux-gnu.2.17", _X86, ".so", _GLIBC),
    "manylinux_2_17_aarch64": Target("aarch64-linux-gnu.2.17", {"neon": "generic"}, ".so", _GLIBC),
    "musllinux_1_2_x86_64": Target("x86_64-linux-musl", _X86, ".so", _MUSL),
    "musllinux_1_2_aarch64": Target("aarch64-linux-musl", {"neon": "generic"}, ".so", _MUSL),
    "macosx_11_0_arm64": Target("aarch64-macos.11.0", {"neon": "apple_m1"}, ".dylib"),
    "macosx_10_13_x86_64": Target(
        "x86_64-macos.10.13", {level: _X86[level] for level in ("x86-64-v2", "x86-64-v3")}, ".dylib"
    ),
    "win_amd64": Target("x86_64-windows-gnu", _X86, ".dll", _MINGW),
}


def compile_library(target: Target, processor: str, source: Path, made: Path) -> None:
    """Make a library of one C file, for what `processor` (zig's name) can do.

    What is linked to it is made for every processor of the platform: that is made once and kept by zig.

    Raises:
        RuntimeError: the compiler's own words.
    """
    compiled = made.with_suffix(".o")
    _zig(target, processor, *_COMPILED, source.name, "-o", str(compiled), place=source.parent)
    names = (f"-Wl,-install_name,@rpath/{made.name}",) if "macos" in target.triple else ()
    _zig(target, target.any_processor, *_LINKED, *names, compiled.name, "-o", made.name, place=made.parent)


def compile_program(target: Target, source: Path, made: Path) -> None:
    """Make a program of one C file, which finds the libraries that it opens on the platform.

    Raises:
        RuntimeError: the compiler's own words.
    """
    words = ("-std=gnu11", "-O2", "-fno-sanitize=undefined", source.name, "-o", str(made), "-lm")
    # musl's programs are static where nothing is said, and static ones open no library.
    dynamic = () if target.suffix == ".dll" else ("-dynamic", "-ldl")
    _zig(target, target.any_processor, *words, *dynamic, place=source.parent)


def _zig(target: Target, processor: str, *words: str, place: Path) -> None:
    """Call zig's C compiler. It works in the files' folder, whose path must not get into a library."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target.triple, f"-mcpu={processor}", *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}\n{done.stderr.strip()}")


def licences(target: Target, zig: Path) -> str:
    """Put together the licences of what the compiler adds to the libraries of a platform.

    Args:
        zig: the folder of the compiler, which holds their texts.
    Raises:
        OSError: a text is not where it was.
    """
    parts = [
        "The libraries beside this file are under the licence of ptycho-core. The compiler adds small parts\n"
        "of its own run-time library and of the platform's C library (start-up code; on Windows threads\n"
        "too). Their licences:"
    ]
    for name in ("LICENSE", *target.linked):
        text = (zig / name).read_text(encoding="utf-8")
        if name.endswith(".c"):  # a licence in the head of a source
            text = text.partition("/*")[2].partition("*/")[0]
        parts.append(f"{'=' * 78}\nziglang/{name}\n{'=' * 78}\n{text.strip()}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(*TARGETS)
