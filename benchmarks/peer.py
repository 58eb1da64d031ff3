"""Run pty-chi on a scan; executed by the interpreter of the peer's own environment.

    python peer.py in.npz out.npz --engine lsqml --batch-size 64 --epochs 50 --snapshots 10,30,50
    python peer.py in.npz out.npz --engine lsqml --batch-size 16 --epochs 20 --coarse 8,6
    python peer.py in.npz out.npz --batch-size 16 --variations 2 --intensity --positions gradient

`in.npz` holds counts (M, N, N) with the zero frequency in the centre, positions_px (M, 2), probe (P, N, N)
and, where there are bad pixels, good (N, N). `out.npz` holds an object, a probe and positions per snapshot, and the
seconds that the epochs took, without imports, reading, set-up and snapshots, after a warm-up on a few frames; as
`processor_seconds` those of all threads, which other work on the machine disturbs less.

`--coarse` runs its ProgressiveResolutionWorkflow: so many epochs at each coarser level, the coarsest first, all others
at full resolution. The clock has the whole of it, the making of each level's data and task included.

With OPR the probe is what all frames share, and `intensity` (M,) is the square of each frame's weight of it.
"""

from __future__ import annotations

import argparse
import sys
import time
import types

import numpy as np

_WARM_UP_FRAMES = 40
#: Canvas around the windows where positions may move.
_ROOM_TO_MOVE_PX = 30


def stand_in_for_torchvision() -> None:
    """Give pty-chi the one name that it imports from torchvision; nothing here calls it."""

    class GaussianBlur:
        def __init__(self, *arguments: object, **options: object) -> None:
            raise RuntimeError("this stand-in does not blur")

    package, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
    transforms.GaussianBlur = GaussianBlur
    package.transforms = transforms
    sys.modules |= {"torchvision": package, "torchvision.transforms": transforms}


def options_of(scan: dict[str, np.ndarray], arguments: argparse.Namespace, epochs: int):
    """What the task is told, and the data that it is given."""
    import ptychi.api as api

    made = {"lsqml": api.LSQMLOptions, "rpie": api.RPIEOptions}[arguments.engine]()
    counts, positions, probe = scan["counts"], scan["positions_px"], scan["probe"]
    n = counts.shape[-1]
    positions = positions - (positions.max(axis=0) + positions.min(axis=0)) / 2
    margin = _ROOM_TO_MOVE_PX if arguments.positions else 10
    shape = tuple(int(np.ceil(extent)) + n + margin for extent in np.ptp(positions, axis=0))
    made.data_options.free_space_propagation_distance_m = np.inf
    made.data_options.wavelength_m = 1e-9
    made.data_options.fft_shift = True
    good = scan.get("good", np.ones((n, n), dtype=bool))
    power = (counts * good).sum(axis=(1, 2), dtype=np.float64).mean()
    # Its transform is not orthonormal: of a probe P the detector sees N^2 sum |P|^2. LSQ-ML rescales the
    # probe in its first epoch, rPIE does not, so the start must have the right power here.
    start = probe * np.sqrt(power / np.sum(np.abs(probe) ** 2)) / n
    made.probe_options.optimizable = True
    made.object_options.pixel_size_m = 1e-8
    made.object_options.optimizable = True
    made.reconstructor_options.default_device = api.Devices.CPU
    made.reconstructor_options.num_epochs = epochs
    made.reconstructor_options.batch_size = min(arguments.batch_size, len(counts))
    made.reconstructor_options.random_seed = 0
    made.reconstructor_options.displayed_loss_function = None
    if arguments.momentum is not None:
        made.reconstructor_options.momentum_acceleration_gain = arguments.momentum
    if arguments.batching is not None:
        made.reconstructor_options.batching_mode = api.BatchingModes[arguments.batching.upper()]
    if arguments.noise is not None:
        made.reconstructor_options.noise_model = api.NoiseModels[arguments.noise.upper()]
    set_positions(made.probe_position_options, arguments)
    data = {
        "diffraction_data": counts,
        "object_data": np.ones((1, *shape), np.complex64),
        "probe_data": start[None].astype(np.complex64),
        "probe_position_y_px": positions[:, 0].astype(np.float32),
        "probe_position_x_px": positions[:, 1].astype(np.float32),
    }
    if "good" in scan:
        data["valid_pixel_mask"] = scan["good"]
    if arguments.variations or arguments.intensity:
        weights = made.opr_mode_weight_options
        weights.optimize_intensity_variation = arguments.intensity
        weights.optimize_eigenmode_weights = arguments.variations > 0
        weights.optimizable = True
        data |= with_variations(data["probe_data"], len(counts), arguments.variations)
    return made, data


def set_positions(options, arguments: argparse.Namespace) -> None:
    """Say whether and how positions are corrected."""
    import ptychi.api as api

    options.optimizable = arguments.positions is not None
    if arguments.positions is None:
        return
    options.optimization_plan.start = arguments.position_start
    correction = options.correction_options
    correction.correction_type = api.PositionCorrectionTypes[arguments.positions.upper()]
    if arguments.position_limit is not None:
        correction.update_magnitude_limit = arguments.position_limit
    if arguments.position_step is not None:
        options.step_size = arguments.position_step
    if arguments.position_momentum is not None:
        options.momentum_acceleration_gain = arguments.position_momentum


def with_variations(probe: np.ndarray, n_frames: int, variations: int) -> dict[str, np.ndarray]:
    """Its own way to begin with OPR modes: random ones behind the probe, with small random weights."""
    from ptychi import utils

    import torch

    torch.manual_seed(0)
    whole = torch.from_numpy(probe)
    if variations:
        whole = utils.add_additional_opr_probe_modes_to_probe(whole, variations)
    weights = utils.generate_initial_opr_mode_weights(n_frames, 1 + variations)
    return {"probe_data": whole.numpy(), "opr_mode_weights_data": weights.numpy()}


class Plain:
    """Epochs of one task; made outside the clock."""

    def __init__(self, scan: dict[str, np.ndarray], arguments: argparse.Namespace, epochs: int) -> None:
        from ptychi.api.task import PtychographyTask

        made, data = options_of(scan, arguments, epochs)
        self.task = PtychographyTask(made, **data)
        self.done = 0

    def run_to(self, epoch: int) -> None:
        self.task.run(epoch - self.done)
        self.done = epoch


class Progressive:
    """The workflow from coarse to fine; whoever looks in between sees the full resolution only."""

    def __init__(self, scan: dict[str, np.ndarray], arguments: argparse.Namespace, epochs: int) -> None:
        self._given = options_of(scan, arguments, epochs)
        self._coarse = coarse_epochs(arguments)
        self.task = None
        self.done = 0

    def run_to(self, epoch: int) -> None:
        from ptychi.api.options.workflow import ProgressiveResolutionWorkflowOptions
        from ptychi.workflows import ProgressiveResolutionWorkflow

        if self.task is not None:
            self.task.run(epoch - self.done)
        else:
            made, data = self._given
            per_level = [*self._coarse, epoch - sum(self._coarse)]
            plan = ProgressiveResolutionWorkflowOptions(
                num_resolution_levels=len(per_level), num_epochs_all_levels=per_level
            )
            workflow = ProgressiveResolutionWorkflow(made, workflow_options=plan, **data)
            workflow.run()
            self.task = workflow.get_full_resolution_task()
        self.done = epoch


def coarse_epochs(arguments: argparse.Namespace) -> list[int]:
    """Epochs at each coarser level, the coarsest first."""
    return [int(epochs) for epochs in arguments.coarse.split(",") if epochs]


def state_of(task) -> dict[str, np.ndarray]:
    """Object, probe, positions and intensities as they are now."""
    probe = task.get_data_to_cpu("probe", as_numpy=True)
    weights = task.get_data_to_cpu("opr_mode_weights", as_numpy=True).astype(np.float64)
    shared = probe[0].copy()
    # The first mode alone varies. What all frames have of the variations on the mean belongs to their probe.
    shares = (weights[:, 1:] / weights[:, :1]).mean(axis=0)
    shared[0] += np.tensordot(shares, probe[1:, 0], axes=1)
    intensity = np.square(weights[:, 0])
    return {
        "objects": task.get_data_to_cpu("object", as_numpy=True)[0].astype(np.complex64),
        "probes": shared.astype(np.complex64),
        "positions_px": task.get_data_to_cpu("probe_positions", as_numpy=True).astype(np.float64),
        "intensities": intensity / intensity.mean(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--engine", default="lsqml")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--snapshots", default="")
    parser.add_argument("--coarse", default="", help="epochs at each coarser level, such as 8,6")
    parser.add_argument("--momentum", type=float)
    parser.add_argument("--batching", choices=("random", "uniform", "compact"))
    parser.add_argument("--noise", choices=("gaussian", "poisson"))
    parser.add_argument("--positions", choices=("gradient", "cross_correlation"))
    parser.add_argument("--position-limit", type=float, help="longest move in a batch, px")
    parser.add_argument("--position-step", type=float, help="0.3 by default")
    parser.add_argument("--position-momentum", type=float)
    parser.add_argument("--position-start", type=int, default=0, help="epoch that first moves them")
    parser.add_argument("--variations", type=int, default=0, help="OPR modes beside the probe")
    parser.add_argument("--intensity", action="store_true", help="of each frame")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    coarse = coarse_epochs(arguments)
    if arguments.epochs <= sum(coarse):
        parser.error(f"{arguments.epochs} epochs leave none for the full resolution behind {sum(coarse)}")
    stand_in_for_torchvision()
    import torch

    torch.set_num_threads(arguments.threads)
    method = Progressive if coarse else Plain
    with np.load(arguments.source, allow_pickle=False) as archive:
        scan = {key: archive[key] for key in archive.files}
    few = {key: scan[key][:_WARM_UP_FRAMES] for key in ("counts", "positions_px")}
    if not ("good" in scan and scan["good"].ndim == 3):
        method({**scan, **few}, arguments, 2 + sum(coarse)).run_to(2 + sum(coarse))
    run = method(scan, arguments, arguments.epochs)
    marks = {int(mark) for mark in arguments.snapshots.split(",") if mark} | {arguments.epochs}
    marks = sorted(mark for mark in marks if mark > sum(coarse))
    states, seconds, processor_seconds = [], [], []
    spent = processor_spent = 0.0
    for mark in marks:
        began, processor_began = time.perf_counter(), time.process_time()
        run.run_to(mark)
        spent += time.perf_counter() - began
        processor_spent += time.process_time() - processor_began
        states.append(state_of(run.task))
        seconds.append(spent)
        processor_seconds.append(processor_spent)
    stacked = {key: np.stack([state[key] for state in states]) for key in states[0]}
    np.savez(arguments.target, epochs=marks, seconds=seconds, processor_seconds=processor_seconds, **stacked)


if __name__ == "__main__":
    main()
