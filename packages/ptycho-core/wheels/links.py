"""What the libraries of a wheel link to, and how large it is: faults that end the build.

lief reads the libraries of all platforms. auditwheel judges those of glibc once more; it looks for musl's
library among the host's, and so cannot judge those of musl where the host has another.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import lief
from targets import Target

__all__ = ["LARGEST_BYTES", "faults_of", "libraries_of"]

LARGEST_BYTES = 1_500_000
_PLACE = "ptycho_core/kernel/libraries/"
#: What every system of a kind has, in any of its versions that the tag names.
_GLIBC = re.compile(r"lib(c|m|pthread)\.so\.\d+|ld-linux-[\w-]+\.so\.\d+")
_MUSL = re.compile(r"libc\.so")
_MACOS = re.compile(r"/usr/lib/libSystem\.B\.dylib|@rpath/(step|processor)[\w.-]*")  # itself is named too
_WINDOWS = re.compile(r"kernel32\.dll|api-ms-win-crt-[\w-]+\.dll|msvcrt\.dll|ucrtbase\.dll", re.IGNORECASE)
#: The run-time of sanitizers, which zig adds to what is not optimised.
_SANITIZERS = re.compile(r"_+(ubsan|asan|tsan)_")
#: lief's names for processors, and those of tags.
_NAMES = {"X86_64": ("x86_64", "amd64"), "ARM64": ("aarch64", "arm64")}
_LONGEST_S = 120
lief.logging.disable()  # it says to the terminal what it answers anyway


def libraries_of(wheel: Path, folder: Path) -> list[Path]:
    """Unpack the libraries of a wheel into a folder and return them by name."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(_PLACE)]
        for name in names:
            folder.joinpath(Path(name).name).write_bytes(archive.read(name))
    return sorted(folder / Path(name).name for name in names if not name.endswith(".txt"))


def faults_of(wheel: Path, tag: str, target: Target) -> list[str]:
    """Say what is wrong with a wheel; nothing where all is well.

    Args:
        tag: the platform's part of its tag.
        target: what was to be built.
    """
    faults = []
    if wheel.stat().st_size > LARGEST_BYTES:
        faults.append(f"{wheel.stat().st_size} bytes, more than {LARGEST_BYTES}")
    with tempfile.TemporaryDirectory() as place:
        paths = libraries_of(wheel, Path(place))
        levels = {path.name.removeprefix("step-").rsplit("-", 2)[0] for path in paths if "step-" in path.name}
        if levels != set(target.levels):
            faults.append(f"has {sorted(levels)}, expected {sorted(target.levels)}")
        if target.is_x86 != any(path.name.startswith("processor-") for path in paths):
            faults.append("a library that asks the processor is there where it should not be, or is missing")
        for path in paths:
            faults += [f"{path.name}: {fault}" for fault in _of_one(path, tag)]
    with zipfile.ZipFile(wheel) as archive:
        if f"{_PLACE}LICENSES.txt" not in archive.namelist():
            faults.append("does not say under which licences the linked parts are")
    if tag.startswith("manylinux"):
        faults += _by_auditwheel(wheel, tag)
    return [f"{wheel.name}: {fault}" for fault in faults]


def _of_one(path: Path, tag: str) -> Iterator[str]:
    binary = lief.parse(str(path))
    if isinstance(binary, lief.ELF.Binary):
        allowed = _GLIBC if tag.startswith("manylinux") else _MUSL
        yield from _others([str(name) for name in binary.libraries], allowed)
        yield from _too_new(binary, tag)
        symbols = [str(symbol.name) for symbol in binary.imported_symbols]
    elif isinstance(binary, lief.MachO.Binary):
        yield from _others([str(library.name) for library in binary.libraries], _MACOS)
        symbols = [str(symbol.name) for symbol in binary.imported_symbols]
        if tag.endswith("arm64") and not binary.has_code_signature:
            yield "is not signed, and macOS would not load it"
        newer, older = binary.build_version, binary.version_min
        least = newer.minos if newer else older.version if older else None
        if least is None:
            yield "does not tell which macOS it needs"
            return
        named = [int(number) for number in tag.split("_")[1:3]]
        if list(least)[:2] > named:
            yield f"needs macOS {least}, the tag says {named}"
    elif isinstance(binary, lief.PE.Binary):
        yield from _others([str(library.name) for library in binary.imports], _WINDOWS)
        symbols = [str(entry.name) for library in binary.imports for entry in library.entries]
    else:
        yield "is no library"
        return
    yield from (f"calls {name}" for name in symbols if _SANITIZERS.match(name))
    machine = binary.abstract.header.architecture.name
    if not tag.endswith(_NAMES.get(machine, ())):
        yield f"is for {machine}"


def _others(names: list[str], allowed: re.Pattern[str]) -> Iterator[str]:
    for name in names:
        if not allowed.fullmatch(name):
            yield f"links to {name}"


def _too_new(binary: lief.ELF.Binary, tag: str) -> Iterator[str]:
    """Versions of glibc's symbols that are newer than the tag."""
    named = re.match(r"manylinux_(\d+)_(\d+)_", tag)
    for needed in binary.symbols_version_requirement:
        for version in needed.get_auxiliary_symbols():
            found = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(\.\d+)?", str(version.name))
            if not named or not found or (int(found[1]), int(found[2])) > (int(named[1]), int(named[2])):
                yield f"needs {version.name} of {needed.name}"


def _by_auditwheel(wheel: Path, tag: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(wheel)],
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        check=False,
    )
    said = " ".join(done.stdout.split())
    if done.returncode == 0 and f'following platform tag: "{tag}"' in said:
        return []
    return [f"auditwheel says: {said or done.stderr.strip().splitlines()[-1]}"]
