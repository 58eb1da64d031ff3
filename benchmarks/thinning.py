"""Dose thinning: train on a bright scan, image dim scans of objects never trained on, and of the real scan.

    nox -s bench -- thinning [--seconds 300] [--doses 1e2 1e3] [--real-seconds 90] [--view-share S] [--write-docs]

N = 64. The bright scan has 1e6 photons a frame; the network sees it thinned. The solver gets the dim scans with
the true probe to start from; "network as prior mean" is the solver that is offered its image. On the real scan the
network learns one half of the frames and images the other half, thinned to counts of which it saw other draws.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import frame
import matplotlib
import numpy as np
from fidelity import scores

from ptycho_config.execution import PyTorchExecutionConfig, SolverExecutionConfig
from ptycho_config.models import SolverConfig, TrainingConfig
from ptycho_core import Reconstruction, Scan, open_scan, scan_from_arrays, solve
from ptycho_core.backend import get_backend
from ptycho_core.metrics import compare
from ptycho_core.simulate import simulate_scan

matplotlib.use("Agg")
from matplotlib import pyplot as plt

REAL_DOSES = [1e2, 1e3, 1e4]
OBJECTS = ("discs", "star", "texture")
COMMON = {
    "probe_kind": "focus",
    "position_kind": "spiral",
    "start_kind": "true",
    "overlap": 0.7,
    "frame_px": 64,
}
EXECUTION = PyTorchExecutionConfig(accelerator="cpu", logger_backend=None)
SOLVER = SolverExecutionConfig(arrays="numpy")
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "thinning.png"
WAYS = ("network", "solver", "network as prior mean")


def simulated(doses: list[float], seconds: float, view_share: float | None) -> list[dict[str, Any]]:
    """Object errors of the three ways at every dose, on objects that were not trained on."""
    bright = simulate_scan(object_kind="polygons", photons=1e6, frames=400, seed=11, **COMMON)
    rows = []
    for dose in doses:
        config = TrainingConfig(max_time=seconds, thin_to=dose, view_share=view_share)
        trained = get_backend("pytorch").train(bright.scan, config, EXECUTION)
        for kind in OBJECTS:
            dim = simulate_scan(object_kind=kind, photons=dose, frames=200, seed=3, **COMMON)
            results = three_ways(trained.reconstruct, dim.scan)
            errors = [scores(r.object, np.asarray(r.origin_px), dim)["error"] for r in results]
            rows.append({"dose": dose, "object": kind, "errors": errors})
            print(rows[-1], flush=True)
    return rows


def three_ways(image: Callable[[Scan], Reconstruction], scan: Scan) -> tuple[Reconstruction, ...]:
    """The network's image, the solver's, and that of the solver that is offered the network as prior mean."""
    alone, offered = (solve(scan, SolverConfig(), SOLVER, prior_mean=mean) for mean in (None, image))
    return image(scan), alone, offered


def thinned(scan: Scan, dose: float, seed: int = 5) -> Scan:
    """Keep each photon with the same chance."""
    kept = dose / scan.mean_counts_per_frame()
    counts = np.rint(scan.amplitude(slice(None)).astype(np.float64) ** 2).astype(np.int64)
    dim = np.random.default_rng(seed).binomial(counts, kept).astype(np.uint32)
    return scan_from_arrays(
        dim, scan.positions_px, scan.probe, measurement="counts", dc="center", name=f"{scan.name} at {dose:g}"
    )


def real(doses: list[float], seconds: float) -> tuple[list[dict[str, Any]], list[list[Reconstruction]]]:
    """The halves of the real scan: distance to the solver's image of the bright half, and the images."""
    whole = open_scan("siemens-star")
    order = np.random.default_rng(0).permutation(whole.n_frames)
    one, other = (whole.select(np.sort(part)) for part in np.array_split(order, 2))
    probe = solve(one, SolverConfig(), SOLVER).probe
    one, other = replace(one, probe=probe), replace(other, probe=probe)
    target = solve(other, SolverConfig(), SOLVER)
    rows, pictures = [], [[target]]
    for dose in doses:
        trained = get_backend("pytorch").train(one, TrainingConfig(max_time=seconds, thin_to=dose), EXECUTION)
        results = three_ways(trained.reconstruct, thinned(other, dose))
        errors = [compare(result, target).values["object_error"] for result in results]
        rows.append({"dose": dose, "errors": errors})
        pictures.append(list(results))
        print("real", rows[-1], flush=True)
    return rows, pictures


def draw(doses: list[float], pictures: list[list[Reconstruction]]) -> None:
    """Show the phases of the three ways at every dose beside that of the bright half."""
    target = pictures[0][0]
    figure, axes = plt.subplots(3, len(doses) + 1, figsize=(3 * (len(doses) + 1), 9), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    show(axes[0, 0], target, target, "solver, all photons")
    for column, (dose, results) in enumerate(zip(doses, pictures[1:], strict=True), 1):
        for row, (way, result) in enumerate(zip(WAYS, results, strict=True)):
            show(axes[row, column], result, target, f"{way}, {dose:g} counts")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=80)


def show(axis: Any, result: Reconstruction, target: Reconstruction, title: str) -> None:
    aligned = compare(result, target).aligned
    axis.imshow(np.angle(aligned * np.exp(-1j * np.angle(aligned.mean()))), cmap="gray", vmin=-1, vmax=1)
    axis.set_title(title, fontsize=9)


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="training on the simulated scan, a dose")
    parser.add_argument("--doses", type=float, nargs="+", default=[1e2, 1e3])
    parser.add_argument("--real-seconds", type=float, default=90.0, help="training on the real scan, a dose")
    parser.add_argument("--view-share", type=float, help="part of the batches that show other views")
    arguments = parser.parse_args()
    measured, pictures = real(REAL_DOSES, arguments.real_seconds)
    if arguments.write_docs:
        draw(REAL_DOSES, pictures)
    rows = simulated(arguments.doses, arguments.seconds, arguments.view_share)
    text = report(arguments, rows, measured)
    named = [(f"{row['dose']:g}, {row.get('object', 'real scan')}", row) for row in [*rows, *measured]]
    figures = {
        f"{name}, {way}, error": error
        for name, row in named
        for way, error in zip(WAYS, row["errors"], strict=True)
    }
    frame.finish("thinning", arguments, text, {"rows": rows, "real": measured}, figures)


def report(arguments: argparse.Namespace, rows: list[dict], measured: list[dict]) -> str:
    """Write the page."""
    doses = " ".join(f"{dose:g}" for dose in arguments.doses)
    flags = f"--seconds {arguments.seconds:g} --doses {doses} --real-seconds {arguments.real_seconds:g}"
    if arguments.view_share is not None:
        flags += f" --view-share {arguments.view_share:g}"
    table = [
        [f"{row['dose']:.0e}", row["object"], *(f"{error:.3f}" for error in row["errors"])] for row in rows
    ]
    halves = [[f"{row['dose']:.0e}", *(f"{error:.3f}" for error in row["errors"])] for row in measured]
    title = "Dose thinning: imaging a dose that was never trained on, objects that were never seen"
    return f"""{frame.opening(title, frame.command("thinning", arguments, flags))}
Object error (1 = a transparent object), N = 64. The network is trained for {arguments.seconds:g} s a dose on one
bright scan of polygons (1e6 photons a frame), thinned; the dim scans show other objects through the same probe. The
solver starts from the true probe; last, it is offered the network's image as prior mean, and takes what photons held
out say of it.

{frame.markdown_table(["photons a frame", "object", *WAYS], table)}

## The real scan

The Siemens star (4.6e5 counts a frame): one half of the frames, thinned, trains the network for
{arguments.real_seconds:g} s; the other half, thinned, is imaged. The object error is against the solver's image of
that half with all its photons.

{frame.markdown_table(["counts a frame", *WAYS], halves)}

![Phases of the three ways at each dose](../images/thinning.png)
"""


if __name__ == "__main__":
    main()
