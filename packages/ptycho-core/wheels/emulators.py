"""Run the libraries of every platform that this host can run or emulate, and compare with what it computes.

Linux programs of its own processor run as they are, each by the loader of its C library; those of aarch64 by
qemu's user emulation; those of Windows by Wine. Nothing here emulates macOS.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from targets import Target, compile_program

__all__ = ["Runner", "Tried", "runner_for", "tried", "tried_levels"]

#: More than rounding that differs from processor to processor, less than any fault.
_LARGEST_DIFFERENCE = 1e-5
_LONGEST_S = 600
_DRIVER = Path(__file__).parent / "replay.c"
#: More folders with the system libraries of a foreign Linux, between the separators of PATH.
ROOTS_VARIABLE = "PTYCHO_FOREIGN_ROOTS"
#: Processors that qemu knows, with the level of x86-64 that each has there.
_EMULATED_LEVELS = {"qemu64": 1, "Nehalem": 2, "Haswell": 3}
_WINE = ("wine64", "wine", "/usr/lib/wine/wine64")


@dataclass(frozen=True)
class Runner:
    """How programs of a platform are run here.

    Attributes:
        words: what stands before the program; None where they cannot be run.
        where: in words for the table.
    """

    words: tuple[str, ...] | None
    where: str


@dataclass(frozen=True)
class Tried:
    """What came of the libraries of one wheel.

    Attributes:
        runs: what ran where, in words for the table.
        faults: what went wrong; empty where all is well.
    """

    runs: tuple[str, ...]
    faults: tuple[str, ...] = ()


def runner_for(tag: str) -> Runner:
    """Find what runs the programs of a platform on this host."""
    machine = "aarch64" if tag.endswith(("aarch64", "arm64")) else "x86_64"
    native = platform.machine().replace("arm64", "aarch64").replace("AMD64", "x86_64") == machine
    if tag.startswith("macosx"):
        if sys.platform == "darwin" and native:
            return Runner((), "macOS")
        return Runner(None, "not run: nothing emulates macOS here")
    if tag.startswith("win"):
        if os.name == "nt":
            return Runner((), "Windows")
        wine = next((found for name in _WINE if (found := shutil.which(name))), None)
        return Runner((wine,), "Wine") if wine else Runner(None, "not run: no Wine here")
    if sys.platform != "linux":
        return Runner(None, "not run: no Linux here")
    loader = f"lib/ld-musl-{machine}.so.1" if tag.startswith("musl") else _glibc_loader(machine)
    library = "musl" if tag.startswith("musl") else "glibc"
    given = os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep)
    roots = [*filter(None, given), "/", f"/usr/{machine}-linux-gnu"]
    root = next((root for root in roots if Path(root, loader).exists()), None)
    if root is None:
        return Runner(None, f"not run: no /{loader} here")
    if native:
        return Runner((str(Path(root, loader)),), f"Linux {machine}, {library}")
    emulator = shutil.which(f"qemu-{machine}-static") or shutil.which(f"qemu-{machine}")
    if emulator is None:
        return Runner(None, f"not run: no qemu-{machine} here")
    return Runner((emulator, "-L", root), f"qemu-{machine}, {library}")


def _glibc_loader(machine: str) -> str:
    return "lib64/ld-linux-x86-64.so.2" if machine == "x86_64" else "lib/ld-linux-aarch64.so.1"


def tried(tag: str, target: Target, libraries: list[Path], calls: Path) -> Tried:
    """Make the recorded calls of each library of a wheel, of the levels that the processor has.

    Args:
        libraries: those of the wheel, unpacked.
        calls: what `recorded.py` wrote.
    """
    runner = runner_for(tag)
    if runner.words is None:
        return Tried((runner.where,))
    runs, faults = [], []
    with tempfile.TemporaryDirectory() as place:
        driver = Path(place, "replay.exe" if target.suffix == ".dll" else "replay")
        compile_program(target, _DRIVER, driver)
        level = _level(runner, driver, libraries) if target.is_x86 else 0
        for library in libraries:
            name = library.name.removeprefix("step-").rsplit("-", 2)[0]
            if library.name.startswith("processor-"):
                continue
            if target.is_x86 and int(name[-1]) > level:
                runs.append(f"{name} not run: the processor has not its instructions")
                continue
            done = _ran((*runner.words, str(driver), str(library), str(calls)))
            if done.returncode:
                faults.append(f"{library.name}, {runner.where}: {done.stderr.strip() or done.returncode}")
                continue
            _, _, difference = done.stdout.split()
            runs.append(f"{name}: {runner.where}, {_shown(float(difference))}")
            if not float(difference) < _LARGEST_DIFFERENCE:
                faults.append(f"{library.name}, {runner.where}: differs by {difference} from this host's")
    return Tried(tuple(runs), tuple(faults))


def tried_levels(target: Target, libraries: list[Path], calls: Path) -> Tried:
    """See that processors of every level are told their own, and that each runs what it is told."""
    emulator = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
    if emulator is None or sys.platform != "linux" or platform.machine() != "x86_64":
        return Tried(("lower levels not emulated: no qemu-x86_64 here",))
    runs, faults = [], []
    with tempfile.TemporaryDirectory() as place:
        driver = Path(place, "replay")
        compile_program(target, _DRIVER, driver)
        for processor, expected in _EMULATED_LEVELS.items():
            runner = Runner((emulator, "-cpu", processor), f"qemu's {processor}")
            found = _level(runner, driver, libraries)
            if found != expected:
                faults.append(f"{runner.where} is told x86-64-v{found}, and has v{expected}")
            for library in libraries:
                if not library.name.startswith(f"step-x86-64-v{expected}-"):
                    continue
                done = _ran((*(runner.words or ()), str(driver), str(library), str(calls)))
                difference = float(done.stdout.split()[-1]) if done.returncode == 0 else float("inf")
                runs.append(f"x86-64-v{expected}: {runner.where}, {_shown(difference)}")
                if not difference < _LARGEST_DIFFERENCE:
                    faults.append(f"{library.name}, {runner.where}: {done.stderr.strip() or difference}")
    return Tried(tuple(runs), tuple(faults))


def _shown(difference: float) -> str:
    return f"{difference:.0e}" if difference else "equal"


def _level(runner: Runner, driver: Path, libraries: list[Path]) -> int:
    probe = next(library for library in libraries if library.name.startswith("processor-"))
    done = _ran((*(runner.words or ()), str(driver), str(probe)))
    return int(done.stdout) if done.returncode == 0 else 0


def _ran(words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    own = {"WINEDEBUG": "-all", "DISPLAY": ""}
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        check=False,
        env={"WINEPREFIX": str(Path(tempfile.gettempdir(), "ptycho-wine")), **os.environ, **own},
    )
