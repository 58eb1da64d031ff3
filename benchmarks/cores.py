"""Both cores side by side: training and inference in frames per second, and the memory they take.

    nox -s bench -- cores [--rounds 5] [--seconds 15] [--write-docs]

Every measurement is a process of its own, which loads one core; the cores take turns, so that both meet the same
host. The network is `unet` with its defaults, on the CPU. At 128 px it sees the real scan, at 64 px a simulated one.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import frame

CORES = {"pytorch": "PyTorch", "tensorflow": "TensorFlow"}
SIZES_PX = (64, 128)
TARGET = 0.8
#: Steps that are not counted: the first ones trace, compile and warm the caches.
WARM_UP_STEPS = 5
_IMAGES = 3


def peak_mb() -> float:
    """Return the most memory that this program has held; that of its parent is not counted."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the system does not tell the peak of the memory")


def measure(core: str, size_px: int, seconds: float) -> dict[str, float]:
    """Train and image with one core; frames per second, and the peak of the memory."""
    from ptycho_config.execution import PyTorchExecutionConfig, TensorFlowExecutionConfig
    from ptycho_config.models import TrainingConfig
    from ptycho_core import open_scan
    from ptycho_core.backend import get_backend
    from ptycho_core.learning.recipe import batch_size_of
    from ptycho_core.result.callbacks import Callback
    from ptycho_core.simulate import simulate_scan

    class Clock(Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step(self, step: Any) -> None:
            self.times.append(time.perf_counter())

        def should_stop(self) -> bool:
            counted = self.times[WARM_UP_STEPS - 1 :]
            return len(counted) > 2 and counted[-1] - counted[0] >= seconds

    if size_px == 128:
        scan = open_scan("siemens-star")
    else:
        scan = simulate_scan(frames=512, frame_px=size_px, start_kind="true").scan
    kind = PyTorchExecutionConfig if core == "pytorch" else TensorFlowExecutionConfig
    config = TrainingConfig(nepochs=10**6, seed=0)
    clock = Clock()
    trained = get_backend(core).train(
        scan, config, kind(accelerator="cpu", logger_backend="none"), callbacks=[clock]
    )
    batch = batch_size_of(trained.training)
    counted = clock.times[WARM_UP_STEPS - 1 :]
    training = batch * (len(counted) - 1) / (counted[-1] - counted[0])
    times = [trained.reconstruct(scan).timings["network"] for _ in range(_IMAGES + 1)]
    return {
        "training": training,
        "inference": scan.n_frames / statistics.median(times[1:]),
        "peak_mb": peak_mb(),
    }


def in_turn(rounds: int, seconds: float) -> dict[tuple[str, int], list[dict[str, float]]]:
    """Measure every core at every size, round by round."""

    def once(core: str, size_px: int) -> dict[str, float]:
        command = [sys.executable, __file__, "--only", core, str(size_px), "--seconds", str(seconds)]
        return json.loads(frame.run_child(command, f"{core} at {size_px} px").splitlines()[-1])

    return frame.take_turns(
        rounds,
        {(core, size_px): partial(once, core, size_px) for size_px in SIZES_PX for core in CORES},
        back_and_forth=True,
        note=lambda key, row: print(f"{key[1]} px, {CORES[key[0]]}: {row}", flush=True),
    )


def rows_of(found: dict[tuple[str, int], list[dict[str, float]]]) -> list[list[str]]:
    """Medians over the rounds, and medians of the ratios of each round."""
    rows = []
    for size_px in SIZES_PX:
        ours, theirs = found["tensorflow", size_px], found["pytorch", size_px]
        for kind in ("training", "inference"):
            ratios = [one[kind] / other[kind] for one, other in zip(ours, theirs, strict=True)]
            rows.append(
                [
                    f"{kind}, frames/s at {size_px} px",
                    *(f"{statistics.median(row[kind] for row in runs):.0f}" for runs in (theirs, ours)),
                    f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                    f"{TARGET:g}",
                ]
            )
        peaks = [max(row["peak_mb"] for row in runs) for runs in (theirs, ours)]
        rows.append(
            [
                f"peak memory, MB at {size_px} px",
                *(f"{peak:.0f}" for peak in peaks),
                f"{peaks[1] / peaks[0]:.2f}",
                "-",
            ]
        )
    return rows


def main() -> None:
    parser = frame.parser(__doc__, rounds=5)
    parser.add_argument("--seconds", type=float, default=15.0, help="of training, in each process")
    parser.add_argument("--only", nargs=2, metavar=("CORE", "PX"), help="one measurement, as JSON")
    arguments = parser.parse_args()
    if arguments.only:
        core, size_px = arguments.only
        print(json.dumps(measure(core, int(size_px), arguments.seconds)))
        return
    found = in_turn(arguments.rounds, arguments.seconds)
    flags = f"--rounds {arguments.rounds} --seconds {arguments.seconds:g} --write-docs"
    text = "\n".join(
        [
            frame.opening("Both cores on one CPU", f"nox -s bench -- cores {flags}"),
            f"`unet` with its defaults; medians of {arguments.rounds} rounds in which the cores took turns, each in a "
            f"process of its own: {arguments.seconds:g} s of training without its first {WARM_UP_STEPS} steps, then "
            f"the median of {_IMAGES} images, stitching included. 128 px: the real scan, 516 frames; 64 px: 512 "
            "simulated frames. The ratio is the median of those of the rounds, with their range.",
            "",
            frame.markdown_table(["what", "PyTorch", "TensorFlow", "ratio", "target"], rows_of(found)),
            "",
        ]
    )
    runs = {f"{core} {size}": rows for (core, size), rows in found.items()}
    medians = [
        {"run": run} | {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for run, rows in runs.items()
    ]
    figures = frame.figures(medians, "run", "training", "inference", "peak_mb")
    frame.finish("cores", arguments, text, {"runs": runs}, figures)


if __name__ == "__main__":
    main()
