"""The real scan: ours, the prototype and pty-chi's LSQ-ML in turn, in one run.

    nox -s bench -- star [--rounds 3] [--peer-epochs 40] [--prototype FOLDER] [--write-docs]
    nox -s bench -- star --ours-only --against COMMIT [--rounds 5]

First LSQ-ML runs once with each of several options, from coarse to fine by its ProgressiveResolutionWorkflow among
them, all shown; the option that reaches R 0.16 soonest then takes turns with ours and with the prototype (where the folder with its `solver.py` is given), every run in a
process of its own. R is computed outside the clock by `ptycho_core.physics.residual` under both sub-pixel models; a
method is judged by the one that it was solved with. At the end: a simulated twin of the scan, ours against the
peer at ten times our time.

`--against COMMIT` takes turns with ours at that commit; `--ours-only` leaves out the peer, what it was offered and
the twin: no page comes of that.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import frame
import numpy as np
from fidelity import scores
from peer_calls import OTHER_PEERS, Peer, PeerSnapshot, described, least_epochs

from ptycho_core import Scan, open_scan
from ptycho_core.physics.residual import data_residual
from ptycho_core.simulate import simulate_twin

TARGET_R = 0.16
EXPLORED = frame.RESULTS / "star-peer.json"
REFERENCE = "siemens-star-lsqml.npz"
#: What LSQ-ML is offered; where nothing is said its own defaults hold (no momentum, random batches, Gaussian).
#: Momentum is paired with compact batches because it changes nothing with the others. `coarse` are the epochs of the
#: progressive workflow at half the resolution, or at a quarter and a half.
PEER_OPTIONS: tuple[dict[str, Any], ...] = (
    {"batch_size": 16},
    {"batch_size": 32},
    {"batch_size": 64},
    {"batch_size": 128},
    {"batch_size": 32, "momentum": 0.5, "batching": "compact"},
    {"batch_size": 64, "momentum": 0.5, "batching": "compact"},
    {"batch_size": 128, "momentum": 0.5, "batching": "compact"},
    {"batch_size": 64, "batching": "uniform"},
    {"batch_size": 64, "noise": "poisson"},
    {"batch_size": 16, "coarse": [8]},
    {"batch_size": 32, "coarse": [8]},
    {"batch_size": 16, "coarse": [8, 8]},
    {"batch_size": 32, "coarse": [8, 8]},
)
OURS: dict[str, tuple[str, ...]] = {
    "default, NumPy": ("--arrays", "numpy"),
    "fast, NumPy": ("--arrays", "numpy", "--effort", "fast"),
    "default without the prior, NumPy": ("--arrays", "numpy", "--prior", "none"),
    "default, torch arrays": ("--arrays", "torch"),
    "fast, torch arrays": ("--arrays", "torch", "--effort", "fast"),
    "three modes, NumPy": ("--arrays", "numpy", "--modes", "3"),
    "default, NumPy without the kernel": ("--arrays", "numpy", "--kernel", "off"),
    "fast, NumPy without the kernel": ("--arrays", "numpy", "--effort", "fast", "--kernel", "off"),
    "default, torch arrays without the kernel": ("--arrays", "torch", "--kernel", "off"),
    "fast, torch arrays without the kernel": ("--arrays", "torch", "--effort", "fast", "--kernel", "off"),
}
#: Those that take turns with another commit: the compiled step and NumPy alone, a plain run and one with modes.
TIMED_AGAINST = (
    "default, NumPy",
    "fast, NumPy",
    "three modes, NumPy",
    "default, NumPy without the kernel",
)


@dataclass(frozen=True, eq=False)
class Run:
    """One timed reconstruction; `account` is what the time went into, where that was asked for."""

    seconds: float
    obj: np.ndarray
    probe: np.ndarray
    centres_px: np.ndarray
    intensity: np.ndarray | None = None
    account: dict[str, Any] | None = None


def run_once(scan: Scan, *options: str, python: str = sys.executable) -> Run:
    """Run `star_run.py` on the scan."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        bad = {} if scan.bad_pixels is None else {"bad": scan.bad_pixels}
        np.savez(source, counts=scan.counts(), positions_px=scan.positions_px, probe=scan.probe, **bad)
        command = [python, Path(__file__).with_name("star_run.py"), source, target, *options]
        frame.run_child(command, " ".join(options), quiet=True)
        with np.load(target, allow_pickle=False) as out:
            return Run(
                float(out["seconds"]),
                out["object"],
                out["probe"],
                out["centres_px"],
                out.get("intensity"),
                json.loads(str(out["account"])) if "account" in out else None,
            )


def both_residuals(run: Run | PeerSnapshot, scan: Scan) -> tuple[float, float]:
    """R with the probe moved in Fourier space, and with the object interpolated."""
    fourier, bilinear = (
        data_residual(run.obj, run.probe, run.centres_px, scan, subpixel=model).value
        for model in ("probe_fourier", "object_bilinear")
    )
    return fourier, bilinear


def first_below(snapshots: list[PeerSnapshot], scan: Scan, target: float) -> PeerSnapshot | None:
    """Return the first snapshot at which R, under the peer's own model, is at most the target."""
    return next((snap for snap in snapshots if snap.residual(scan, "object_bilinear") <= target), None)


def explore_peer(
    peer: Peer, scan: Scan, epochs: int, *, anew: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run LSQ-ML with every option; return all rows and the soonest at the target, or the lowest R.

    What an option brought is kept in bench-results/ and used again, unless it is to be run anew: it only
    chooses the option that then takes turns with ours.
    """
    rows: list[dict[str, Any]] = json.loads(EXPLORED.read_text()) if EXPLORED.exists() and not anew else []
    rows = [row for row in rows if row["option"] in PEER_OPTIONS and row["epochs"] == epochs]
    for option in PEER_OPTIONS:
        if any(row["option"] == option for row in rows):
            continue
        every = tuple(range(1, epochs))
        snapshots = peer.run(scan, engine="lsqml", epochs=epochs, snapshots=every, **option)
        reached = first_below(snapshots, scan, TARGET_R)
        fourier, bilinear = both_residuals(snapshots[-1], scan)
        rows.append(
            {
                "option": option,
                "epochs": epochs,
                "seconds": snapshots[-1].seconds,
                "R_probe_fourier": fourier,
                "R_object_bilinear": bilinear,
                "target_epoch": reached.epoch if reached else None,
                "target_seconds": reached.seconds if reached else None,
            }
        )
        print(f"LSQ-ML {rows[-1]}", flush=True)
        EXPLORED.parent.mkdir(exist_ok=True)
        EXPLORED.write_text(json.dumps(rows, indent=1))
    best = min(rows, key=lambda row: (row["target_seconds"] or np.inf, row["R_object_bilinear"]))
    return rows, best


def alternate(
    scan: Scan, rounds: int, peer: Peer | None, best: dict[str, Any], prototype: Path | None
) -> dict[str, list[dict[str, float]]]:
    """Take turns: every method once a round."""

    def judged(run: Run | PeerSnapshot) -> dict[str, float]:
        fourier, bilinear = both_residuals(run, scan)
        return {"seconds": run.seconds, "R_probe_fourier": fourier, "R_object_bilinear": bilinear}

    def theirs() -> dict[str, float]:
        epoch = best["target_epoch"] or best["epochs"]
        return judged(peer.run(scan, engine="lsqml", epochs=epoch, **best["option"])[-1])

    options = {name: ("--method", "ours", *chosen) for name, chosen in OURS.items()}
    for effort in ("default", "fast") if prototype else ():
        chosen = ("--folder", str(prototype), "--effort", effort)
        options[f"prototype {effort}, PyTorch"] = ("--method", "prototype", *chosen)
    methods = {
        name: lambda chosen=chosen: judged(run_once(scan, *chosen)) for name, chosen in options.items()
    }
    if peer is not None:
        methods["pty-chi LSQ-ML"] = theirs
    return frame.take_turns(rounds, methods, note=lambda name, run: print(f"{name}: {run}", flush=True))


def with_another_commit(arguments: argparse.Namespace, scan: Scan) -> dict[str, Any]:
    """Take turns with ours at another commit."""

    def seconds(options: tuple[str, ...], python: str) -> float:
        return run_once(scan, "--method", "ours", *options, python=python).seconds

    return frame.against(arguments, {name: partial(seconds, OURS[name]) for name in TIMED_AGAINST})


def twin_rows(peer: Peer, scan: Scan, best: dict[str, Any]) -> list[dict[str, Any]]:
    """Ours and the peer on the simulated twin, the peer with ten times the time of our default."""
    made = simulate_twin(scan, true_probe(scan))
    rows = []
    for name in ("default, NumPy", "fast, NumPy"):
        run = run_once(made.scan, "--method", "ours", *OURS[name])
        origin = made.scan.positions_px[0] - run.centres_px[0]
        rows.append({"method": name, "seconds": run.seconds, **scores(run.obj, origin, made)})
    budget = 10 * rows[0]["seconds"]
    per_epoch = best["seconds"] / best["epochs"]
    epochs = max(int(np.ceil(1.3 * budget / per_epoch)), sum(best["option"].get("coarse", ()))) + 1
    snapshots = peer.run(
        made.scan, engine="lsqml", epochs=epochs, snapshots=tuple(range(1, epochs)), **best["option"]
    )
    end = next((snap for snap in snapshots if snap.seconds >= budget), snapshots[-1])
    origin = made.scan.positions_px[0] - end.centres_px[0]
    name = f"pty-chi LSQ-ML, {end.epoch} epochs"
    rows.append({"method": name, "seconds": end.seconds, **scores(end.obj, origin, made)})
    return rows


def true_probe(scan: Scan) -> np.ndarray:
    """Return the reference's probe where its file is at hand, otherwise the one that ours recovers."""
    reference = Path(os.environ.get("PTYCHO_DATA_DIR", ".")) / REFERENCE
    if reference.exists():
        with np.load(reference, allow_pickle=False) as archive:
            return archive["probe"][None].astype(np.complex64)
    return run_once(scan, "--method", "ours").probe


HEADER = (
    "method",
    "s",
    "range",
    "R, probe moved",
    "R, object interpolated",
    "times faster than LSQ-ML",
    "time / prototype's",
)


def method_rows(rounds: dict[str, list[dict[str, float]]]) -> list[list[str]]:
    """One row of `HEADER` for each method."""
    median = {name: statistics.median(run["seconds"] for run in runs) for name, runs in rounds.items()}
    theirs = median.get("pty-chi LSQ-ML")
    rows = []
    for name, runs in rounds.items():
        models = [
            statistics.median(run[key] for run in runs) for key in ("R_probe_fourier", "R_object_bilinear")
        ]
        spread = f"{min(r['seconds'] for r in runs):.2f} to {max(r['seconds'] for r in runs):.2f}"
        proto = median.get(f"prototype {'fast' if 'fast' in name else 'default'}, PyTorch")
        against = f"{median[name] / proto:.2f}" if proto and "modes" not in name else "-"
        rows.append(
            [
                name,
                f"{median[name]:.2f}",
                spread,
                *(f"{value:.4f}" for value in models),
                f"{theirs / median[name]:.1f}" if theirs else "-",
                against,
            ]
        )
    return rows


def report(
    command: str,
    options: list[dict[str, Any]],
    best: dict[str, Any],
    rounds: dict[str, list[dict[str, float]]],
    twin: list[dict[str, Any]],
) -> str:
    """Write all three tables."""
    tried = [
        [
            described(row["option"]),
            f"{row['seconds'] / row['epochs']:.2f}",
            f"{row['R_probe_fourier']:.4f}",
            f"{row['R_object_bilinear']:.4f}",
            "never" if row["target_seconds"] is None else f"{row['target_seconds']:.1f}",
        ]
        for row in options
    ]
    twins = [
        [row["method"], f"{row['seconds']:.2f}", f"{row['error']:.3f}", f"{row['frc']:.2f}"] for row in twin
    ]
    count = len(next(iter(rounds.values())))
    took_part = (
        "ours and the prototype move the probe, pty-chi interpolates the object. The prototype's column compares "
        "default with default and fast with fast."
        if any(name.startswith("prototype") for name in rounds)
        else "ours move the probe, pty-chi interpolates the object. The prototype did not take part (`--prototype "
        "FOLDER`)."
    )
    reached = f"R {TARGET_R}" if best["target_epoch"] else f"its end; it never reached R {TARGET_R}"
    return "\n".join(
        [
            frame.opening("The real scan: 516 frames of a Siemens star", command),
            f"Wall time from frames in memory to object and probe, medians of {count} rounds in which the "
            "methods took turns; the residual that our result carries is not part of it, as nobody else computes "
            "one. Ours with the compiled step, unless the row says without. R under both sub-pixel models: "
            f"{took_part} pty-chi 2.2.0 LSQ-ML ({described(best['option'])}) ran to "
            f"{reached}.",
            "",
            frame.markdown_table(HEADER, method_rows(rounds)),
            "",
            f"## What LSQ-ML was offered, {best['epochs']} epochs each",
            "",
            "These runs choose the option that then takes turns with ours. They may come fr"
            "om an earlier run of the command on a machine with other work on it (`--peer run` "
            "makes them anew): compare their seconds with each other, not with those above. With epochs at coarser levels "
            "it is ProgressiveResolutionWorkflow, first at half the resolution, or at a quarter and then a half; the "
            "seconds have all of its levels, and an epoch is the mean of them.",
            "",
            frame.markdown_table(
                [
                    "options",
                    "s per epoch",
                    "R, probe moved",
                    "R, object interpolated",
                    f"s to R {TARGET_R}",
                ],
                tried,
            ),
            "",
            "## Simulated twin of the scan",
            "",
            "Same positions and counts, a phantom of discs, the scan's own wrong start probe; the peer gets "
            "ten times the time of our default. Object error: 1 = a transparent object.",
            "",
            frame.markdown_table(["method", "s", "object error", "FRC"], twins),
            "",
            "## Other peers",
            "",
            OTHER_PEERS,
            "",
        ]
    )


def main() -> None:
    parser = frame.parser(__doc__, rounds=3, against=True)
    parser.add_argument("--peer-epochs", type=int, default=40)
    parser.add_argument("--peer", choices=("auto", "run"), default="auto", help="run: every option anew")
    parser.add_argument("--peer-python")
    parser.add_argument("--prototype", type=Path, metavar="FOLDER", help="with the prototype's `solver.py`")
    parser.add_argument("--ours-only", action="store_true", help="no peer, no exploration, no twin")
    arguments = parser.parse_args()
    if arguments.peer_epochs < (least := least_epochs(PEER_OPTIONS)):
        parser.error(
            f"--peer-epochs: {least} at least, as some options begin with that many but one at coarser levels"
        )
    if arguments.ours_only and arguments.write_docs:
        parser.error("the page needs the peer: leave out --ours-only or --write-docs")
    if arguments.prototype is not None and not (arguments.prototype / "solver.py").is_file():
        parser.error(
            f"{arguments.prototype} holds no `solver.py`; give the prototype's folder, or leave it out"
        )
    peer = None if arguments.ours_only else Peer(arguments.peer_python)
    scan = open_scan("siemens-star")
    compared = with_another_commit(arguments, scan) if arguments.against else None
    options, twin, best = [], [], {}
    words = [f"--rounds {arguments.rounds}"]
    if peer is None:
        command = frame.command("star", arguments, *words, "--ours-only")
        rounds = {} if compared else alternate(scan, arguments.rounds, None, best, None)
        text = frame.opening("The real scan, ours only", command)
        text += "\n" + frame.markdown_table(HEADER, method_rows(rounds)) + "\n" if rounds else ""
    else:
        words += [
            f"--peer-epochs {arguments.peer_epochs}",
            *(["--prototype FOLDER"] if arguments.prototype else []),
        ]
        options, best = explore_peer(peer, scan, arguments.peer_epochs, anew=arguments.peer == "run")
        rounds = alternate(scan, arguments.rounds, peer, best, arguments.prototype)
        twin = twin_rows(peer, scan, best)
        text = report(frame.command("star", arguments, *words), options, best, rounds, twin)
    figures = {f"{name}, s": found["now"] for name, found in (compared or {"methods": {}})["methods"].items()}
    for name, runs in rounds.items():
        figures[f"{name}, s"] = statistics.median(run["seconds"] for run in runs)
        figures[f"{name}, R"] = statistics.median(run["R_probe_fourier"] for run in runs)
    data = {"peer_options": options, "rounds": rounds, "twin": twin, "against": compared}
    frame.finish("star", arguments, text, data, figures, against=compared)


if __name__ == "__main__":
    main()
