"""SIGINT, SIGTERM and SIGHUP from the first line of `main` on: one line, the right code, the image."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

from injection.case import Act, Case, Stop
from injection.classes.kills import TRAIN, has_torch
from injection.ground import Ground

__all__ = ["draw"]

LONG = ("--effort", "thorough", "--solver-epochs", "100000", "--output-dir", "out")
#: Command -> its words, and whether only a signal ends it.
COMMANDS: dict[str, tuple[tuple[str, ...], bool]] = {
    "reconstruct": (("reconstruct", "scan.npz", *LONG), True),
    "two scans": (("reconstruct", "scan.npz", "again.npz", *LONG), True),
    "watch": (
        ("watch", "frames", "--probe-file", "scan.npz", "--timeout", "60", "--output-dir", "out"),
        True,
    ),
    "inspect": (("inspect", "scan.npz"), False),
    "report": (("report", "result"), False),
    "simulate": (("simulate", "--frames", "3000", "--output", "out.npz"), False),
    "diagnose": (("diagnose", "scan.npz", "--budget", "30s"), False),
    "--help": (("reconstruct", "--help"), False),
}
KEPT = """
from ptycho_core import Reconstruction
if "epoch" in at_signal:
    Reconstruction.load(place / $OUT)
"""
#: As `nohup` starts a program: deaf to a terminal that closes.
DEAF = "import signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw a command, a signal, and a moment: half of them among the imports."""
    if rng.random() < 0.05 and has_torch():
        return _training(rng, ground)
    name = rng.choices(list(COMMANDS), (6, 1, 4, 1, 1, 1, 1, 0.5))[0]
    words, endless = COMMANDS[name]
    number = rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    after = round(10 ** rng.uniform(-2.3, 0.6), 3)
    again = rng.choice((None, None, None, 0.02, 0.5)) if endless else None
    nohup = endless and name == "reconstruct" and number == signal.SIGHUP and rng.random() < 0.25
    codes = {128 + number} if endless else {0, 128 + number}
    if nohup:
        words, codes, again = (*words, "--max-time", "3s"), {0}, None

    def prepare(place: Path) -> list[Act]:
        import numpy as np

        ground.put(place, " ".join(words))
        ground.put(place, " ".join(words), scan="again.npz", results=())
        (place / "frames").mkdir()
        given = np.load(ground.scan)
        np.savetxt(
            place / "frames/positions.csv",
            np.c_[given["ycoords"], given["xcoords"]],
            delimiter=",",
            header="y,x",
            comments="",
        )
        for at, frame in enumerate(given["diff3d"]):
            np.save(place / f"frames/f_{at:04d}.npy", frame)
        check = (
            KEPT.replace("$OUT", repr("out" if name != "two scans" else "out/scan"))
            if again is None and name != "watch"
            else ""
        )
        program = ""
        if nohup:
            from injection.running import BEGIN

            program = DEAF + BEGIN
        stop = Stop(number, after, again)
        return [Act(words, program, frozenset(codes), process=True, stop=stop, patience_s=20, check=check)]

    more = "" if again is None else f", again after {again} s"
    deaf = ", under nohup" if nohup else ""
    return Case("signals", f"{name}, {number.name} after {after} s{more}{deaf}", prepare)


def _training(rng: random.Random, ground: Ground) -> Case:
    """Stop a training: before its end no bundle need be there, but never half of one."""
    number = rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    after = round(rng.uniform(0.05, 12.0), 3)

    def prepare(place: Path) -> list[Act]:
        shutil.copy(ground.scan, place / "scan.npz")
        words = (*TRAIN[:-4], "--nepochs", "100000", *TRAIN[-2:], "--output-dir", "out")
        codes, stop = frozenset({128 + number}), Stop(number, after)
        return [Act(words, codes=codes, process=True, stop=stop, patience_s=60, memory_bytes=3 << 30)]

    return Case("signals", f"train, {number.name} after {after} s", prepare)
