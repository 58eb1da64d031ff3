"""Positions that are off: how near the solver brings them to the truth, and what it costs.

    nox -s bench -- positions [--frames 200]

Two hundred simulated frames of 64 px; the table of docs/how-to/positions.md.
"""

from __future__ import annotations

import time
from dataclasses import replace

import frame
import numpy as np
from fidelity import scores

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import solve
from ptycho_core.simulate import simulate_scan

CASES = {"jitter 0.5": (0.5, 0, 0), "jitter 2": (2, 0, 0), "jitter 5": (5, 0, 0), "2 %, drift": (0, 0.02, 2)}


def wrong(true: np.ndarray, jitter_px: float, scale: float, drift_px: float) -> np.ndarray:
    """Positions with jitter (rms), too large by a part, and with a drift linear in time."""
    random = np.random.default_rng(7)
    along = np.linspace(-1, 1, len(true))[:, None] * np.array([1, -0.7])
    jitter = random.normal(0, jitter_px / np.sqrt(2), true.shape)
    return true + jitter + scale * (true - true.mean(axis=0)) + drift_px * along


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--frames", type=int, default=200)
    arguments = parser.parse_args()
    made = simulate_scan(frames=arguments.frames, photons=1e6, overlap=0.7, seed=3)
    true, rows = made.scan.positions_px, []
    for name, case in {"true": (0, 0, 0), **CASES}.items():
        scan = replace(made.scan, positions_px=wrong(true, *case))
        for refine in (False, True):
            began = time.perf_counter()
            config = SolverConfig(refine_positions=refine)
            result = solve(scan, config, SolverExecutionConfig(arrays="numpy"))
            seconds = time.perf_counter() - began
            off = result.positions_px - true
            error = np.linalg.norm(off - off.mean(axis=0), axis=1).mean()
            missed = scores(result.object, result.origin_px, made)["error"]
            rows.append([name, str(refine), f"{error:.3f}", f"{missed:.3f}", f"{seconds:.1f}"])
            print(*rows[-1], flush=True)
    header = ["positions", "refined", "error, px", "object error", "s"]
    opening = frame.opening("Positions that are off", "nox -s bench -- positions")
    text = f"{opening}\n{frame.markdown_table(header, rows)}\n"
    named = [dict(zip(header, (*row[:2], *map(float, row[2:])), strict=True)) for row in rows]
    figures = frame.figures(named, ("positions", "refined"), *header[2:])
    frame.finish("positions", arguments, text, {"rows": rows}, figures)


if __name__ == "__main__":
    main()
