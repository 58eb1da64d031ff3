"""kill -9 at random moments: what stands under a final name is whole, and the work goes on from it."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

from injection.case import Act, Case, Stop
from injection.ground import Ground

__all__ = ["TRAIN", "draw", "has_torch"]

QUICK = ("--effort", "fast", "--quiet")
#: Command -> its words, and how long it takes at most on a quiet machine.
COMMANDS: dict[str, tuple[tuple[str, ...], float]] = {
    "reconstruct": (
        ("reconstruct", "scan.npz", *QUICK, "--save-tiff", "--save-mat", "--output-dir", "out"),
        1.6,
    ),
    "reconstruct, default effort": (("reconstruct", "scan.npz", "--output-dir", "out"), 2.0),
    "watch": (
        ("watch", "scan.npz", "--replay", "100", "--timeout", "0.3", *QUICK, "--output-dir", "out"),
        2.5,
    ),
    "report": (("report", "out"), 0.6),
}
TRAIN = (
    "train",
    "--train-data-file",
    "scan.npz",
    "--N",
    "32",
    "--nepochs",
    "4",
    "--torch-accelerator",
    "cpu",
)
GO_ON = """
import os, sys
from ptycho_dispatch.cli import main
words = ["reconstruct", "scan.npz", "--effort", "fast", "--quiet", "--output-dir"]
there = os.path.exists("out/reconstruction.npz")
codes = [main([*words, "out", "--resume"] if there else [*words, "out"])]
if there:
    codes.append(main([*words, "out-2", "--start", "out"]))
codes.append(main(["inspect", "out"]))
codes.append(main(["report", "out"]))
print(codes)
sys.exit(max(codes))
"""
NO_PARTS = "left = [path.name for path in (place / 'out').rglob('*.part')]\nassert not left, left"
TRAIN_ON = """
import os, sys
from ptycho_dispatch.cli import main
sys.exit(main([*sys.argv[1:], *(["--resume"] if os.path.exists("out/wts.h5.zip") else [])]))
"""


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw a command, the moment, and whether an earlier result lies there."""
    if rng.random() < 0.04 and has_torch():
        return _training(rng, ground)
    name = rng.choices(list(COMMANDS), (4, 2, 3, 2))[0]
    words, seconds = COMMANDS[name]
    after = round(rng.uniform(0.0, seconds), 3)
    earlier = name == "report" or rng.random() < 0.5

    def prepare(place: Path) -> list[Act]:
        shutil.copy(ground.scan, place / "scan.npz")
        if earlier:
            shutil.copytree(ground.result, place / "out")
        codes = frozenset({0})
        return [
            Act(words, codes=codes, stop=Stop(signal.SIGKILL, after), patience_s=20),
            Act(program=GO_ON, codes=codes, patience_s=40, check=NO_PARTS),
        ]

    before = "over an earlier result" if earlier else "anew"
    return Case("kills", f"{name}, {before}, after {after} s", prepare, keeps_parts=True)


def has_torch() -> bool:
    import importlib.util

    return (
        importlib.util.find_spec("ptycho_core_torch") is not None
        and importlib.util.find_spec("torch") is not None
    )


def _training(rng: random.Random, ground: Ground) -> Case:
    after = round(rng.uniform(0.5, 12.0), 3)

    def prepare(place: Path) -> list[Act]:
        shutil.copy(ground.scan, place / "scan.npz")
        words = (*TRAIN, "--output-dir", "out")
        codes, memory = frozenset({0}), 3 << 30
        return [
            Act(
                words,
                codes=codes,
                stop=Stop(signal.SIGKILL, after),
                patience_s=60,
                memory_bytes=memory,
                process=True,
            ),
            # 2: the training had come to its end before it was killed.
            Act(
                words,
                TRAIN_ON,
                frozenset({0, 2}),
                patience_s=90,
                memory_bytes=memory,
                process=True,
                check=NO_PARTS,
            ),
        ]

    return Case("kills", f"train, after {after} s", prepare, keeps_parts=True)
