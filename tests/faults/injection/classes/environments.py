"""What surrounds a process: locale and encoding, its outputs, folders, limits, names."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from injection.case import Act, Case
from injection.ground import Ground

__all__ = ["draw"]

QUICK = ("--effort", "fast", "--solver-epochs", "2", "--output-dir")
COMMANDS: dict[str, tuple[str, ...]] = {
    "reconstruct": ("reconstruct", "müller.npz", *QUICK, "out"),
    "inspect": ("inspect", "müller.npz"),
    "report": ("report", "result"),
    "simulate": ("simulate", "--frames", "20", "--size", "32", "--output", "out.npz"),
    "config": ("config", "show"),
    "--help": ("reconstruct", "--help"),
    "backends": ("backends",),
}
DONE, OR_LIMIT, REFUSED = frozenset({0}), frozenset({0, 1}), frozenset({1, 2, 3})
RESULT = "from ptycho_core import Reconstruction\nReconstruction.load(place / 'out')"
ESCAPES = "\x1b[2J\nINFO forged \x07"


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw variables, outputs, a limit, a folder that cannot be written, or a name."""
    kind = rng.choices(("variables", "outputs", "limits", "folders", "names"), (5, 4, 3, 5, 3))[0]
    if kind == "folders":
        name = rng.choice(sorted(FOLDERS))
        words, codes, make = FOLDERS[name]
        return _case(ground, f"folders: {name}", words, codes, make)
    if kind == "names":
        return _names(rng, ground)
    command = rng.choice(sorted(COMMANDS))
    words = COMMANDS[command]
    if kind == "variables":
        chosen = rng.sample(VARIABLES, k=rng.choice((1, 1, 2)))
        environment = {name: value for one in chosen for name, value in one.items()}
        # Only what the words themselves hold may be more than a locale can say.
        return _case(ground, f"{environment}, {command}", words, DONE, environment=environment, process=True)
    if kind == "outputs":
        ends = rng.choice(OUTPUTS)
        codes = OR_LIMIT if "full" in ends or ends[0] == "closed" else DONE
        check = RESULT if command == "reconstruct" else ""
        return _case(
            ground,
            f"stdout {ends[0]}, stderr {ends[1]}, {command}",
            words,
            codes,
            stdout=ends[0],
            stderr=ends[1],
            process=True,
            check=check,
            told=False,
        )
    if rng.random() < 0.5:
        most = rng.choice((100_000, 1_000_000, 50_000, 10_000, 1))
        return _case(
            ground,
            f"files of {most} bytes, {command}",
            words,
            OR_LIMIT,
            file_bytes=most,
            process=True,
            stdout="null",
            stderr="null",
        )
    mib = rng.choice((150, 200, 256, 300, 360, 450, 600, 1000, 2000))
    return _case(
        ground,
        f"{mib} MiB of addresses, {command}",
        words,
        OR_LIMIT,
        address_space_bytes=mib << 20,
        process=True,
        told=False,
    )


def _case(
    ground: Ground,
    name: str,
    words: tuple[str, ...],
    codes: frozenset[int],
    make: Callable[[Path], object] | None = None,
    **options: Any,
) -> Case:
    def prepare(place: Path) -> list[Act]:
        ground.put(place, f"{name} {' '.join(words)}")
        ground.put(place, " ".join(words), scan="müller.npz", results=())
        if make is not None:
            make(place)
        return [Act(words, codes=codes, patience_s=25, **options)]

    return Case("environment", name, prepare)


VARIABLES: list[dict[str, str | None]] = [
    *(
        {"LC_ALL": value, "LANG": value}
        for value in ("C", "POSIX", "C.UTF-8", "en_US.ISO-8859-1", "nonsense", "de_DE.UTF-8")
    ),
    *(
        {"PYTHONIOENCODING": value}
        for value in ("ascii", "latin-1", "utf-8", "utf-16", "cp1252", "ascii:strict")
    ),
    *({"PYTHONUTF8": value, "LC_ALL": "C"} for value in ("0", "1")),
    *({"PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONUTF8": "0"},),
    *({"HOME": None, "XDG_CACHE_HOME": None, "PTYCHO_CACHE_DIR": None},),
    *({"HOME": value, "PTYCHO_CACHE_DIR": None} for value in ("/nowhere", "/dev/null", "")),
    *({"PTYCHO_CACHE_DIR": value} for value in ("/dev/null", "/nowhere/at/all", "/proc")),
    *({"TMPDIR": value} for value in ("/nowhere", "/dev/null")),
    {"PATH": ""},
    {"PATH": "/nowhere", "PTYCHO_CACHE_DIR": "cache"},
    {"CC": "false", "PTYCHO_CACHE_DIR": "cache"},
    *({"COLUMNS": value} for value in ("0", "1", "-5", "nonsense", "1000000")),
    *({"TERM": value} for value in ("dumb", "nonsense", "")),
    {"NO_COLOR": "1", "FORCE_COLOR": "1"},
    {"PYTHONOPTIMIZE": "2"},
    {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"},
    {"MPLCONFIGDIR": "/dev/null"},
    {"MPLBACKEND": "nonsense"},
    *({"OMP_NUM_THREADS": value} for value in ("0", "nonsense", "100000")),
    {"TZ": "nonsense"},
    {"DISPLAY": ":77", "MPLBACKEND": None},
]
OUTPUTS = (
    *(
        ("closed", "file"),
        ("file", "closed"),
        ("closed", "closed"),
        ("full", "file"),
        ("file", "full"),
        ("full", "full"),
    ),
    *(("head", "file"), ("file", "head"), ("head", "head"), ("closed", "full")),
)
RECONSTRUCT = ("reconstruct", "scan.npz", *QUICK, "out")


def _at(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def made(place: Path) -> None:
        (place / "out").mkdir()
        make(place / "out")

    return made


#: Folder or file that stands in the way -> words, right codes, how it is made.
FOLDERS: dict[str, tuple[tuple[str, ...], frozenset[int], Callable[[Path], object]]] = {
    "the output is a file": (RECONSTRUCT, REFUSED, lambda place: (place / "out").write_text("x") and None),
    "the output is a FIFO": (RECONSTRUCT, REFUSED, lambda place: os.mkfifo(place / "out")),
    "the output is a link to nowhere": (
        RECONSTRUCT,
        OR_LIMIT,
        lambda place: (place / "out").symlink_to("nowhere"),
    ),
    "the output is a link to itself": (RECONSTRUCT, REFUSED, lambda place: (place / "out").symlink_to("out")),
    "the output is a device": (("reconstruct", "scan.npz", *QUICK, "/dev/null"), REFUSED, lambda place: None),
    "the output lies in /proc": (
        ("reconstruct", "scan.npz", *QUICK, "/proc/out"),
        REFUSED,
        lambda place: None,
    ),
    "the output has an over-long name": (
        ("reconstruct", "scan.npz", *QUICK, "o" * 300),
        REFUSED,
        lambda place: None,
    ),
    "the output has an over-long path": (
        ("reconstruct", "scan.npz", *QUICK, "o/" * 3000),
        REFUSED,
        lambda place: None,
    ),
    **{
        f"{file} is a {what}": (RECONSTRUCT, OR_LIMIT, _at(make(file)))
        for file in (
            "ptycho.log",
            "reconstruction.npz",
            "run.json",
            "amplitude.png",
            "metrics.csv",
            "reconstruction.h5",
        )
        for what, make in {
            "FIFO": lambda file: lambda out: os.mkfifo(out / file),
            "folder": lambda file: lambda out: (out / file / "inside").mkdir(parents=True),
            "link to nowhere": lambda file: lambda out: (out / file).symlink_to("nowhere"),
            "link to a device": lambda file: lambda out: (out / file).symlink_to("/dev/full"),
            "link to the scan": lambda file: lambda out: (out / file).symlink_to("../scan.npz"),
        }.items()
    },
    "simulate onto a folder": (
        ("simulate", "--frames", "20", "--output", "result"),
        REFUSED,
        lambda place: None,
    ),
    "simulate onto a device": (
        ("simulate", "--frames", "20", "--output", "/dev/full"),
        REFUSED | DONE,
        lambda place: None,
    ),
    "simulate onto a FIFO": (
        ("simulate", "--frames", "20", "--output", "out.npz"),
        REFUSED | DONE,
        lambda place: os.mkfifo(place / "out.npz"),
    ),
    "a report onto a folder": (("report", "result", "--output", "."), REFUSED, lambda place: None),
    "a report onto nowhere": (
        ("report", "result", "--output", "nowhere/at/all.html"),
        REFUSED | DONE,
        lambda place: None,
    ),
}
NAMES = (
    "m\udcfcller.npz",
    f"a{ESCAPES}.npz",
    "-rf.npz",
    " .npz",
    "a b'c\"d.npz",
    "\u202egnp.npz",
    "ü" * 100 + ".npz",
    "%s%d{0}.npz",
    "[a-z]*.npz",
    "🙂.npz",
)


def _names(rng: random.Random, ground: Ground) -> Case:
    """Give the scan and the output a name that is not for the eye."""
    scan, out = rng.choice(NAMES), rng.choice(("out", "out\udcfc", f"out{ESCAPES}", "out %s"))
    command = rng.choice(("reconstruct", "inspect", "watch", "missing", "report"))
    given = f"./{scan}" if scan.startswith("-") else scan
    words: tuple[str, ...] = {
        "reconstruct": ("reconstruct", given, *QUICK, out),
        "inspect": ("inspect", given),
        "watch": ("watch", given, "--replay", "3000", "--timeout", "0.3", *QUICK, out),
        "missing": ("inspect", f"missing-{scan}"),
        "report": ("report", "result", "--output", f"{out}.html"),
    }[command]
    codes = frozenset({3}) if command == "missing" else DONE
    environment: dict[str, str | None] = rng.choice(
        ({}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    )

    def make(place: Path) -> None:
        shutil.copyfile(ground.scan, place / scan)

    locale = ", in the C locale" if environment else ""
    return _case(
        ground,
        f"{command}, {scan!r}, {out!r}{locale}",
        words,
        codes,
        make,
        environment=environment,
        process=bool(environment),
    )
