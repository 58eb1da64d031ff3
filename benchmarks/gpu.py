"""Frames per second on one GPU: training, inference and the solver, in each precision.

    nox -s bench -- gpu [--accelerator cuda] [--frames 4096] [--seconds 30] [--write-docs]

or, wherever our packages are importable, `python benchmarks/gpu.py`. A simulated scan of 128 x 128 px frames.
Stitching and the copy of the frames to the device are part of inference. Fails where the device is absent.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import frame

from ptycho_config import hardware
from ptycho_config.errors import PolicyError
from ptycho_config.execution import PyTorchExecutionConfig, SolverExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core import Scan, solve
from ptycho_core.backend import get_backend
from ptycho_core.result.callbacks import Callback
from ptycho_core.simulate import simulate_scan

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class Clock(Callback):
    """Notes when steps ended, so that the start of a training is not counted."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, step: Any) -> None:
        self.times.append(time.perf_counter())


def measure(scan: Scan, accelerator: str, precision: str, seconds: float, batch: int) -> list[str]:
    """Train for some seconds, image the scan five times; one row."""
    where = PyTorchExecutionConfig(accelerator=accelerator, precision=precision, logger_backend="none")
    clock = Clock()
    config = TrainingConfig(max_time=seconds, batch_size=batch)
    trained = get_backend("pytorch").train(scan, config, where, callbacks=[clock])
    if len(clock.times) < 4:
        raise SystemExit(
            f"gpu: {len(clock.times)} steps in {seconds:g} s are too few; give more `--seconds`."
        )
    warm = len(clock.times) // 4
    training = batch * (len(clock.times) - 1 - warm) / (clock.times[-1] - clock.times[warm])
    times = [trained.reconstruct(scan).timings["network"] for _ in range(5)][1:]
    inference = scan.n_frames / statistics.median(times)
    return [precision, str(batch), f"{training:.0f}", f"{inference:.0f}"]


def main() -> int:
    parser = frame.parser(__doc__)
    parser.add_argument("--accelerator", default="cuda")
    parser.add_argument("--frames", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    try:
        hardware.require_accelerator(arguments.accelerator, cuda_available=hardware.cuda_available())
    except PolicyError as error:
        print(f"gpu: {error}", file=sys.stderr)
        return 1
    device = "the CPU"
    if arguments.accelerator != "cpu":
        import torch

        device = torch.cuda.get_device_name()
    scan = simulate_scan(frames=arguments.frames, frame_px=128, start_kind="true", photons=1e6).scan
    rows = []
    for precision in PRECISIONS if arguments.accelerator != "cpu" else PRECISIONS[:2]:
        for batch in (24, 96):
            rows.append(measure(scan, arguments.accelerator, precision, arguments.seconds, batch))
            print(rows[-1], flush=True)
    began = time.perf_counter()
    r = solve(
        scan, execution=SolverExecutionConfig(arrays="torch", accelerator=arguments.accelerator)
    ).data_residual
    solved = time.perf_counter() - began
    command = f"nox -s bench -- gpu --frames {arguments.frames} --seconds {arguments.seconds:g}"
    machine = f"{device}, {frame.host()}"
    text = f"""{frame.opening("One GPU", command, on=machine)}
`unet`, frames of 128 x 128 px, {arguments.frames} of them. Inference includes stitching and the way of the frames to
the device.

{frame.markdown_table(["precision", "batch", "training, frames/s", "inference, frames/s"], rows)}

The solver on the same device: {solved:.1f} s, {scan.n_frames / solved:.0f} frames/s, R {r:.4f}.
"""
    figures = {f"{row[0]}, batch {row[1]}, training": float(row[2]) for row in rows}
    figures |= {f"{row[0]}, batch {row[1]}, inference": float(row[3]) for row in rows} | {"solver, s": solved}
    frame.finish("gpu", arguments, text, {"device": device, "rows": rows}, figures, machine=machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
