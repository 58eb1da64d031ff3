"""The page of the recipe: its tables and its picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import frame
import numpy as np
from beamtime import BACKGROUND, FADES_TO, JITTER_PX, MODES, BeamtimeScan
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from peer_calls import OTHER_PEERS, described

from ptycho_core.figures.display import robust_limits

__all__ = [
    "MODES_ALONE",
    "PEER",
    "RECIPE",
    "RECIPE_FAST",
    "RECIPE_NO_PRIOR",
    "draw",
    "measure",
    "medians",
    "ratios_of",
    "report",
]

RECIPE, MODES_ALONE, PEER = "ours, recipe", "ours, three modes alone", "pty-chi LSQ-ML"
RECIPE_NO_PRIOR, RECIPE_FAST = "ours, recipe, no prior", "ours, recipe, fast"


def measure(look: Mapping[str, float]) -> float:
    """What a result is judged by: the object error, or R with its object interpolated, as the peer solves."""
    return look.get("error", look["R_object_bilinear"])


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each number over the rounds."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


SCAN_HEADER = (
    "method",
    "s",
    "range",
    "R, probe moved",
    "R, object interpolated",
    "object error",
    "position error, px",
    "strain removed, px",
    "times faster",
)


def scan_rows(case: BeamtimeScan, runs: Mapping[str, Sequence[Mapping[str, float]]]) -> list[list[str]]:
    """One row of `SCAN_HEADER` for each method on a scan."""
    median = {name: medians(found) for name, found in runs.items()}
    rows = []
    for name, found in runs.items():
        one, seconds = median[name], [run["seconds"] for run in found]
        rows.append(
            [
                name,
                f"{one['seconds']:.2f}",
                f"{min(seconds):.2f} to {max(seconds):.2f}",
                f"{one['R_probe_fourier']:.4f}",
                f"{one['R_object_bilinear']:.4f}",
                f"{one['error']:.3f}" if "error" in one else "-",
                f"{one['position_error_px']:.2f}" if case.strain_is_known else "-",
                f"{one['unstrained_error_px']:.2f}",
                f"{median[PEER]['seconds'] / one['seconds']:.1f}" if PEER in median else "-",
            ]
        )
    return rows


def ratios_of(found: Mapping[tuple[str, str], Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """Medians of the rounds' ratios of ours to ours."""

    def ratio(one: tuple[str, str], other: tuple[str, str], key: str = "seconds") -> float:
        pairs = zip(found[one], found[other], strict=True)
        return statistics.median(mine[key] / base["seconds"] for mine, base in pairs)

    ratios = {
        f"recipe / three modes, {scan}": ratio((scan, RECIPE), (scan, MODES_ALONE))
        for scan, name in found
        if name == RECIPE
    }
    if ("costs", "plain") in found:
        pairs = {
            "recipe / three modes, star as it is": ("recipe", "three modes"),
            "recipe / three modes, star as it is, no prior": ("recipe, no prior", "three modes, no prior"),
            "positions / plain, no prior": ("positions, no prior", "plain, no prior"),
        }
        ratios |= {name: ratio(("costs", one), ("costs", other)) for name, (one, other) in pairs.items()}
        gradient = (("costs", name) for name in pairs["positions / plain, no prior"])
        ratios["positions / plain, no prior, gradient only"] = ratio(*gradient, "gradient_seconds")
    return ratios


def cost_rows(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> list[list[str]]:
    """Time, epochs and the Fourier transforms of each run of ours on the star as it is."""
    seconds = {name: medians(found)["seconds"] for name, found in runs.items()}
    rows = []
    for name, found in runs.items():
        one, plain = medians(found), seconds["plain, no prior" if "no prior" in name else "plain"]
        rows.append(
            [
                name,
                f"{one['seconds']:.2f}",
                f"{one['seconds'] / plain:.2f}",
                f"{one['epochs']:.0f}",
                f"{one['transforms']:.0f}",
                f"{one['transform_seconds']:.2f}",
                f"{one['level_seconds']:.2f}",
                f"{one['level_seconds'] / one['transform_seconds']:.1f}",
                f"{one['seconds'] / one['transform_seconds']:.1f}",
            ]
        )
    return rows


COST_HEADER = (
    "what is found beside object and probe",
    "s",
    "/ plain",
    "epochs",
    "transforms",
    "s of them alone",
    "s of the levels",
    "levels / transforms",
    "all / transforms",
)


def report(
    command: str,
    cases: Sequence[BeamtimeScan],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    best: Mapping[str, tuple[dict[str, Any], int]],
    found: Mapping[tuple[str, str], Sequence[Mapping[str, float]]],
    look_every: int,
) -> str:
    """Write the page.

    Args:
        rows: what the peer was offered on each scan, and what came of it; none where it took no part.
        best: the option and the epochs with which it took turns.
        found: (scan, method) -> what each round brought; the scan `costs` is the star as it is.
    """
    rounds = len(next(iter(found.values())))
    lines = [
        frame.opening("The recipe of a real beamtime", command),
        f"Everything at once: {MODES} modes, corrected positions, OPR with 2 modes, the intensity of each frame, and a flat "
        "background that is found. Wall time from frames in memory to object and probe, medians of "
        f"{rounds} rounds in which all took turns, every run in a process of its own. The star's positions are those of "
        f"its file and {JITTER_PX:g} px (rms) of jitter; the labyrinth, where it takes part, comes with positions "
        "that are wrong by 9.8 px; the simulated scan has jitter, a probe that tilts and breathes, a beam that fades to "
        f"{FADES_TO:g} and flickers, and {BACKGROUND:.0%} of background. R is that of object, the probe that all frames share and "
        "their intensities: OPR and background are not in it, so it is no measure of them. Position errors are means behind a "
        "common shift, and behind the best stretch, turn and shear too, which the star's file does not know "
        "well enough to be judged by.",
        "",
        "![Phases of the scans, by ours with and without the freedoms, and by LSQ-ML](../images/recipe.png)",
        "",
    ]
    for case in cases:
        runs = {name: found[scan, name] for scan, name in found if scan == case.name}
        lines += [f"## {case.name.capitalize()}: {case.scan.n_frames} frames", ""]
        if case.name in best:
            option, epochs = best[case.name]
            lines += [f"pty-chi 2.2.0 LSQ-ML with {described(option)}, {epochs} epochs.", ""]
        lines += [frame.markdown_table(SCAN_HEADER, scan_rows(case, runs)), ""]
    ratios = [[name, f"{value:.2f}"] for name, value in ratios_of(found).items()]
    lines += ["## Ours against ours", "", frame.markdown_table(["time", "ratio"], ratios), ""]
    lines += [
        "`gradient only` leaves out what `run.json` books as `search` and `held_out` under `timings_s`: the search of "
        "positions before the run, and the test of them on frames held out behind it.",
        "",
    ]
    costs = {name: runs for (scan, name), runs in found.items() if scan == "costs"}
    if costs:
        lines += [
            "## What each freedom costs: the star as it is",
            "",
            "One at a time beside the plain run; those without a prior are compared with the plain run without one. The bound: every epoch takes each frame and mode to the detector and "
            "back, two transforms of the level's size, and nothing takes less; their seconds are those of SciPy on the same "
            "cores. What the search of a start probe, the polish with the prior, and the search and test of positions "
            "transform is not among them, nor what OPR transforms beside: compare the levels' seconds, which are the epochs alone.",
            "",
            frame.markdown_table(COST_HEADER, cost_rows(costs)),
            "",
        ]
    if rows:
        lines += [
            "## What LSQ-ML was offered",
            "",
            "With modes, OPR and intensities as above; it has no background. The lowest value that each option reached, judged "
            f"every {look_every} epochs: the object error, or R with its object interpolated. The option that comes "
            "within a hundredth of the lowest of all soonest takes turns with ours. These runs may be older than the rounds "
            "and come from a machine with other work on it (`--peer run` makes them anew): their seconds compare with each "
            "other only.",
            "",
            frame.markdown_table(["scan", "options", "lowest", "epoch", "s to it"], offered_rows(rows)),
            "",
            OTHER_PEERS,
            "",
        ]
    return "\n".join(lines)


def offered_rows(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """The best look of each explored run."""
    lines = []
    for scan, options in rows.items():
        for row in options:
            look = min(row["looks"], key=measure)
            shown = (f"{measure(look):.4f}", str(look["epoch"]), f"{look['seconds']:.1f}")
            lines.append([scan, described(row["option"]), *shown])
    return lines


def draw(
    pictures: Mapping[tuple[str, str], np.ndarray], errors: Mapping[tuple[str, str], str], path: Path
) -> None:
    """Draw the phases, a row for each method and a column for each scan."""
    scans, methods = (list(dict.fromkeys(key[part] for key in pictures)) for part in (0, 1))
    figure = Figure(figsize=(3.2 * len(scans), 3.3 * len(methods)), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(methods), len(scans), squeeze=False)
    for (scan, method), image in pictures.items():
        axes = grid[methods.index(method)][scans.index(scan)]
        low, high = robust_limits(image, percent=1.0)
        axes.imshow(image, cmap="gray", vmin=low, vmax=high)
        axes.set(xticks=[], yticks=[], xlabel=errors.get((scan, method), ""))
        if scan == scans[0]:
            axes.set_ylabel(method)
        if method == methods[0]:
            axes.set_title(scan)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
