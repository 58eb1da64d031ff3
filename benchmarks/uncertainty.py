"""How often the truth lies within the standard deviation that `--uncertainty true` tells.

    nox -s bench -- uncertainty [--seeds 2] [--write-docs]

Simulated scans whose true object is known: those of `cases.py` with other doses, objects and overlaps, a start probe as
wrong as that of the real scan. For each, the part of the illuminated pixels whose error is at most the standard
deviation told (68 % expected of normal errors), at most twice of it (95 %), and the root mean square of both.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import frame
import numpy as np
from cases import CENTRE
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ptycho_config.execution import SolverExecutionConfig
from ptycho_core import Reconstruction, solve
from ptycho_core.metrics import compare
from ptycho_core.simulate import simulate_scan
from ptycho_core.verdict import with_uncertainty

PICTURE = Path("docs/images/uncertainty.png")
NUMPY = SolverExecutionConfig(arrays="numpy")
CASES: dict[str, dict[str, Any]] = {f"{dose:.0e}": {"photons": dose} for dose in (1e3, 1e4, 1e5, 1e6, 1e8)}
CASES |= {f"1e+06, {kind}": {"object_kind": kind} for kind in ("texture", "star", "discs", "gradient")}
CASES |= {f"1e+05, {kind}": {"object_kind": kind, "photons": 1e5} for kind in ("texture", "star")}
CASES |= {f"1e+06, overlap {overlap:.0%}": {"overlap": overlap} for overlap in (0.5, 0.6, 0.8)}
NAMES = ("amplitude", "phase")
#: Photons a frame from which the deviation has to hold what it says.
ENOUGH = 1e5


def judged(name: str, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the row of a case, and error and standard deviation of amplitude and phase where they are."""
    made = simulate_scan(**(CENTRE | CASES[name] | {"seed": seed}))
    began = time.perf_counter()
    plain = solve(made.scan, execution=NUMPY)
    solved = time.perf_counter()
    result = with_uncertainty(made.scan, plain, execution=NUMPY)
    seconds = time.perf_counter() - solved
    found = compare(result, made.obj)
    told = result.uncertainty()
    if told is None:
        return {"case": name, "seed": seed, "halves of": "none: no image"}, {}
    stds = {
        "amplitude": _cut(result, result.amplitude_std, found),
        "phase": _cut(result, result.phase_std_rad, found),
    }
    errors = {
        "amplitude": np.abs(np.abs(found.aligned) - np.abs(found.truth)),
        "phase": np.abs(np.angle(found.aligned * found.truth.conj())),
    }
    region = found.region & np.isfinite(stds["amplitude"])
    row: dict[str, Any] = {
        "case": name,
        "seed": seed,
        "halves of": told["halves_of"],
        "error": found.values["object_error"],
    }
    for which in NAMES:
        error, std = errors[which][region], stds[which][region]
        row |= {
            f"{which} within": float((error <= std).mean()),
            f"{which} within twice": float((error <= 2 * std).mean()),
            f"{which} rms": float(np.sqrt(np.mean(np.square(error)))),
            f"{which} told": float(np.sqrt(np.mean(np.square(std)))),
        }
    row |= {"times the solve": seconds / (solved - began)}
    images = {
        f"{which} {kind}": np.where(region, image, np.nan)
        for which in NAMES
        for kind, image in (("error", errors[which]), ("told", stds[which]))
    }
    return row, images


def _cut(result: Reconstruction, std: np.ndarray | None, found: Any) -> np.ndarray:
    """Cut a map of the result's canvas to the window of the comparison."""
    assert std is not None
    top, left = np.rint(found.window_origin_px - result.origin_px).astype(int)
    height, width = found.aligned.shape
    return std[top : top + height, left : left + width]


def draw(images: dict[str, np.ndarray], name: str) -> None:
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 4)
    for row, which in enumerate(NAMES):
        error, told = images[f"{which} error"], images[f"{which} told"]
        most = float(np.nanquantile(told, 0.98))
        for column, (image, title) in enumerate(((error, "error"), (told, "standard deviation told"))):
            axes[row, column].imshow(image, cmap="cividis", vmin=0, vmax=most)
            axes[row, column].set_title(f"{which}: {title}")
            axes[row, column].set_axis_off()
        ratio = (error / told)[np.isfinite(told)]
        axes[row, 2].hist(np.minimum(ratio, 5), bins=50, density=True, color="0.6")
        z = np.linspace(0, 5, 200)
        axes[row, 2].plot(z, np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2), "k", lw=1, label="normal errors")
        axes[row, 2].set_xlabel("error / standard deviation")
        axes[row, 2].legend()
        order = np.argsort(told[np.isfinite(told)])
        known = np.isfinite(told)
        parts = np.array_split(order, 20)
        axes[row, 3].plot(
            [np.sqrt(np.mean(np.square(told[known][part]))) for part in parts],
            [np.sqrt(np.mean(np.square(error[known][part]))) for part in parts],
            "o-",
        )
        axes[row, 3].plot([0, most], [0, most], "k", lw=1)
        axes[row, 3].set_xlabel("told, 20 classes of pixels")
        axes[row, 3].set_ylabel("true error, rms")
    figure.suptitle(f"{name} photons a frame")
    figure.savefig(PICTURE, dpi=90)


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="simulations of each case (2)")
    arguments = parser.parse_args()
    rows, drawn = [], {}
    for name in CASES:
        for seed in range(1, arguments.seeds + 1):
            row, images = judged(name, seed)
            rows.append(row)
            if name == "1e+05" and seed == 1:
                drawn = images
            print(
                {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()},
                flush=True,
            )
    if arguments.write_docs:
        draw(drawn, "1e5")
    keys = [f"{which} within" for which in NAMES]
    figures = frame.figures(rows, ("case", "seed"), *keys, "times the solve")
    frame.finish("uncertainty", arguments, report(arguments, rows), {"rows": rows}, figures)


def report(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    bright = [row for row in rows if "error" in row and float(row["case"].split(",")[0]) >= ENOUGH]
    parts = {which: [row[f"{which} within"] for row in bright] for which in NAMES}
    header = ["photons a frame", "seed", "halves of", "object error"]
    header += [f"{which}: {what}" for which in NAMES for what in ("within σ", "within 2 σ", "rms error / σ")]
    lines = []
    for row in rows:
        line = [row["case"], str(row["seed"]), row["halves of"]]
        if "error" in row:
            line.append(f"{row['error']:.3f}")
            for which in NAMES:
                line += [f"{row[f'{which} {key}']:.2f}" for key in ("within", "within twice")]
                line.append(f"{row[f'{which} rms'] / row[f'{which} told']:.2f}")
        lines.append(line + ["-"] * (len(header) - len(line)))
    return "\n".join(
        [
            frame.opening(
                "How often the truth lies within the uncertainty told",
                frame.command("uncertainty", arguments),
            ),
            "For each simulated scan, whose true object is known, the part of the illuminated pixels whose error is at most",
            "the standard deviation σ that `--uncertainty true` tells, and at most twice of it: 68 % and 95 % of errors that",
            "are normally distributed. The start probe is as wrong as that of the real scan.",
            "",
            f"From 1e5 photons a frame on, mean of {len(bright)} scans:",
            "",
            *(
                f"- {which}: {np.mean(parts[which]):.0%} within σ (from {min(parts[which]):.0%} to {max(parts[which]):.0%})."
                for which in NAMES
            ),
            "",
            "Below, σ leaves out what the prior makes of pixels that the photons say little about: smoothness that all",
            "halves share.",
            "",
            "![Error and standard deviation told, at 1e5 photons a frame](../images/uncertainty.png)",
            "",
            frame.markdown_table(header, lines),
            "",
            f"It takes {np.median([row['times the solve'] for row in rows if 'error' in row]):.1f} times as long as the "
            "image itself (median).",
            "",
        ]
    )


if __name__ == "__main__":
    main()
