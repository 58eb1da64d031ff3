"""One timed run of ours or of the prototype, in a process of its own.

    python star_run.py in.npz out.npz --method ours --effort fast --arrays torch --modes 1
    python star_run.py in.npz out.npz --modes 3 --refine-positions --frame-intensity --variations 2 --account
    python star_run.py in.npz out.npz --method prototype --folder ../shared/prototypes

`in.npz` holds counts (M, N, N) with the zero frequency in the centre, positions_px (M, 2), probe (P, N, N) and, where
there are bad pixels, bad (N, N); `out.npz` object, probe, centres_px (index N/2 of each window on the canvas) and the
seconds; of ours also intensity (M,) of each frame, 1 where it was not found. `--account` adds as JSON what the time went
into: the run's own timings, the epochs at each size, and the seconds of one Fourier transform of each size. The
clock runs from frames in memory to object and probe; ours makes its `Scan`, with the checks, on the clock. A
few frames are solved beforehand, off the clock, for each method: what a library does at its first call is not
what is compared.

With `--against` it runs in the environment of another commit as well: of ours it uses only names that both have.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter

import numpy as np

_WARM_UP_FRAMES = 40
#: Frames whose transforms are timed together, about as many as a batch has.
_BATCH = 24


def ours(given: dict[str, np.ndarray], arguments: argparse.Namespace) -> dict[str, object]:
    from ptycho_config.execution import SolverExecutionConfig
    from ptycho_config.models import SolverConfig
    from ptycho_core import Scan, solve

    counts, positions, probe = (given[key] for key in ("counts", "positions_px", "probe"))

    def scan_of(n_frames: int) -> Scan:
        about = {"bad_pixels": given["bad"]} if "bad" in given else {}
        told = {"measurement": "counts", "dc": "center", "name": "bench", **about}
        return Scan.from_arrays(counts[:n_frames], positions[:n_frames], probe, **told)

    execution = SolverExecutionConfig(arrays=arguments.arrays, kernel=arguments.kernel, accelerator="cpu")
    config = SolverConfig(effort=arguments.effort, probe_modes=arguments.modes, **freedoms(arguments))
    # Positions are searched for in more frames than these, and in the same way.
    few = config.model_copy(update={"epochs": 2, "refine_positions": False})
    solve(scan_of(_WARM_UP_FRAMES), few, execution)
    began = time.perf_counter()
    result = solve(scan_of(len(counts)), config, execution)
    # The residual that the result carries is a judgement, which nobody else's time includes.
    seconds = time.perf_counter() - began - result.timings["report"]
    intensity = getattr(result, "frame_intensity", None)
    found = {
        "object": result.object,
        "probe": result.probe,
        "centres_px": result.positions_px - result.origin_px,
        "intensity": np.ones(len(counts)) if intensity is None else intensity,
        "seconds": seconds,
    }
    if arguments.account:
        sizes = Counter(int(epoch["size_px"]) for epoch in result.history)
        account = {
            "timings": dict(result.timings),
            "epochs": {str(size): epochs for size, epochs in sorted(sizes.items())},
            "transform_seconds": {str(size): transform_seconds(size) for size in sorted(sizes)},
            "modes": len(result.probe),
            "frames": len(counts),
        }
        found["account"] = json.dumps(account)
    return found


def freedoms(arguments: argparse.Namespace) -> dict[str, object]:
    """What is found besides object and probe; nothing that another commit may not know unless it is asked for."""
    asked = {
        "refine_positions": arguments.refine_positions,
        "frame_intensity": arguments.frame_intensity,
        "refine_background": arguments.refine_background,
        "probe_variations": arguments.variations,
        "prior": arguments.prior,
        "epochs": arguments.epochs,
    }
    return {name: value for name, value in asked.items() if value}


def transform_seconds(size_px: int) -> float:
    """One transform of a frame by SciPy on all cores, in the batches of the solver: the least of several."""
    import scipy.fft

    from ptycho_core.cores import usable_cores

    waves = np.ones((_BATCH, size_px, size_px), np.complex64)
    spent = []
    for _ in range(30):
        began = time.perf_counter()
        waves = scipy.fft.fft2(waves, norm="ortho", workers=usable_cores(), overwrite_x=True)
        spent.append(time.perf_counter() - began)
    return min(spent) / _BATCH


def prototype(given: dict[str, np.ndarray], arguments: argparse.Namespace) -> dict[str, object]:
    sys.path.insert(0, arguments.folder)
    import solver as prototype_solver

    import torch

    torch.set_num_threads(2)
    counts, positions, probe = (given[key] for key in ("counts", "positions_px", "probe"))
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
    centres = top_left + counts.shape[-1] // 2
    return {"object": obj, "probe": modes, "centres_px": centres, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--method", choices=("ours", "prototype"), default="ours")
    parser.add_argument("--effort", default="default")
    parser.add_argument("--arrays", default="numpy")
    parser.add_argument("--kernel", default="required")
    parser.add_argument("--modes", type=int, default=1)
    parser.add_argument("--prior", default="")
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--refine-positions", action="store_true")
    parser.add_argument("--frame-intensity", action="store_true")
    parser.add_argument("--refine-background", action="store_true")
    parser.add_argument("--variations", type=int, default=0, help="OPR modes")
    parser.add_argument("--account", action="store_true", help="say what the time went into")
    parser.add_argument("--folder", default="")
    arguments = parser.parse_args()
    with np.load(arguments.source, allow_pickle=False) as archive:
        given = {key: archive[key] for key in archive.files}
    solve_once = {"ours": ours, "prototype": prototype}[arguments.method]
    np.savez(arguments.target, **solve_once(given, arguments))


if __name__ == "__main__":
    main()
