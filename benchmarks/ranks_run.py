"""One rank of `benchmarks/ranks.py`: solves a scan with the others; rank 0 saves the result and tells the figures.

[mpiexec -n K] python benchmarks/ranks_run.py SCAN OUT THREADS SETTINGS
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import solve
from ptycho_core.io.opening import read_scan
from ptycho_core.io.options import ReadOptions
from ptycho_core.ranks import ALONE, MpiRanks, Ranks, launched
from ptycho_core.solver.team import Team


def peak_mb() -> float:
    """Most memory that this process had at once, without pages of files where the system tells."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1024


def ranks_here() -> Ranks:
    if launched() is None:
        return ALONE
    from mpi4py import MPI

    return MpiRanks(MPI.COMM_WORLD)


def main() -> None:
    place, out, threads, settings = sys.argv[1:]
    ranks = ranks_here()
    scan = read_scan(place, ReadOptions(), ranks=ranks)
    before_mb = peak_mb()
    ranks.barrier()
    began = time.perf_counter()
    execution = SolverExecutionConfig(threads=int(threads), accelerator="cpu")
    result = solve(scan, SolverConfig(**json.loads(settings)), execution, ranks=ranks)
    seconds = time.perf_counter() - began
    each = {
        "sent_mb": ranks.bytes_sent / 1e6,
        "waited_s": ranks.waited_s,
        "peak_mb": peak_mb(),
        "begun_mb": before_mb,
    }
    told = {key: [one[key] for one in ranks.everyone(each)] for key in each}
    corner = ranks.from_first(result.origin_px)
    at = np.rint(result.origin_px - corner).astype(int).tolist()
    tile = [*at, at[0] + result.object.shape[0], at[1] + result.object.shape[1]]
    tiles = [one for rank, one in enumerate(ranks.everyone(tile)) if rank]
    belongs = Team.of(ranks, scan.positions_px).regions - corner
    tiles += np.clip(belongs, -1e9, 1e9).astype(int).reshape(-1, 4).tolist()
    if ranks.is_first:
        result.save_arrays(out)
        print(
            json.dumps(
                {
                    "seconds": seconds,
                    "r": result.data_residual,
                    "epochs": len(result.history),
                    "steps_back": sum(row["stepped_back"] for row in result.history),
                    "tiles": tiles,
                    "cores": os.cpu_count(),
                    **told,
                }
            )
        )


if __name__ == "__main__":
    main()
