"""Known truth: ours against pty-chi's best engine on the fixed design of `cases.py`.

    nox -s bench -- fidelity [--only NAME] [--peer run|cached|skip] [--write-docs]

Ours runs with its default parameters on NumPy arrays. The peer gets the same scan and the same wrong start
probe, 50 epochs of LSQ-ML and of rPIE in small batches, which serve both best, and 50 of LSQ-ML from coarse to fine
by its ProgressiveResolutionWorkflow; the best of its runs by object error, which only somebody who knows the truth
could pick, is its best. Few photons and little overlap come in
three seeds, with the bound of `bound.py` beside them; pty-chi at few photons is in `dose.py`.
"""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import frame
import numpy as np
from bound import linear_bound
from cases import CASES, FEW_PHOTONS, build_case, case_hash, in_scope
from peer_calls import OTHER_PEERS, Peer

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import solve
from ptycho_core.metrics import compare
from ptycho_core.physics.canvas import coverage_of
from ptycho_core.simulate import SimulatedScan

EPOCHS = 50
#: Engine and frames per batch. On the centre case batches of 24, 32 and 96 frames were worse for both.
PEER_RUNS = (("lsqml", 12), ("rpie", 12))
#: From coarse to fine by its ProgressiveResolutionWorkflow: engine, frames per batch, epochs at each coarser level.
PROGRESSIVE_RUNS = (
    ("lsqml", 16, (20,)),
    ("lsqml", 32, (20,)),
    ("lsqml", 16, (15, 15)),
    ("lsqml", 32, (15, 15)),
)
CACHE = Path("bench-results/peer")


def scores(obj: np.ndarray, origin_px: np.ndarray, made: SimulatedScan) -> dict[str, float]:
    """Judge an object on the region that the true probe illuminated to a tenth of the most."""
    corners = np.floor(made.scan.positions_px - made.scan.frame_px // 2 + 0.5).astype(np.int64)
    coverage = coverage_of(made.probe, corners, made.obj.shape)
    whole = np.round(origin_px).astype(int)
    placed = np.ones(made.obj.shape, np.complex64)
    rows, columns = (np.arange(side) for side in made.obj.shape)
    rows = rows[(rows >= whole[0]) & (rows < whole[0] + obj.shape[0])]
    columns = columns[(columns >= whole[1]) & (columns < whole[1] + obj.shape[1])]
    placed[np.ix_(rows, columns)] = obj[np.ix_(rows - whole[0], columns - whole[1])]
    rest = tuple(map(float, origin_px - whole))
    values = compare(placed, made.obj, coverage=coverage, estimate_origin_px=rest).values
    return {
        "error": values["object_error"],
        "frc": values["frc50_nyquist_fraction"],
        "psnr": values["phase_psnr_true_range_db"],
        "ssim": values["phase_ssim"],
    }


def ours(made: SimulatedScan, modes: int) -> dict[str, float | bool]:
    began, processor_began = time.perf_counter(), time.process_time()
    result = solve(made.scan, SolverConfig(probe_modes=modes), SolverExecutionConfig(arrays="numpy"))
    seconds, processor_seconds = time.perf_counter() - began, time.process_time() - processor_began
    return {
        **scores(result.object, result.origin_px, made),
        "R": result.data_residual,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "reliable": result.dose_carries_image,
    }


def stored_at(name: str) -> dict[Path, tuple[tuple[Any, ...], ...]]:
    """Where the best of the peer's runs on a case is kept, plain ones and progressive ones apart: file -> runs."""
    return {
        CACHE / f"{case_hash(CASES[name], EPOCHS, runs)}.json": runs for runs in (PEER_RUNS, PROGRESSIVE_RUNS)
    }


def peer(
    name: str, made: SimulatedScan, mode: str, python: str | None, modes: int
) -> dict[str, float | str] | None:
    """The best of the peer's runs by object error; runs only what is not kept, unless it is to be run anew."""
    places = stored_at(name)
    if mode == "skip" or (mode == "cached" and not all(place.exists() for place in places)):
        return None
    best = []
    for place, runs in places.items():
        if mode == "run" or not place.exists():
            found = [judged_run(made, python, modes, *run) for run in runs]
            CACHE.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(min(found, key=lambda entry: entry["error"])))
        best.append(json.loads(place.read_text()))
    return min(best, key=lambda entry: entry["error"])


def judged_run(
    made: SimulatedScan,
    python: str | None,
    modes: int,
    engine: str,
    batch_size: int,
    coarse: tuple[int, ...] | None = None,
) -> dict[str, float | str]:
    """One run of the peer and how good it is."""
    options = {"engine": engine, "batch_size": batch_size, "coarse": coarse}
    end = Peer(python).run(made.scan, epochs=EPOCHS, modes=modes, **options)[-1]
    origin = made.scan.positions_px[0] - end.centres_px[0]
    finite = bool(np.isfinite(end.obj).all())
    judged = scores(end.obj, origin, made) if finite else {"error": math.inf, "frc": 0, "psnr": 0, "ssim": 0}
    residual = end.residual(made.scan, "object_bilinear") if finite else math.inf
    times = {"seconds": end.seconds, "processor_seconds": end.processor_seconds}
    return {**judged, "R": residual, **times, "engine": run_name(engine, batch_size, coarse)}


def run_name(engine: str, batch_size: int, coarse: tuple[int, ...] | None = None) -> str:
    """Name a run of the peer in the table."""
    return f"{engine} {batch_size}" + (f", {len(coarse) + 1} levels" if coarse else "")


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--only", action="append", default=[], help="a case, or the beginning of its name")
    parser.add_argument("--peer", choices=("auto", "run", "cached", "skip"), default="auto")
    parser.add_argument("--peer-python")
    arguments = parser.parse_args()
    asked = tuple(arguments.only) or ("",)
    rows, few = [], []
    for name in (name for name in CASES | FEW_PHOTONS if name.startswith(asked)):
        made = build_case(name)
        modes = made.probe.shape[0]
        row: dict[str, Any] = {"case": name, "ours": ours(made, modes)}
        if name in CASES:
            row["peer"] = peer(name, made, arguments.peer, arguments.peer_python, modes)
            shown = "-" if row["peer"] is None else f"{row['peer']['error']:.3f} ({row['peer']['engine']})"
            beside = f"peer {shown}"
        else:
            row["bound"] = linear_bound(made)
            beside = f"linear bound {row['bound']:.3f}"
        (few if name in FEW_PHOTONS else rows).append(row)
        print(f"{name:50s} ours {row['ours']['error']:.3f}  {beside}", flush=True)
    figures = frame.figures(
        [{"case": row["case"], **row["ours"]} for row in rows + few], "case", "error", "seconds"
    )
    frame.finish("fidelity", arguments, report(rows, few), {"rows": rows, "few": few}, figures)


def few_photons(rows: list[dict[str, Any]]) -> list[str]:
    """Show the means over the seeds of each case of few photons or little overlap."""
    by_case: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_case.setdefault(re.sub(", seed .*", "", row["case"]), []).append(row)
    lines, errors = [], {}
    for case, seeds in by_case.items():
        ours = [row["ours"]["error"] for row in seeds]
        errors[case] = fmean(ours)
        lines.append(
            [
                case,
                f"{fmean(ours):.3f}",
                f"{stdev(ours):.3f}" if len(ours) > 1 else "-",
                f"{fmean(row['bound'] for row in seeds):.3f}",
                f"{fmean(row['ours']['seconds'] for row in seeds):.1f}",
                f"{fmean(row['ours']['processor_seconds'] for row in seeds):.1f}",
            ]
        )
    true = [
        f"- True probe, {dose} photons, geometric mean of the objects: "
        f"{geometric_mean(error for case, error in errors.items() if case.startswith(f'{dose}, ') and 'true' in case):.3f}."
        for dose in ("1e+02", "1e+03", "1e+04")
        if any(case.startswith(f"{dose}, ") and "true" in case for case in errors)
    ]
    header = ["case", "object error", "deviation", "linear bound", "s", "processor s"]
    return [
        "## Few photons, little overlap",
        "",
        "Means over three seeds, each another sample and another path; 200 frames, the centre case 150. The linear",
        "bound is that of all estimators that are linear about the truth, told the true probe and the power spectra of",
        "the object by an oracle: what an estimator that knows of edges may fall below.",
        "",
        *true,
        "",
        frame.markdown_table(header, lines),
        "",
    ]


def report(rows: list[dict[str, Any]], few: list[dict[str, Any]]) -> str:
    header = [
        "case",
        "object error",
        "FRC",
        "PSNR",
        "SSIM",
        "R",
        "processor s",
        "peer: error",
        "FRC",
        "PSNR",
        "SSIM",
        "R",
        "processor s",
        "engine",
    ]
    lines = [
        [
            row["case"],
            *cells(row["ours"]),
            *(cells(row["peer"]) if row["peer"] else ["-"] * 6),
            row["peer"]["engine"] if row["peer"] else "-",
        ]
        for row in rows
    ]
    scope = [row for row in rows if in_scope(row["case"])]
    judged = [row for row in scope if row["peer"]]
    wins = sum(row["ours"]["error"] < row["peer"]["error"] for row in judged)
    worse = [row["case"] for row in rows if row["ours"]["error"] > 1.005]
    silent = [row["case"] for row in rows if not row["ours"]["reliable"]]
    summary = [
        f"- Geometric mean of the object error over the {len(scope)} cases with at least 1e4 photons per "
        f"frame and 50 % overlap: ours {geometric_mean(row['ours']['error'] for row in scope):.3f}, "
        f"peer's best {geometric_mean(row['peer']['error'] for row in judged):.3f}.",
        f"- Lower than the peer's best in {wins} of {len(judged)} of these cases; over all cases in "
        f"{sum(r['ours']['error'] < r['peer']['error'] for r in rows if r['peer'])} of "
        f"{sum(r['peer'] is not None for r in rows)}.",
        f"- Worse than a transparent object (error 1): {', '.join(worse) or 'never'}.",
        f"- The program said that the data cannot carry an image: {', '.join(silent) or 'never'}.",
    ]
    runs = "; ".join(run_name(*run) for run in (*PEER_RUNS, *PROGRESSIVE_RUNS))
    return "\n".join(
        [
            frame.opening("Known truth: simulated scans", "nox -s bench -- fidelity --write-docs"),
            "Object error after removal of phase, scale, ramp and shift (1 = a transparent object); FRC: "
            "where it falls below one half, in parts of Nyquist; PSNR and SSIM of the phase; R of each "
            "method under its own sub-pixel model. Ours with default parameters on NumPy; pty-chi 2.2.0 with "
            f"{EPOCHS} epochs from the same start, all levels together, as {runs} (engine, frames a batch, and levels of "
            "its ProgressiveResolutionWorkflow); the best of these is shown. The seconds are those "
            "of the processor, all threads together, which other work on the machine disturbs less.",
            "",
            OTHER_PEERS,
            "",
            *summary,
            "",
            frame.markdown_table(header, lines),
            "",
            *(few_photons(few) if few else []),
        ]
    )


def cells(entry: dict) -> list[str]:
    return [
        f"{entry['error']:.3f}",
        f"{entry['frc']:.2f}",
        f"{entry['psnr']:.1f}",
        f"{entry['ssim']:.3f}",
        f"{entry['R']:.4f}",
        f"{entry['processor_seconds']:.1f}",
    ]


def geometric_mean(values) -> float:
    logs = [math.log(max(value, 1e-6)) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


if __name__ == "__main__":
    main()
