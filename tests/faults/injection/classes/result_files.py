"""A spoiled result, given to every command that reads one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from injection.case import Act, Case
from injection.classes import arrays_of_files, bombs, byte_damage, hdf5_damage, paths_damage
from injection.classes.record_damage import any_value, without_a_key
from injection.ground import Ground

__all__ = ["draw"]

SHORT = ("--effort", "fast", "--solver-epochs", "2", "--output-dir")
#: Command -> its words and the exit codes that are right. `audit` may find that a rule was broken; where
#: there is nothing to go on from, `--resume` was the wrong word.
COMMANDS: dict[str, tuple[tuple[str, ...], frozenset[int]]] = {
    "report": (("report", "result"), frozenset({0, 3})),
    "inspect": (("inspect", "result"), frozenset({0, 3})),
    "compare": (("compare", "result", "sound", "--output-dir", "out"), frozenset({0, 3})),
    "compare, turned round": (("compare", "sound", "result", "--output-dir", "out"), frozenset({0, 3})),
    "reconstruct --start": (
        ("reconstruct", "scan.npz", "--start", "result", *SHORT, "out"),
        frozenset({0, 3}),
    ),
    # 1: what stands in the place of a result is no file, and cannot be replaced.
    "reconstruct --resume": (
        ("reconstruct", "scan.npz", "--resume", *SHORT, "result"),
        frozenset({0, 1, 2, 3}),
    ),
    "audit": (("audit", "result"), frozenset({0, 3, 5})),
}
SHARES = (3, 1, 2, 2, 3, 2, 1)


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw what is spoiled and which command reads it."""
    command = rng.choices(list(COMMANDS), SHARES)[0]
    seed = rng.randrange(1000)
    if command == "audit" or rng.random() < 0.25:
        name = rng.choice(sorted(RECORDS))
        return _case(
            ground, command, f"run.json: {name}", seed, lambda place, r: RECORDS[name](place / "run.json", r)
        )
    kinds: dict[str, dict[str, Callable[[Path, random.Random], object]]] = {
        "values": VALUES,
        "arrays": arrays_of_files.DAMAGES,
        "bytes": byte_damage.DAMAGES,
        "path": {name: one for name, one in paths_damage.DAMAGES.items() if "stranger" not in name},
        "bomb": bombs.DAMAGES,
        "hdf5": hdf5_damage.DAMAGES,
    }
    kind = rng.choices(list(kinds), (5, 4, 2, 1, 1, 1))[0]
    name = rng.choice(sorted(kinds[kind]))
    file = "reconstruction.h5" if kind == "hdf5" else "reconstruction.npz"
    if kind == "hdf5":
        command = rng.choice(("reconstruct --start", "inspect", "compare"))
    damage = kinds[kind][name]
    return _case(
        ground,
        command,
        f"{file}: {name}",
        seed,
        lambda place, r: damage(place / file, r),
        product=kind == "hdf5",
    )


def _case(
    ground: Ground,
    command: str,
    name: str,
    seed: int,
    damage: Callable[[Path, random.Random], object],
    *,
    product: bool = False,
) -> Case:
    words, codes = COMMANDS[command]
    if product:
        words = tuple("result/reconstruction.h5" if word == "result" else word for word in words)

    def prepare(place: Path) -> list[Act]:
        ground.put(place, " ".join(words), results=("result", "sound"))
        damage(place / "result", random.Random(seed))
        return [Act(words, codes=codes, patience_s=25)]

    return Case("results", f"{name} ({seed}), {command}", prepare)


def _value(key: str, make: Callable[[np.ndarray], object]) -> Callable[[Path, random.Random], object]:
    def damage(path: Path, rng: random.Random) -> None:
        arrays = dict(np.load(path))
        arrays[key] = np.asarray(make(arrays.get(key, np.zeros(3))))
        np.savez(path, **arrays)

    return damage


SCALARS = (
    "data_residual",
    "pixel_size_m",
    "energy_ev",
    "distance_m",
    "interrupted",
    "image_reliable",
    "pixel_aspect",
)
ARRAYS = (
    "object",
    "probe",
    "origin_px",
    "positions_px",
    "coverage",
    "residual_per_frame",
    "history",
    "frame_weight",
)
VALUES: dict[str, Callable[[Path, random.Random], object]] = {
    **{
        f"{key} is {value!r}": _value(key, lambda _, value=value: value)
        for key in SCALARS
        for value in ("8nm", -1.0, np.nan, np.inf, 0.0, 1e300, [True, False, True])
    },
    **{f"{key} is NaN": _value(key, lambda array: array * np.nan) for key in ARRAYS},
    **{f"{key} is infinite": _value(key, lambda array: array + np.inf) for key in ARRAYS},
    **{f"{key} is text": _value(key, lambda array: np.full(array.shape, "a")) for key in ARRAYS},
    **{f"{key} is cut": _value(key, lambda array: array[:1]) for key in ARRAYS},
    **{f"{key} is empty": _value(key, lambda array: array[:0]) for key in ARRAYS},
    **{f"{key} has three axes more": _value(key, lambda array: array[None, None, None]) for key in ARRAYS},
    "positions are far": _value("positions_px", lambda array: array * 1e9),
    "origin is far": _value("origin_px", lambda array: array + 1e15),
    "object of one pixel": _value("object", lambda array: array[:1, :1]),
    "verdict is a list": _value("verdict", lambda _: "[1, 2]"),
    "verdict is deep": _value("verdict", lambda _: "[" * 100_000),
    "verdict is a number": _value("verdict", lambda _: 7),
    "verdict of strange types": _value("verdict", lambda _: '{"grade": 7, "reasons": {"a": 1}}'),
    "verdict with an escape sequence": _value(
        "verdict", lambda _: '{"grade": "good", "reasons": ["\\u001b[2J\\n"]}'
    ),
    "scan_name with an escape sequence": _value("scan_name", lambda _: "\x1b[2J\nINFO forged"),
    "scan_name of a page": _value("scan_name", lambda _: "</title><script>alert(1)</script>"),
    "method of a megabyte": _value("method", lambda _: "m" * 1_000_000),
    "a history of a thousand columns": _value("history", lambda _: np.zeros((3, 1000))),
    "bad_pixels all true": _value("bad_pixels", lambda _: np.ones((32, 32), bool)),
    "frame_weight below zero": _value("frame_weight", lambda _: np.full(30, -1.0)),
    "amplitude_std of text": _value("amplitude_std", lambda _: np.full((3, 3), "a")),
}


def _record(
    edit: Callable[[dict[str, Any], random.Random], object],
) -> Callable[[Path, random.Random], object]:
    def damage(path: Path, rng: random.Random) -> None:
        record = json.loads(path.read_text("utf-8"))
        changed = edit(record, rng)
        path.write_text(json.dumps(record if changed is None else changed), encoding="utf-8")

    return damage


RECORDS: dict[str, Callable[[Path, random.Random], object]] = {
    **{
        f"a value is {text}": _record(any_value(value))
        for text, value in {
            "null": None,
            "a number": 7,
            "a text": "x",
            "a list": [1, [2]],
            "an object": {"a": {"b": None}},
            "NaN": float("nan"),
            "huge": 1e308,
            "2**70": 2**70,
            "an escape sequence": "\x1b[2J\nINFO forged",
            "a page": "</script><script>alert(1)</script>",
            "true": True,
            "a megabyte": "m" * 1_000_000,
        }.items()
    },
    "a value is null, again": _record(any_value(None)),
    "a value is a list, again": _record(any_value([{}])),
    "a key missing": _record(without_a_key),
    "empty object": _record(lambda record, rng: {}),
    "a list": _record(lambda record, rng: [record]),
    "a number": _record(lambda record, rng: 42),
    "brackets": lambda path, rng: path.write_text("[" * 200_000, encoding="utf-8"),
    "not UTF-8": lambda path, rng: path.write_bytes(b'{"scan": "m\xfcller"}'),
    **{
        f"bytes, {name}": byte_damage.DAMAGES[name]
        for name in ("cut", "cut to nothing", "bits flipped", "garbage", "twice")
    },
    **{
        f"path, {name}": paths_damage.DAMAGES[name]
        for name in ("a FIFO", "a folder", "gone", "a link to itself")
    },
}
