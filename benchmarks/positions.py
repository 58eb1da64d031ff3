"""Positions that are off: how near the solver brings them to the truth, and what it costs.

    nox -s bench -- positions [--frames 200]

Two hundred simulated frames of 64 px; the table of docs/how-to/positions.md.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from fidelity import scores
from reports import host, markdown_table, write_report

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
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--write-docs", action="store_true")
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
    table = markdown_table(["positions", "refined", "error, px", "object error", "s"], rows)
    text = f"# Positions that are off\n\n`nox -s bench -- positions`, on {host()}.\n\n{table}\n"
    write_report("positions", text, {"host": host(), "rows": rows}, docs=arguments.write_docs)


if __name__ == "__main__":
    main()
