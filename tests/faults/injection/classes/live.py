"""A watch with bad elements among its frames: they are left out and named, and the watch goes on."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from injection.case import Act, Case
from injection.classes import arrays_of_files, byte_damage, paths_damage
from injection.classes.bombs import npy_header
from injection.ground import Ground

__all__ = ["draw"]

#: Frames come while the watch is running; what is bad lies there from the beginning, under its right name.
PROGRAM = """
import os, sys, time
from ptycho_dispatch.cli import main
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep($DELAY)
        for name in sorted(os.listdir("later")):
            os.rename(f"later/{name}", f"frames/{name}")
            time.sleep(0.005)
    os._exit(0)
os.wait()
sys.exit(main(["watch", *$WORDS, "--timeout", "1.5", "--finish", $FINISH, "--output-dir", "out"]))
"""
ENOUGH = """
import numpy as np
from ptycho_core import Reconstruction
result = Reconstruction.load(place / "out")
assert result.n_frames >= $LEAST, result.n_frames
assert np.isfinite(result.object).all()
assert max(result.object.shape) < 4000, result.object.shape
"""


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw how frames come, and what is wrong with a few of them."""
    finish, delay = rng.choice(("none", "none", "solve", "polish")), rng.choice((0.0, 0.3))
    seed = rng.randrange(1000)
    how = rng.choice(("frame", "frame", "position", "position", "growing NPY", "growing HDF5"))
    choices: dict[str, Iterable[str]] = {
        "frame": FRAMES,
        "position": POSITIONS,
        "growing NPY": STACKS,
        "growing HDF5": ("a wild position", "a frame of NaN", "declared frames that never come"),
    }
    name = rng.choice(sorted(choices[how]))

    def prepare(place: Path) -> list[Act]:
        given = dict(np.load(ground.scan))
        frames, positions = given["diff3d"], np.c_[given["ycoords"], given["xcoords"]]
        r = random.Random(seed)
        (place / "frames").mkdir()
        (place / "later").mkdir()
        np.savez(place / "probe.npz", probeGuess=given["probeGuess"])
        words = _written(place, how, name, frames, positions, r)
        program = PROGRAM.replace("$DELAY", repr(delay)).replace("$FINISH", repr(finish))
        program = program.replace("$WORDS", repr([*words, "--probe-file", "probe.npz"]))
        check = ENOUGH.replace("$LEAST", "20")
        return [Act(program=program, codes=frozenset({0}), patience_s=30, check=check)]

    return Case("live", f"{how}: {name} ({seed}), {finish}, after {delay} s", prepare)


def _written(
    place: Path, how: str, name: str, frames: np.ndarray, positions: np.ndarray, rng: random.Random
) -> list[str]:
    """Write frames and positions; return the words that name them."""
    folder = place / "frames"
    if how == "growing NPY":
        content = io.BytesIO()
        np.save(content, frames)
        (folder / "scan.npy").write_bytes(STACKS[name](content.getvalue(), frames))
        _table(folder / "scan_positions.csv", positions)
        return ["frames/scan.npy"]
    if how == "growing HDF5":
        return _growing_hdf5(folder / "scan.h5", name, frames.copy(), positions.copy(), rng)
    rows = POSITIONS[name](positions.copy(), rng) if how == "position" else positions
    _table(folder / "positions.csv", rows)
    for number, frame in enumerate(frames):
        np.save(place / ("frames" if number < 5 else "later") / f"f_{number:04d}.npy", frame)
    if how == "frame":
        victim = place / "later" / f"f_{rng.randrange(6, 29):04d}.npy"
        FRAMES[name](victim, rng)
        if victim.exists() or victim.is_symlink():
            victim.rename(folder / victim.name)
    return ["frames"]


def _table(path: Path, rows: np.ndarray) -> None:
    np.savetxt(path, rows, delimiter=",", header="y,x", comments="")


def _growing_hdf5(
    path: Path, name: str, frames: np.ndarray, positions: np.ndarray, rng: random.Random
) -> list[str]:
    import h5py

    with h5py.File(path, "w", libver="latest") as file:
        values = frames.astype("f4") if name == "a frame of NaN" else frames
        if name == "a frame of NaN":
            values[rng.randrange(6, 29)] = np.nan
        if name == "a wild position":
            positions[rng.randrange(6, 29)] = rng.choice((1e12, -1e7, 1e300, np.nan))
        more = 1_000_000 if name == "declared frames that never come" else 0
        shape = (len(values) + more, *values.shape[1:])
        made = file.create_dataset(
            "dp", shape, values.dtype, chunks=(1, *values.shape[1:]), maxshape=(None, *values.shape[1:])
        )
        made[: len(values)] = values
        file["positions"] = positions
        file["positions"].attrs["units"] = "px"
    return [f"frames/{path.name}"]


def _frame(
    make: Callable[[np.ndarray, random.Random], np.ndarray],
) -> Callable[[Path, random.Random], object]:
    def damage(path: Path, rng: random.Random) -> None:
        np.save(path, make(np.load(path), rng))

    return damage


def _declared(path: Path, rng: random.Random) -> None:
    path.write_bytes(npy_header(rng.choice(((10**6, 10**6), (1 << 40,), (32, 1 << 50))), "<u2") + bytes(2048))


FRAMES: dict[str, Callable[[Path, random.Random], object]] = {
    **{name: one for name, one in paths_damage.DAMAGES.items() if "stranger" not in name},
    **{
        f"bytes {name}": one
        for name, one in byte_damage.DAMAGES.items()
        if "bits" not in name and "swapped" not in name
    },
    **{
        f"values {name}": _frame(arrays_of_files.CHANGES[name])
        for name in (
            "NaN",
            "infinity",
            "1e300",
            "minus one",
            "all zero",
            "as text",
            "flat",
            "a scalar",
            "odd sides",
            "as complex",
            "as records",
            "no column",
        )
    },
    "a size that is not there": _declared,
}


def _rows(
    edit: Callable[[np.ndarray, random.Random], np.ndarray],
) -> Callable[[np.ndarray, random.Random], np.ndarray]:
    return edit


def _wild(value: float) -> Callable[[np.ndarray, random.Random], np.ndarray]:
    def edit(rows: np.ndarray, rng: random.Random) -> np.ndarray:
        rows[rng.randrange(6, 29), rng.choice((0, 1, slice(None)))] = value
        return rows

    return edit


POSITIONS: dict[str, Callable[[np.ndarray, random.Random], np.ndarray]] = {
    **{
        f"one is {value!r}": _wild(value)
        for value in (1e12, -1e7, 1e300, 1e5, np.nan, np.inf, -np.inf, 2.0**63)
    },
    "two are wild": lambda rows, rng: _wild(1e12)(_wild(-1e9)(rows, rng), rng),
    "two are equal": lambda rows, rng: np.concatenate([rows[:8], rows[7:8], rows[9:]]),
    "a few more than frames": lambda rows, rng: np.concatenate([rows, rows[:5]]),
}
STACKS: dict[str, Callable[[bytes, np.ndarray], bytes]] = {
    "a billion frames declared": lambda content, frames: (
        npy_header((10**9, *frames.shape[1:]), "<u2") + frames.tobytes()
    ),
    "more frames than its header says": lambda content, frames: (
        npy_header((25, *frames.shape[1:]), "<u2") + frames.tobytes()
    ),
    "half a frame at its end": lambda content, frames: content[:-1000],
    "garbage behind its end": lambda content, frames: content + os.urandom(0) + b"x" * 777,
}
