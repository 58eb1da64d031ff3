"""The recipe of a real beamtime: three modes, positions, OPR, intensities and background, all found at once.

    nox -s bench -- recipe [--rounds 3] [--peer-epochs 40] [--scans star,simulated] [--frames 40] [--write-docs]
    nox -s bench -- recipe --ours-only

On the real star with jittered positions, the real labyrinth with wrong ones, and a simulated scan with all of these
faults and known truth (`beamtime.py`). First LSQ-ML, with as many modes, OPR, intensities and corrected positions,
runs once with each of several options, looked at every few epochs. The lowest object error of all these (R where the
truth is not known) is its best; the option that comes within a hundredth of it soonest takes turns with ours, for so
many epochs, every run in a process of its own. In the same turns, ours alone on the star as it is: what each freedom
costs. R is computed outside the clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import frame
import numpy as np
from beamtime import MODES, BeamtimeScan, Found, beamtime_scan, judged
from cases import case_hash
from peer_calls import Peer, described, least_epochs
from recipe_page import (
    MODES_ALONE,
    PEER,
    RECIPE,
    RECIPE_FAST,
    RECIPE_NO_PRIOR,
    draw,
    measure,
    medians,
    ratios_of,
    report,
)
from star import Run, run_once

from ptycho_core import Scan, open_scan
from ptycho_core.figures.display import covered_phase
from ptycho_core.physics.canvas import coverage_of

EXPLORED, PICTURE = frame.RESULTS / "recipe-peer.json", Path("docs/images/recipe.png")
SCANS = ("star", "labyrinth", "simulated")
#: What the peer finds in every run; of a flat background it knows nothing.
SAME: dict[str, Any] = {"engine": "lsqml", "modes": MODES, "variations": 2, "intensity": True}
#: How it is told to. By default positions go by gradients with a step of 0.3, at most 0.1 px a move, from the first
#: epoch; momentum of object and probe is off, as it serves compact batches only.
PEER_OPTIONS: tuple[dict[str, Any], ...] = (
    {"batch_size": 16, "positions": "gradient"},
    {"batch_size": 32, "positions": "gradient"},
    {"batch_size": 64, "positions": "gradient"},
    {"batch_size": 16, "positions": "gradient", "position_step": 1.0, "position_limit": 1.0},
    {"batch_size": 16, "positions": "gradient", "position_step": 3.0, "position_limit": 1.0},
    {"batch_size": 32, "positions": "gradient", "position_step": 3.0, "position_limit": 1.0},
    {
        "batch_size": 16,
        "positions": "gradient",
        "position_step": 3.0,
        "position_limit": 1.0,
        "position_start": 10,
    },
    {"batch_size": 16, "positions": "gradient", "position_step": 3.0, "position_limit": 1.0, "coarse": [8]},
    {"batch_size": 32, "positions": "cross_correlation"},
)
#: Epochs from one look at the peer to the next; and how near its best it has to come.
LOOK_EVERY, NEAR_ENOUGH = 4, 1.01
FREEDOMS: dict[str, tuple[str, ...]] = {
    "three modes": ("--modes", str(MODES)),
    "positions": ("--refine-positions",),
    "OPR, two modes": ("--variations", "2"),
    "intensities": ("--frame-intensity",),
    "background": ("--refine-background",),
}
EVERYTHING = tuple(word for words in FREEDOMS.values() for word in words)
NO_PRIOR = ("--prior", "none")
#: Ours on each scan.
OURS = {
    RECIPE: EVERYTHING,
    RECIPE_NO_PRIOR: (*EVERYTHING, *NO_PRIOR),
    RECIPE_FAST: (*EVERYTHING, "--effort", "fast"),
    MODES_ALONE: FREEDOMS["three modes"],
}
#: Ours on the star as it is: one freedom at a time, and what the ratios need.
COSTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    **FREEDOMS,
    "recipe": EVERYTHING,
    "plain, no prior": NO_PRIOR,
    "three modes, no prior": (*FREEDOMS["three modes"], *NO_PRIOR),
    "positions, no prior": (*FREEDOMS["positions"], *NO_PRIOR),
    "recipe, no prior": (*EVERYTHING, *NO_PRIOR),
}


# The peer at its best


def identity(case: BeamtimeScan) -> str:
    """Say what explored runs were made on, so that they are used for nothing else."""
    scan = case.scan
    sums = [float(np.sum(scan.counts(), dtype=np.float64)), scan.positions_px.round(6).tolist()]
    return case_hash(case.name, scan.n_frames, SAME, LOOK_EVERY, sums)


def explored(peer: Peer, case: BeamtimeScan, epochs: int, *, anew: bool) -> list[dict[str, Any]]:
    """Run LSQ-ML with every option and judge it every few epochs; what an option brought is kept and used again."""
    every: list[dict[str, Any]] = json.loads(EXPLORED.read_text()) if EXPLORED.exists() else []
    about = {"scan": identity(case), "epochs": epochs}
    kept = [
        row for row in every if about.items() <= row.items() and row["option"] in PEER_OPTIONS and not anew
    ]
    rest = [row for row in every if not about.items() <= row.items()]
    for option in PEER_OPTIONS:
        if any(row["option"] == option for row in kept):
            continue
        looks = tuple(range(LOOK_EVERY, epochs, LOOK_EVERY))
        states = peer.run(case.scan, epochs=epochs, snapshots=looks, **SAME, **option)
        looked = [
            {
                "epoch": state.epoch,
                "seconds": state.seconds,
                **judged(Found(state.obj, state.probe, state.centres_px, state.intensity), case),
            }
            for state in states
        ]
        kept.append({**about, "option": option, "looks": looked})
        print(f"{case.name}, {described(option)}: {looked[-1]}", flush=True)
        EXPLORED.parent.mkdir(exist_ok=True)
        EXPLORED.write_text(json.dumps([*rest, *kept]))
    return kept


def best_of(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], int]:
    """The option that comes near the lowest value of all runs soonest, and after how many epochs."""
    looks = [(row["option"], look) for row in rows for look in row["looks"]]
    lowest = min(measure(look) for _, look in looks)
    near = [(option, look) for option, look in looks if measure(look) <= NEAR_ENOUGH * lowest]
    option, look = min(near, key=lambda one: one[1]["seconds"])
    return option, look["epoch"]


# The turns


def methods_for(
    cases: Sequence[BeamtimeScan],
    star: Scan | None,
    peer: Peer | None,
    best: Mapping[str, tuple[dict[str, Any], int]],
    pictures: dict[tuple[str, str], np.ndarray],
) -> dict[tuple[str, str], Callable[[], dict[str, Any]]]:
    """What takes turns: (scan, method) -> a call that runs and judges; phases to be shown go to `pictures`."""

    def ours(case: BeamtimeScan, name: str) -> dict[str, Any]:
        run = run_once(case.scan, "--method", "ours", *OURS[name])
        found = Found(run.obj, run.probe, run.centres_px, run.intensity)
        pictures[case.name, name] = phase_of(found)
        return {"seconds": run.seconds, **judged(found, case)}

    def theirs(case: BeamtimeScan, peer: Peer) -> dict[str, Any]:
        option, epochs = best[case.name]
        end = peer.run(case.scan, epochs=epochs, **SAME, **option)[-1]
        found = Found(end.obj, end.probe, end.centres_px, end.intensity)
        pictures[case.name, PEER] = phase_of(found)
        return {"seconds": end.seconds, **judged(found, case)}

    def cost(scan: Scan, name: str) -> dict[str, Any]:
        return costs_of(run_once(scan, "--method", "ours", "--account", *COSTS[name]))

    methods: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {}
    for case in cases:
        methods |= {(case.name, name): partial(ours, case, name) for name in OURS}
        if peer is not None:
            methods[case.name, PEER] = partial(theirs, case, peer)
    if star is not None:
        methods |= {("costs", name): partial(cost, star, name) for name in COSTS}
    return methods


def costs_of(run: Run) -> dict[str, float]:
    """What a run of ours spent, and how long its Fourier transforms alone take.

    `gradient_seconds` leave out what the run itself books as `search` of positions and `held_out` test of them.
    Every epoch transforms the exit wave of each frame and mode to the detector and back: that is the least.
    """
    about = run.account or {}
    spent, frames_and_modes = about["timings"], about["frames"] * about["modes"]
    transforms = {size: 2 * frames_and_modes * epochs for size, epochs in about["epochs"].items()}
    return {
        "seconds": run.seconds,
        "gradient_seconds": run.seconds - spent.get("search", 0.0) - spent.get("held_out", 0.0),
        "level_seconds": sum(value for name, value in spent.items() if name.startswith("level_")),
        "epochs": sum(about["epochs"].values()),
        "transforms": sum(transforms.values()),
        "transform_seconds": sum(
            count * about["transform_seconds"][size] for size, count in transforms.items()
        ),
    }


def phase_of(found: Found) -> np.ndarray:
    """Phase of what was covered, without a ramp; a single NaN where it is not finite."""
    if not np.isfinite(found.obj).all():
        return np.full((1, 1), np.nan, np.float32)
    n = found.probe.shape[-1]
    corners = np.floor(found.centres_px - n // 2 + 0.5).astype(np.int64)
    corners = np.clip(corners, 0, np.array(found.obj.shape) - n)
    return covered_phase(found.obj, coverage_of(found.probe, corners, found.obj.shape))


# All of it


def main() -> None:
    parser = frame.parser(__doc__, rounds=3)
    parser.add_argument("--scans", default=",".join(SCANS), help=f"some of {', '.join(SCANS)}")
    parser.add_argument("--frames", type=int, help="only the first so many of each scan: a quick look")
    parser.add_argument("--peer-epochs", type=int, default=40)
    parser.add_argument("--peer", choices=("auto", "run"), default="auto", help="run: every option anew")
    parser.add_argument("--peer-python")
    parser.add_argument("--ours-only", action="store_true", help="no peer")
    parser.add_argument("--no-costs", action="store_true", help="no table of what each freedom costs")
    arguments = parser.parse_args()
    if arguments.peer_epochs < (least := least_epochs(PEER_OPTIONS)):
        parser.error(
            f"--peer-epochs: {least} at least, as some options begin with that many but one at coarser levels"
        )
    names = arguments.scans.split(",")
    if unknown := set(names) - set(SCANS):
        parser.error(f"--scans: no `{unknown.pop()}`; there are {', '.join(SCANS)}")
    if arguments.write_docs and (arguments.ours_only or arguments.no_costs or arguments.frames):
        parser.error(
            "the page needs all of it: leave out --write-docs, or --ours-only, --no-costs and --frames"
        )
    peer = None if arguments.ours_only else Peer(arguments.peer_python)
    cases = []
    for name in names:
        case = beamtime_scan(name, arguments.frames)
        if case is None:
            print(f"{name}: its file is not in PTYCHO_DATA_DIR, and it is left out", flush=True)
        else:
            cases.append(case)
    anew = arguments.peer == "run"
    rows = {case.name: explored(peer, case, arguments.peer_epochs, anew=anew) for case in cases if peer}
    best = {name: best_of(options) for name, options in rows.items()}
    star = None if arguments.no_costs else open_scan("siemens-star")
    if star is not None and arguments.frames:
        star = star.select(np.arange(min(arguments.frames, star.n_frames)))
    pictures: dict[tuple[str, str], np.ndarray] = {}
    methods = methods_for(cases, star, peer, best, pictures)
    found = frame.take_turns(
        arguments.rounds, methods, note=lambda name, run: print(*name, run, sep=", ", flush=True)
    )
    shown = {
        key: f"{'object error' if 'error' in runs[-1] else 'R'} {measure(runs[-1]):.3f}"
        for key, runs in found.items()
        if key in pictures
    }
    draw(pictures, shown, PICTURE if arguments.write_docs else frame.RESULTS / PICTURE.name)
    words = [f"--rounds {arguments.rounds}", f"--peer-epochs {arguments.peer_epochs}"]
    words += [f"--scans {arguments.scans}"] if names != list(SCANS) else []
    words += [f"--frames {arguments.frames}"] if arguments.frames else []
    text = report(frame.command("recipe", arguments, *words), cases, rows, best, found, LOOK_EVERY)
    figures = {
        f"{scan}, {name}, {key}": value
        for (scan, name), runs in found.items()
        for key, value in medians(runs).items()
        if key in ("seconds", "R_probe_fourier", "error", "unstrained_error_px")
    }
    data = {"explored": rows, "rounds": {", ".join(key): runs for key, runs in found.items()}}
    frame.finish("recipe", arguments, text, data, figures | ratios_of(found))


if __name__ == "__main__":
    main()
