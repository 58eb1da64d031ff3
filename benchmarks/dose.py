"""The same samples with ever fewer photons: with the prior, without it, and pty-chi's two best engines.

    nox -s bench -- dose [--peer] [--network SECONDS] [--save FOLDER] [--resume] [--write-docs]

Simulated: the centre case of `cases.py` (polygons, N = 64, a start probe as wrong as that of the real scan), seeds 1 to
3, at 1e2 to 1e8 photons a frame; and five objects with the true probe at 1e2 and 1e3. Real: one half of the Siemens
star's frames, thinned, against the bright image of the same frames; the probe is that of the other half. All with the
default settings. Beside each simulated scan stands what no linear estimator can do better (`bound.py`). `--peer` lets
pty-chi have the scans of seed 1 and 50 epochs of LSQ-ML with both of its noise models and rPIE, and takes the best by
object error. `--network` trains one for so long for each dose of the centre case up to 1e6, on a bright scan of another
sample with the same probe, thinned to that dose; it images the dim scans alone, and as prior mean of the solver. `--save`
writes the simulated scans as NPZ, for other programs. `--resume` goes on with the rows of a run that was interrupted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import stdev
from typing import Any

import frame
import numpy as np
from bound import linear_bound
from cases import CENTRE, OBJECTS, SEEDS
from fidelity import EPOCHS, geometric_mean, scores
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from peer_calls import Peer

from ptycho_config.execution import PyTorchExecutionConfig, SolverExecutionConfig
from ptycho_config.models import SolverConfig, TrainingConfig
from ptycho_core import Reconstruction, Scan, open_scan, save_scan, scan_from_arrays, solve
from ptycho_core.backend import get_backend
from ptycho_core.metrics import compare
from ptycho_core.simulate import SimulatedScan, simulate_scan

PICTURE = Path("docs/images/dose.png")
DOSES = (1e2, 1e3, 1e4, 1e5, 1e6, 1e8)
REAL_DOSES = (1e2, 1e3, 1e4)
METHODS = ("with the prior", "without")
NETWORK, BOTH = "network", "network and solver"
#: The scan that a network learns has so many photons, or so many times those of the dim one.
BRIGHT, BRIGHTER, LEARNED_SEED = 1e6, 10.0, 11
#: Networks are for few photons; many more than these are no whole numbers in float32, and cannot be thinned.
MOST_LEARNED = 1e6
#: What is done of a run, row by row: it takes an hour.
DONE = frame.RESULTS / "dose-rows.json"
BOUND = "linear bound"
#: Engine, batch and noise model; rPIE has one of its own.
PEER_WAYS = (("lsqml", 12, "gaussian"), ("lsqml", 12, "poisson"), ("rpie", 12, None))
NUMPY = SolverExecutionConfig(arrays="numpy")


#: The scan that is solved with several seeds of the solver, which split its photons otherwise.
SCATTERED, SOLVER_SEEDS = CENTRE | {"photons": 1e3, "seed": 1}, 5


def solved(scan: Scan, method: str, *, seed: int = 0) -> Reconstruction:
    return solve(scan, SolverConfig(prior="auto" if method == METHODS[0] else "none", seed=seed), NUMPY)


def scatter() -> list[float]:
    """Object errors of one dim scan, solved with five seeds."""
    made = simulate_scan(**SCATTERED)
    results = (solved(made.scan, METHODS[0], seed=seed) for seed in range(SOLVER_SEEDS))
    return [scores(result.object, result.origin_px, made)["error"] for result in results]


def chosen(result: Reconstruction) -> str:
    """What held-out photons, or the rule, chose."""
    told = [event for event in result.events if event.kind in ("prior", "dose")]
    data = told[-1].data if told else {}
    if "shape" not in data:
        return "-"
    start = f", {data['start']}" if "start" in data else ""
    kept = "" if data.get("taken", True) else ", not taken"
    return f"{data['shape']} {data['strength']:.3g}{start}{kept}"


@cache
def network_for(dose: float, seconds: float) -> Callable[[Scan], Reconstruction]:
    """Images of a network that has learned a bright scan of the centre case, thinned to a dose.

    The probe is the one that the solver finds with the bright scan, as `ptycho train` and `ptycho infer` have it.
    """
    bright = simulate_scan(
        **CENTRE | {"photons": max(BRIGHT, BRIGHTER * dose), "seed": LEARNED_SEED, "frames": 400}
    ).scan
    known = {"probe": solved(bright, METHODS[1]).probe, "probe_source": "given"}
    config = TrainingConfig(max_time=seconds, thin_to=dose)
    where = PyTorchExecutionConfig(accelerator="cpu", logger_backend=None)
    trained = get_backend("pytorch").train(replace(bright, **known), config, where)
    return lambda scan: trained.reconstruct(replace(scan, **known))


def with_network(made: SimulatedScan, image_of: Callable[[Scan], Reconstruction]) -> dict[str, float]:
    """Object errors of the network's image, and of the solver that is offered it."""
    helped = solve(made.scan, SolverConfig(), NUMPY, prior_mean=image_of)
    return {
        name: scores(result.object, np.asarray(result.origin_px), made)["error"]
        for name, result in ((NETWORK, image_of(made.scan)), (BOTH, helped))
    }


def row_of(name: str, made: SimulatedScan, peer: Peer | None) -> dict[str, Any]:
    row: dict[str, Any] = {"case": name, BOUND: linear_bound(made)}
    for method in METHODS:
        result = solved(made.scan, method)
        row[method] = scores(result.object, result.origin_px, made)["error"]
        if method == METHODS[0]:
            row |= {"seconds": result.timings["total"], "chosen": chosen(result)}
    if peer is not None:
        errors = []
        for engine, batch_size, noise in PEER_WAYS:
            how = {"engine": engine, "batch_size": batch_size, "noise": noise}
            end = peer.run(made.scan, **how, epochs=EPOCHS, modes=1)[-1]
            if np.isfinite(end.obj).all():
                origin = made.scan.positions_px[0] - end.centres_px[0]
                errors.append(scores(end.obj, origin, made)["error"])
        row["pty-chi"] = min(errors, default=math.nan)
    print(name, {key: row[key] for key in row if key != "case"}, flush=True)
    return row


def thinned(scan: Scan, dose: float) -> Scan:
    counts = np.rint(np.square(scan.amplitude(slice(None)), dtype=np.float64)).astype(np.int64)
    dim = np.random.default_rng(5).binomial(counts, dose / scan.mean_counts_per_frame())
    told = {"measurement": "counts", "dc": "center", "name": f"star {dose:.0e}"}
    return scan_from_arrays(dim.astype(np.uint32), scan.positions_px, scan.probe, **told)


def real() -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Half of the star's frames, thinned, against their bright image."""
    whole = open_scan("siemens-star")
    order = np.random.default_rng(0).permutation(whole.n_frames)
    ones, others = (whole.select(np.sort(part)) for part in np.array_split(order, 2))
    half = replace(others, probe=solved(ones, METHODS[1]).probe)
    target, rows = solved(half, METHODS[1]), []
    images = {"all photons": target.object}
    for dose in REAL_DOSES:
        scan, row = thinned(half, dose), {"case": f"star {dose:.0e}"}
        for method in METHODS:
            result = solved(scan, method)
            row[method] = compare(result, target).values["object_error"]
            if method == METHODS[0]:
                row |= {"seconds": result.timings["total"], "chosen": chosen(result)}
                images[f"{dose:.0e}"] = result.object
        print(row, flush=True)
        rows.append(row)
    return rows, images


def _mean(rows: list[dict[str, Any]], dose: float, method: str) -> float:
    """Mean over the seeds of a dose that have the method."""
    seeds = [row for row in rows if row["case"].startswith(f"{dose:.0e}, seed")]
    found = [row[method] for row in seeds if method in row]
    return float(np.mean(found)) if found else math.nan


def more_methods(arguments: Any) -> tuple[str, ...]:
    """Which methods were asked for besides."""
    return (*((NETWORK, BOTH) if arguments.network else ()), *(("pty-chi",) if arguments.peer else ()))


def draw(rows: list[dict[str, Any]], images: dict[str, np.ndarray], more: tuple[str, ...]) -> None:
    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic(
        [["curve"] * 2 + ["all photons", "1e+04"], ["curve"] * 2 + ["1e+03", "1e+02"]]
    )
    for method in (*METHODS, *more, BOUND):
        means = [_mean(rows, dose, method) for dose in DOSES]
        style, name = ("k--", f"{BOUND}, probe known") if method == BOUND else ("o-", method)
        axes["curve"].loglog(DOSES, np.minimum(means, 1.5), style, label=name)
    axes["curve"].set_xlabel("photons a frame of 64 x 64 px")
    axes["curve"].set_ylabel("object error, 1 = a transparent object")
    axes["curve"].legend()
    for name, obj in images.items():
        middle = np.array(obj.shape) // 2
        part = obj[middle[0] - 90 : middle[0] + 90, middle[1] - 90 : middle[1] + 90]
        axes[name].imshow(
            np.angle(part * np.exp(-1j * np.angle(part.mean()))), cmap="gray", vmin=-1, vmax=0.6
        )
        axes[name].set_title(f"real star, {name}" + ("" if name == "all photons" else " a frame"))
        axes[name].set_axis_off()
    figure.savefig(PICTURE, dpi=90)


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--peer", action="store_true", help="let pty-chi have the simulated scans as well")
    parser.add_argument("--peer-python")
    parser.add_argument(
        "--network", type=float, metavar="SECONDS", help="train one for so long for each dose"
    )
    parser.add_argument("--resume", action="store_true", help="keep the rows of a run that was interrupted")
    parser.add_argument("--save", type=Path, help="write the simulated scans into this folder")
    arguments = parser.parse_args()
    peer = Peer(arguments.peer_python) if arguments.peer else None
    cases = {
        f"{dose:.0e}, seed {seed}": CENTRE | {"photons": dose, "seed": seed}
        for dose in DOSES
        for seed in SEEDS
    }
    true = {"probe_kind": "focus", "position_kind": "spiral", "start_kind": "true", "overlap": 0.7}
    cases |= {
        f"{dose:.0e}, {kind}, true probe": true
        | {"photons": dose, "object_kind": kind, "frames": 200, "frame_px": 64, "seed": 3}
        for dose in DOSES[:2]
        for kind in OBJECTS
    }
    asked, rows = {"peer": arguments.peer, "network": arguments.network}, []
    if arguments.resume and DONE.exists():
        kept = json.loads(DONE.read_text())
        if kept["asked"] != asked:
            raise SystemExit(
                f"{DONE} is of a run with {kept['asked']}; leave out --resume, or ask for the same"
            )
        rows = kept["rows"]
    for name, case in cases.items():
        made = simulate_scan(**case)
        if arguments.save:
            arguments.save.mkdir(parents=True, exist_ok=True)
            save_scan(made.scan, arguments.save / f"{name.replace(', ', '-').replace(' ', '-')}.npz")
        row = next((row for row in rows if row["case"] == name), None)
        if row is None:
            row = row_of(name, made, peer if "seed 1" in name else None)
            rows.append(row)
        if arguments.network and ", seed " in name and case["photons"] <= MOST_LEARNED and NETWORK not in row:
            row |= with_network(made, network_for(case["photons"], arguments.network))
            print(name, {key: row[key] for key in (NETWORK, BOTH)}, flush=True)
        DONE.parent.mkdir(exist_ok=True)
        DONE.write_text(json.dumps({"asked": asked, "rows": rows}, indent=1))
    scattered = scatter()
    of_the_star, images = real()
    if arguments.write_docs:
        draw(rows, images, more_methods(arguments))
    rows += of_the_star
    figures = frame.figures(rows, "case", METHODS[0], "seconds")
    page = report(arguments, rows, scattered)
    frame.finish("dose", arguments, page, {"rows": rows, "scattered": scattered}, figures)
    DONE.unlink()


def report(arguments: Any, rows: list[dict[str, Any]], scattered: list[float]) -> str:
    with_peer = arguments.peer
    methods = (*METHODS, *more_methods(arguments), BOUND)
    header = ["photons a frame", *methods, "s", "chosen"]
    lines = [
        [
            row["case"],
            *(f"{row[method]:.3f}" if method in row else "-" for method in methods),
            f"{row['seconds']:.1f}",
            row["chosen"],
        ]
        for row in rows
    ]
    means = [
        [
            f"{dose:.0e}",
            *(f"{mean:.3f}" if (mean := _mean(rows, dose, method)) == mean else "-" for method in methods),
        ]
        for dose in DOSES
    ]
    true = [
        f"- True probe, {dose:.0e} photons, geometric mean of five objects: "
        + ", ".join(
            f"{m} {geometric_mean(row[m] for row in rows if row['case'].startswith(f'{dose:.0e}, ') and 'true' in row['case']):.3f}"
            for m in METHODS
        )
        + "."
        for dose in DOSES[:2]
    ]
    words = (["--peer"] if with_peer else []) + (
        [f"--network {arguments.network:g}"] if arguments.network else []
    )
    learned = (
        f"The network learned {arguments.network:g} s for each dose, on a bright scan of another sample, with the probe that the\n"
        "solver found with that scan. Held-out photons decide what the solver takes of its image."
        if arguments.network
        else ""
    )
    return "\n".join(
        [
            frame.opening("Fewer and fewer photons", frame.command("dose", arguments, *words)),
            "Object error after removal of phase, scale, ramp and shift (1 = a transparent object). What was chosen: shape",
            "and strength of the prior, and where photons held out decided, the start. The bound is that of all estimators",
            "that are linear about the truth, told the true probe and the power spectra of the object by an oracle; edges allow",
            "more. The seconds may be disturbed by other work on the machine.",
            *([learned] if learned else []),
            "",
            "![Error over dose, and the real star with fewer and fewer photons](../images/dose.png)",
            "",
            "Means over three seeds" + (", pty-chi's the first seed alone:" if with_peer else ":"),
            "",
            frame.markdown_table(["photons a frame", *methods], means),
            "",
            *true,
            f"- Scatter: 1e+03 photons, seed 1, with the solver's seeds 0 to {SOLVER_SEEDS - 1}: "
            f"{', '.join(f'{error:.3f}' for error in scattered)}; standard deviation {stdev(scattered):.3f}.",
            "",
            frame.markdown_table(header, lines),
            "",
        ]
    )


if __name__ == "__main__":
    main()
