"""Where network, solver and both together are best: as photons get fewer, and as frames overlap less.

    nox -s bench -- curves [--seconds 40] [--write-docs]

N = 64, 200 frames of polygons along a spiral, with the true probe to start from. The network learns the scan itself
for the given time, by the Poisson and by the amplitude loss; "both" is `--method both` with as long a training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import frame
import matplotlib
import numpy as np
from fidelity import scores

from ptycho_config.execution import PyTorchExecutionConfig, SolverExecutionConfig
from ptycho_config.models import SolverConfig, TrainingConfig
from ptycho_core import Reconstruction, solve
from ptycho_core.backend import get_backend
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_dispatch import both as method_both

matplotlib.use("Agg")
from matplotlib import pyplot as plt

PHOTONS = (1e2, 1e3, 1e4, 1e5, 1e6)
OVERLAPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
COMMON = {
    "object_kind": "polygons",
    "probe_kind": "focus",
    "position_kind": "spiral",
    "start_kind": "true",
    "frames": 200,
    "frame_px": 64,
    "seed": 3,
}
EXECUTION = PyTorchExecutionConfig(accelerator="cpu", logger_backend=None)
SOLVER = SolverExecutionConfig(arrays="numpy")
WAYS = ("network, Poisson", "network, amplitude", "solver", "both")
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "curves.png"


def measure(made: SimulatedScan, seconds: float) -> dict[str, dict[str, float]]:
    """Object error and FRC of the four ways on one scan."""
    networks = [network(made, loss, seconds) for loss in ("poisson", "mae")]
    found = [judged(result, made) for result in networks]
    solved = solve(made.scan, SolverConfig(), SOLVER)
    method_both.TRAINING_S = seconds  # a budget for all would leave the solver too little
    both = method_both.network_and_solver(
        made.scan, SolverConfig(), SOLVER, (), backend="pytorch", refine_probe=False
    )
    found += [judged(solved, made), judged(both, made)]
    return dict(zip(WAYS, found, strict=True))


def network(made: SimulatedScan, loss: str, seconds: float) -> Reconstruction:
    config = TrainingConfig(max_time=seconds, torch_loss_mode=loss)
    return get_backend("pytorch").train(made.scan, config, EXECUTION).reconstruct(made.scan)


def judged(result: Reconstruction, made: SimulatedScan) -> dict[str, float]:
    return scores(result.object, np.asarray(result.origin_px), made)


def draw(by_photons: list[dict[str, Any]], by_overlap: list[dict[str, Any]]) -> None:
    """Draw both series."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    for axis, rows, key, score, label in (
        (axes[0], by_photons, "photons", "error", "object error"),
        (axes[1], by_photons, "photons", "frc", "FRC = 1/2, part of Nyquist"),
        (axes[2], by_overlap, "overlap", "error", "object error"),
    ):
        for way in WAYS:
            axis.plot([row[key] for row in rows], [row["ways"][way][score] for row in rows], "o-", label=way)
        axis.set_ylabel(label)
        axis.set_xlabel("photons a frame" if key == "photons" else "linear overlap, 1e6 photons a frame")
        axis.set_xscale("log" if key == "photons" else "linear")
        axis.set_ylim(0, 1.2)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=80)


def table(rows: list[dict[str, Any]], key: str, form: str) -> str:
    lines = [
        [
            format(row[key], form),
            *(f"{row['ways'][way]['error']:.3f} / {row['ways'][way]['frc']:.2f}" for way in WAYS),
        ]
        for row in rows
    ]
    return frame.markdown_table([key, *WAYS], lines)


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=40.0)
    arguments = parser.parse_args()
    by_photons, by_overlap = [], []
    for photons in PHOTONS:
        made = simulate_scan(photons=photons, overlap=0.7, **COMMON)
        by_photons.append({"photons": photons, "ways": measure(made, arguments.seconds)})
        print(by_photons[-1], flush=True)
    for overlap in OVERLAPS:
        made = simulate_scan(photons=1e6, overlap=overlap, **COMMON)
        by_overlap.append({"overlap": overlap, "ways": measure(made, arguments.seconds / 2)})
        print(by_overlap[-1], flush=True)
    if arguments.write_docs:
        draw(by_photons, by_overlap)
    command = frame.command("curves", arguments, f"--seconds {arguments.seconds:g}")
    text = f"""{frame.opening("Few photons, little overlap: network, solver and both", command)}
Object error (1 = a transparent object) / FRC resolution (where it falls below one half, in parts of Nyquist). N = 64,
200 frames of polygons, the true probe to start from. The network learns the scan itself for
{arguments.seconds:g} s a loss (half of that in the second table); "both" is `--method both` with as long a training.

## Photons a frame, at an overlap of 0.7

{table(by_photons, "photons", ".0e")}

## Linear overlap, at 1e6 photons a frame

{table(by_overlap, "overlap", ".1f")}

![The same as curves](../images/curves.png)
"""
    figures = {
        f"{key} {row[key]:g}, {way}, error": row["ways"][way]["error"]
        for key, rows in (("photons", by_photons), ("overlap", by_overlap))
        for row in rows
        for way in WAYS
    }
    frame.finish("curves", arguments, text, {"photons": by_photons, "overlap": by_overlap}, figures)


if __name__ == "__main__":
    main()
