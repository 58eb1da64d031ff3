"""The network on the real scan: quality after a time of training, speed, and use on frames never trained on.

    nox -s bench -- network [--seconds 150] [--prototype FOLDER] [--write-docs]

The prototype of the network runs in turn with ours where the folder with its `network.py` is given, with the
reference's probe from PTYCHO_DATA_DIR; ours starts from the scan's own poor probe, which the solver refines on the
clock.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import frame
import numpy as np

from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import SolverConfig, TrainingConfig
from ptycho_core import Scan, open_scan, solve
from ptycho_core.backend import get_backend
from ptycho_core.result.callbacks import Callback

EXECUTION = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")
HALF = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none", precision="bf16-mixed")


class Clock(Callback):
    """Notes when steps ended; the start of a training is not counted, as it is not in the prototype."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, step: Any) -> None:
        self.times.append(time.perf_counter())

    def frames_per_second(self) -> float:
        return 24 * (len(self.times) - 1) / (self.times[-1] - self.times[0])


def train(
    scan: Scan, seconds: float, seed: int = 0, execution: PyTorchExecutionConfig = EXECUTION
) -> tuple[Any, float]:
    """Train for a time; return the network and the frames per second."""
    clock = Clock()
    config = TrainingConfig(max_time=seconds, seed=seed)
    trained = get_backend("pytorch").train(scan, config, execution, callbacks=[clock])
    return trained, clock.frames_per_second()


def with_refined_probe(scan: Scan, of: Scan | None = None) -> tuple[Scan, float, float]:
    """Give a scan the probe that the solver finds; return also its seconds and R."""
    began = time.perf_counter()
    result = solve(of or scan, SolverConfig())
    return replace(scan, probe=result.probe), time.perf_counter() - began, result.data_residual


def speeds(
    scan: Scan, rounds: int, seconds: float, prototype: Path | None
) -> dict[str, list[dict[str, float]]]:
    """Training and inference of ours, in both precisions, and of the prototype, in turn; frames per second."""

    def ours(where: PyTorchExecutionConfig) -> dict[str, float]:
        trained, training = train(scan, seconds, execution=where)
        times = [trained.reconstruct(scan).timings["network"] for _ in range(3)]
        return {"training": training, "inference": scan.n_frames / min(times)}

    methods = {"ours": partial(ours, EXECUTION), "bf16": partial(ours, HALF)}
    if prototype is not None:
        methods["prototype"] = partial(run_prototype, prototype, seconds)
    found = frame.take_turns(rounds, methods, note=lambda name, run: print(name, run, flush=True))
    return {"prototype": [], **found}


def speed_rows(found: dict[str, list[dict[str, float]]]) -> list[list[str]]:
    """Medians over the rounds, and medians of the ratios to the prototype, round by round."""
    rows = []
    for name, label in (("ours", ""), ("bf16", ", `--torch-precision bf16-mixed`")):
        for kind in ("training", "inference"):
            values = [run[kind] for run in found[name]]
            ratios = [
                run[kind] / theirs[kind]
                for run, theirs in zip(found[name], found["prototype"], strict=False)
                if kind in theirs
            ]
            ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
            rows.append([f"{kind}, frames/s at 128 x 128{label}", f"{statistics.median(values):.0f}", ratio])
    return rows


def run_prototype(scripts: Path, seconds: float) -> dict[str, float]:
    """Run the prototype with the reference's probe; its own figures."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        work.mkdir()
        (Path(folder) / "data").symlink_to(Path(os.environ["PTYCHO_DATA_DIR"]).resolve())
        command = [sys.executable, scripts.resolve() / "network.py", "phys", str(seconds), "refined"]
        printed = frame.run_child(command, "the prototype", quiet=True, cwd=work)
    found = {key: re.search(pattern, printed) for key, pattern in PATTERNS.items()}
    return {key: float(match.group(1)) for key, match in found.items() if match}


PATTERNS = {"training": r"frames/s train ([\d.]+)", "inference": r"infer frames/s ([\d.]+)"}


def main() -> None:
    parser = frame.parser(__doc__, rounds=3)
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--round-seconds", type=float, default=15.0)
    parser.add_argument("--prototype", type=Path, metavar="FOLDER", help="with the prototype's `network.py`")
    arguments = parser.parse_args()
    prototype = arguments.prototype
    if prototype is not None and not (prototype / "network.py").is_file():
        parser.error(f"{prototype} holds no `network.py`; give the prototype's folder, or leave it out")
    if prototype is not None and "PTYCHO_DATA_DIR" not in os.environ:
        parser.error("the prototype reads the reference's probe: set PTYCHO_DATA_DIR to the folder with it")
    given = open_scan("siemens-star")
    scan, probe_s, solver_r = with_refined_probe(given)
    print(f"probe refined in {probe_s:.1f} s; the solver's R {solver_r:.4f}", flush=True)
    found = speeds(scan, arguments.rounds, arguments.round_seconds, prototype)
    trained, _ = train(scan, arguments.seconds - probe_s)
    r = trained.reconstruct(scan).data_residual
    print(f"R {r:.4f}", flush=True)
    # Amortisation: learn one half, image the other; the probe comes from the half that is learned.
    order = np.random.default_rng(0).permutation(scan.n_frames)
    one, other = (given.select(np.sort(part)) for part in np.array_split(order, 2))
    one, _, _ = with_refined_probe(one)
    other = replace(other, probe=one.probe)
    first, _ = train(one, arguments.seconds)
    second, _ = train(other, arguments.seconds)
    unseen, seen = (net.reconstruct(other).data_residual for net in (first, second))
    print(f"other half: never seen {unseen:.4f}, trained on it {seen:.4f}", flush=True)
    rows = [
        ["R after the time, probe refined by the solver on the clock", f"{r:.4f}", "-"],
        ["R of the solver alone", f"{solver_r:.4f} in {probe_s:.1f} s", "-"],
        *speed_rows(found),
        ["R of one half, trained on the other half only", f"{unseen:.4f}", "-"],
        ["R of that half, trained on it", f"{seen:.4f}", "-"],
    ]
    flags = [f"--seconds {arguments.seconds:g}", *(["--prototype FOLDER"] if prototype else [])]
    turns = (
        f"in which ours and the prototype ran in turn for {arguments.round_seconds:g} s each. Inference includes "
        "stitching; the prototype's does not."
        if prototype
        else f"each of {arguments.round_seconds:g} s. Inference includes stitching. The prototype did not take part "
        "(`--prototype FOLDER`)."
    )
    text = "\n".join(
        [
            frame.opening("The network on the real scan", frame.command("network", arguments, *flags)),
            f"Siemens star, 516 frames; `unet`, {arguments.seconds:g} s of training from nothing. Speeds are the "
            f"medians of {arguments.rounds} rounds, {turns}",
            "",
            frame.markdown_table(["what", "measured", "times the prototype"], rows),
            "",
        ]
    )
    figures = {"R": r, "R of the solver": solver_r, "R, never seen": unseen, "R, trained on it": seen}
    for name, runs in found.items():
        for kind in runs[0] if runs else ():
            figures[f"{name}, {kind}, frames/s"] = statistics.median(run[kind] for run in runs)
    data = {"r": r, "speeds": found, "unseen": unseen, "seen": seen}
    frame.finish("network", arguments, text, data, figures)


if __name__ == "__main__":
    main()
