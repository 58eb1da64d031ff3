"""One timed run of ours or of the prototype, in a process of its own.

    python star_run.py in.npz out.npz --method ours --effort fast --arrays torch --modes 1
    python star_run.py in.npz out.npz --method prototype --folder ../shared/prototypes

`in.npz` holds counts (M, N, N) with the zero frequency in the centre, positions_px (M, 2) and probe
(P, N, N); `out.npz` object, probe, centres_px (index N/2 of each window on the canvas) and the seconds. The
clock runs from frames in memory to object and probe; ours makes its `Scan`, with the checks, on the clock. A
few frames are solved beforehand, off the clock, for each method: what a library does at its first call is not
what is compared.

With `--against` it runs in the environment of another commit as well: of ours it uses only names that both have.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

_WARM_UP_FRAMES = 40


def ours(counts: np.ndarray, positions: np.ndarray, probe: np.ndarray, arguments: argparse.Namespace):
    from ptycho_config.execution import SolverExecutionConfig
    from ptycho_config.models import SolverConfig
    from ptycho_core import Scan, solve

    def scan_of(n_frames: int) -> Scan:
        return Scan.from_arrays(
            counts[:n_frames], positions[:n_frames], probe, measurement="counts", dc="center", name="bench"
        )

    execution = SolverExecutionConfig(arrays=arguments.arrays, kernel=arguments.kernel, accelerator="cpu")
    config = SolverConfig(effort=arguments.effort, probe_modes=arguments.modes)
    solve(scan_of(_WARM_UP_FRAMES), config.model_copy(update={"epochs": 2}), execution)
    began = time.perf_counter()
    result = solve(scan_of(len(counts)), config, execution)
    # The residual that the result carries is a judgement, which nobody else's time includes.
    seconds = time.perf_counter() - began - result.timings["report"]
    return result.object, result.probe, result.positions_px - result.origin_px, seconds


def prototype(counts: np.ndarray, positions: np.ndarray, probe: np.ndarray, arguments: argparse.Namespace):
    sys.path.insert(0, arguments.folder)
    import solver as prototype_solver

    import torch

    torch.set_num_threads(2)
    plan = {"search": False, "epochs": (10, 5)} if arguments.effort == "fast" else {}
    frames = np.ascontiguousarray(np.fft.ifftshift(counts, axes=(1, 2)).astype(np.float32))
    places = positions.astype(np.float32)
    few = slice(0, _WARM_UP_FRAMES)
    prototype_solver.reconstruct(frames[few], places[few], probe[0], epochs=(2, 2))
    began = time.perf_counter()
    obj, modes, top_left, _ = prototype_solver.reconstruct(
        frames, places, probe[0], modes=arguments.modes, **plan
    )
    seconds = time.perf_counter() - began
    return obj, modes, top_left + counts.shape[-1] // 2, seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--method", choices=("ours", "prototype"), default="ours")
    parser.add_argument("--effort", default="default")
    parser.add_argument("--arrays", default="numpy")
    parser.add_argument("--kernel", default="required")
    parser.add_argument("--modes", type=int, default=1)
    parser.add_argument("--folder", default="")
    arguments = parser.parse_args()
    with np.load(arguments.source, allow_pickle=False) as archive:
        counts, positions, probe = (archive[key] for key in ("counts", "positions_px", "probe"))
    solve_once = {"ours": ours, "prototype": prototype}[arguments.method]
    obj, modes, centres, seconds = solve_once(counts, positions, probe, arguments)
    np.savez(arguments.target, object=obj, probe=modes, centres_px=centres, seconds=seconds)


if __name__ == "__main__":
    main()
