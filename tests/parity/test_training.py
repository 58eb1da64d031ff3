"""Training parity: from the same weights, on the same frames in the same order, both cores learn alike.

Training amplifies rounding: PyTorch beside itself, its first weights changed by 1e-7, is at the same step
3e-7 away at first, a thousandth after 30 steps and several hundredths after 50 (real scan, `unet`); so is
TensorFlow beside PyTorch. Single steps are compared while rounding is small, means over an epoch to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config.execution import PyTorchExecutionConfig, TensorFlowExecutionConfig
from ptycho_config.models import SolverConfig, TrainingConfig
from ptycho_core import Scan, open_scan, solve
from ptycho_core.backend import get_backend
from ptycho_core.learning.prepare import calibration_frames, prepare, scaling_of
from ptycho_core.learning.recipe import batch_size_of
from ptycho_core.result.callbacks import Callback, StepReport

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("ptycho_core_torch.network", reason="the PyTorch core is not installed")
pytest.importorskip("ptycho_core_tf.network", reason="the TensorFlow core is not installed")

#: Of a loss curve: how far two values of the same step or epoch may lie apart.
CURVE = 0.01
#: Steps that rounding leaves alone, as far as `CURVE` is concerned.
TOGETHER = 30
#: Of the data residual that each network reaches in the end.
RESIDUAL = 0.005
EXECUTIONS = {
    "pytorch": PyTorchExecutionConfig(accelerator="cpu", logger_backend="none"),
    "tensorflow": TensorFlowExecutionConfig(accelerator="cpu", logger_backend="none"),
}


class Curve(Callback):
    """The data residual of every step."""

    def __init__(self, enough: int) -> None:
        self.residuals: list[float] = []
        self._enough = enough

    def on_step(self, step: StepReport) -> None:
        self.residuals.append(step.residual)

    def should_stop(self) -> bool:
        return len(self.residuals) >= self._enough


def untrained(scan: Scan, config: TrainingConfig, path: Path) -> Path:
    """Write the bundle of a network before its first step."""
    import torch
    from ptycho_core_torch.network import PtychoNetwork
    from ptycho_core_torch.trained import TrainedNetwork

    execution = EXECUTIONS["pytorch"]
    prepared = prepare(scan, config, execution)
    frames, config = prepared.frames, prepared.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(prepared.seed)
        network = PtychoNetwork(config.model, scan.probe, frames.intensity_scale)
    network.calibrate(torch.from_numpy(calibration_frames(frames)))
    trained = TrainedNetwork(
        network=network,
        training=config,
        execution=execution,
        scaling=scaling_of(config.model, frames, output_scale=frames.intensity_scale),
        probe_given=scan.probe,
        history=(),
        interrupted=False,
    )
    return trained.save(path)


@pytest.fixture(scope="session")
def refined() -> Scan:
    """The real scan with the probe that the solver finds."""
    from dataclasses import replace

    scan = open_scan("siemens-star")
    return replace(scan, probe=solve(scan, SolverConfig()).probe)


def compare(scan: Scan, config: TrainingConfig, n_steps: int, path: Path, agree: Callable[..., Any]) -> None:
    """Train in both cores; hold their curves, and what they reach, against each other."""
    bundle = untrained(scan, config, path)
    curves, ends = [], []
    for name, execution in EXECUTIONS.items():
        backend, curve = get_backend(name), Curve(n_steps)
        start = backend.load(bundle, execution)
        trained = backend.train(scan, config, execution, callbacks=[curve], start=start)
        assert len(curve.residuals) == n_steps
        curves.append(curve.residuals)
        ends.append(trained.reconstruct(scan).data_residual)
        # It learned on the way; two networks that stand still would agree as well.
        assert np.mean(curve.residuals[-3:]) < 0.9 * np.mean(curve.residuals[:3])
    first, second = (np.array(curve, np.float32) for curve in curves)
    worst = np.abs(second / first - 1)[:TOGETHER].max()
    agree.within(f"loss of each of the first {min(n_steps, TOGETHER)} steps", CURVE, first, worst, 1.0)
    steps = -(-scan.n_frames // batch_size_of(trained.training))
    for start in range(0, n_steps, steps):
        means = [curve[start : start + steps].mean() for curve in (first, second)]
        agree.within(
            f"mean loss of an epoch, {n_steps} steps", CURVE, first, abs(means[0] - means[1]), means[0]
        )
    agree.within(f"data residual after {n_steps} steps", RESIDUAL, first, abs(ends[0] - ends[1]), 1.0)


def test_both_cores_train_alike(refined: Scan, tmp_path: Path, agree: Callable[..., Any]) -> None:
    """A moment of it: frames from the middle of the real scan."""
    order = np.argsort(np.abs(refined.positions_px - refined.positions_px.mean(0)).max(1))
    middle = refined.select(np.sort(order[:24]))
    compare(middle, TrainingConfig(nepochs=4, batch_size=8, seed=3), 12, tmp_path, agree)


@pytest.mark.slow
def test_both_cores_train_alike_for_100_steps_of_the_real_scan(
    refined: Scan, tmp_path: Path, agree: Callable[..., Any]
) -> None:
    config = TrainingConfig(nepochs=10, seed=3)
    compare(refined, config, 100, tmp_path, agree)
