"""Run pty-chi on a scan; executed by the interpreter of the peer's own environment.

    python peer.py in.npz out.npz --engine lsqml --batch-size 64 --epochs 50 --snapshots 10,30,50

`in.npz` holds counts (M, N, N) with the zero frequency in the centre, positions_px (M, 2), probe (P, N, N)
and, where there are bad pixels, good (N, N). `out.npz` holds an object and a probe per snapshot, and the
seconds that the epochs took, without imports, reading, set-up and snapshots, after a warm-up on a few frames; as
`processor_seconds` those of all threads, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import sys
import time
import types

import numpy as np

_WARM_UP_FRAMES = 40


def stand_in_for_torchvision() -> None:
    """Give pty-chi the one name that it imports from torchvision; nothing here calls it."""

    class GaussianBlur:
        def __init__(self, *arguments: object, **options: object) -> None:
            raise RuntimeError("this stand-in does not blur")

    package, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
    transforms.GaussianBlur = GaussianBlur
    package.transforms = transforms
    sys.modules |= {"torchvision": package, "torchvision.transforms": transforms}


def make_task(
    scan: dict[str, np.ndarray], engine: str, batch_size: int, epochs: int, options: dict[str, float | str]
):
    import ptychi.api as api
    from ptychi.api.task import PtychographyTask

    import torch

    torch.set_num_threads(int(options.pop("threads", 2)))
    made = {"lsqml": api.LSQMLOptions, "rpie": api.RPIEOptions}[engine]()
    counts, positions, probe = scan["counts"], scan["positions_px"], scan["probe"]
    n = counts.shape[-1]
    positions = positions - (positions.max(axis=0) + positions.min(axis=0)) / 2
    shape = tuple(int(np.ceil(extent)) + n + 10 for extent in np.ptp(positions, axis=0))
    made.data_options.data = counts
    made.data_options.free_space_propagation_distance_m = np.inf
    made.data_options.wavelength_m = 1e-9
    made.data_options.fft_shift = True
    if "good" in scan:
        made.data_options.valid_pixel_mask = scan["good"]
    good = scan.get("good", np.ones((n, n), dtype=bool))
    power = (counts * good).sum(axis=(1, 2), dtype=np.float64).mean()
    # Its transform is not orthonormal: of a probe P the detector sees N^2 sum |P|^2. LSQ-ML rescales the
    # probe in its first epoch, rPIE does not, so the start must have the right power here.
    start = probe * np.sqrt(power / np.sum(np.abs(probe) ** 2)) / n
    made.probe_options.initial_guess = start[None].astype(np.complex64)
    made.probe_options.optimizable = True
    made.object_options.initial_guess = np.ones((1, *shape), np.complex64)
    made.object_options.pixel_size_m = 1e-8
    made.object_options.optimizable = True
    made.probe_position_options.position_y_px = positions[:, 0].astype(np.float32)
    made.probe_position_options.position_x_px = positions[:, 1].astype(np.float32)
    made.reconstructor_options.default_device = api.Devices.CPU
    made.reconstructor_options.num_epochs = epochs
    made.reconstructor_options.batch_size = min(batch_size, len(counts))
    made.reconstructor_options.random_seed = 0
    made.reconstructor_options.displayed_loss_function = None
    if "momentum" in options:
        made.reconstructor_options.momentum_acceleration_gain = options["momentum"]
    if "batching" in options:
        made.reconstructor_options.batching_mode = api.BatchingModes[options["batching"].upper()]
    if "noise" in options:
        made.reconstructor_options.noise_model = api.NoiseModels[options["noise"].upper()]
    return PtychographyTask(made), positions


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--engine", default="lsqml")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--snapshots", default="")
    parser.add_argument("--momentum", type=float)
    parser.add_argument("--batching", choices=("random", "uniform", "compact"))
    parser.add_argument("--noise", choices=("gaussian", "poisson"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    stand_in_for_torchvision()
    with np.load(arguments.source, allow_pickle=False) as archive:
        scan = {key: archive[key] for key in archive.files}
    options: dict[str, float | str] = {"threads": arguments.threads}
    for name in ("momentum", "batching", "noise"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    few = {key: scan[key][:_WARM_UP_FRAMES] for key in ("counts", "positions_px")}
    if not ("good" in scan and scan["good"].ndim == 3):
        warm, _ = make_task({**scan, **few}, arguments.engine, arguments.batch_size, 2, dict(options))
        warm.run(2)
    task, positions = make_task(scan, arguments.engine, arguments.batch_size, arguments.epochs, options)
    marks = sorted({int(mark) for mark in arguments.snapshots.split(",") if mark} | {arguments.epochs})
    objects, probes, seconds, processor_seconds, done = [], [], [], [], 0
    spent = processor_spent = 0.0
    for mark in marks:
        began, processor_began = time.perf_counter(), time.process_time()
        task.run(mark - done)
        spent += time.perf_counter() - began
        processor_spent += time.process_time() - processor_began
        done = mark
        objects.append(task.get_data_to_cpu("object", as_numpy=True)[0])
        probes.append(task.get_data_to_cpu("probe", as_numpy=True)[0])
        seconds.append(spent)
        processor_seconds.append(processor_spent)
    np.savez(
        arguments.target,
        epochs=marks,
        seconds=seconds,
        processor_seconds=processor_seconds,
        objects=np.stack(objects).astype(np.complex64),
        probes=np.stack(probes).astype(np.complex64),
        positions_px=positions,
    )


if __name__ == "__main__":
    main()
