"""One task of `mpiexec`: solves a simulated scan with the others; rank 0 tells the bits of the result."""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
from mpi4py import MPI

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import solve
from ptycho_core.ranks import MpiRanks
from ptycho_core.simulate import simulate_scan


def main() -> None:
    ranks = MpiRanks(MPI.COMM_WORLD)
    scan = simulate_scan(frames=100, frame_px=32, overlap=0.75, start_kind="true").scan
    config = SolverConfig(epochs=8, probe_search=False, prior="none")
    result = solve(scan, config, SolverExecutionConfig(threads=1, accelerator="cpu"), ranks=ranks)
    if ranks.is_first:
        arrays = (result.object, result.probe, result.positions_px, result.residual_per_frame)
        bits = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
        json.dump({"bits": bits.hexdigest(), "sent": ranks.bytes_sent}, sys.stdout)


if __name__ == "__main__":
    main()
