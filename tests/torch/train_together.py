"""A program that trains in two processes, which `test_several_processes.py` runs; Lightning starts it twice.

Every process writes what came of each training into the folder it is given: the weights, what its callbacks
heard, how it ended. One process group serves all trainings, as it does in a program of a user.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

import torch
from ptycho_config.errors import OutputError, TrainingError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.backend import get_backend
from ptycho_core.result.callbacks import Callback
from ptycho_core.simulate import simulate_scan
from ptycho_core_torch.lightning_module import PtychoLightning

#: Name of a training -> its settings. One process with these and two batches a step must come out the same.
TRAININGS: dict[str, dict[str, Any]] = {
    "neighbourhoods": {"nepochs": 2, "batch_size": 12, "optimizer": "sgd"},
    "groups": {
        "nepochs": 2,
        "batch_size": 8,
        "optimizer": "sgd",
        "model": {"architecture": "cnn", "gridsize": 2, "n_filters_scale": 1},
    },
    "timed": {"max_time": 1.5, "batch_size": 12},
}


def train(out: Path, name: str, callbacks: tuple[Callback, ...] = (), **execution: Any) -> Any:
    """Train on 96 frames of 32 px as `TRAININGS` says, with the files in a folder of that name."""
    scan = simulate_scan(frames=96, frame_px=32, start_kind="true", seed=2).scan
    settings = dict(TRAININGS.get(name, {"nepochs": 4, "batch_size": 12, "optimizer": "sgd"}))
    model = ModelConfig(**settings.pop("model", {}))
    return get_backend("pytorch").train(
        scan,
        TrainingConfig(model=model, seed=1, **settings),
        PyTorchExecutionConfig(accelerator="cpu", learning_rate=0.05, **execution),
        callbacks=callbacks,
        directory=out / name,
    )


class Hear(Callback):
    """Writes down what it hears; wants to stop, or fails, after some steps of its own process."""

    def __init__(self, *, stop_after: int | None = None, fail_after: int | None = None) -> None:
        self.heard: list[str] = []
        self.asked, self.stop_after, self.fail_after = 0, stop_after, fail_after

    def on_start(self, start: Any) -> None:
        self.heard.append("start")

    def on_step(self, step: Any) -> None:
        if self.fail_after == step.step:
            raise OutputError("the disk is full")

    def on_epoch(self, epoch: Any) -> None:
        self.heard.append(f"epoch {epoch.epoch}")

    def on_event(self, event: Any) -> None:
        self.heard.append(event.kind)

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_after


def failing(real: Any, *, step: int, memory: bool) -> Any:
    """Return a loss that fails in one step: no memory is left, or it is not a number."""

    def losses(module: Any, batch: Any) -> Any:
        if module.global_step == step and memory:
            raise torch.OutOfMemoryError("none left")
        loss, *others = real(module, batch)
        return loss * (float("nan") if module.global_step == step else 1.0), *others

    return losses


def main(out: Path) -> None:
    """Run all trainings, and write how each ended."""
    # Lightning gives a number to the processes that it starts, and to the first one when it starts them.
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    report: dict[str, Any] = {}
    real = PtychoLightning._losses

    def run(name: str, listener: Hear) -> None:
        weights: dict[str, Any] = {}
        try:
            trained = train(out, name, (listener,), devices=2, strategy="ddp")
            weights = {key: value.numpy() for key, value in trained.network.state_dict().items()}
            ended = f"{len(trained.history)} epochs" + ", interrupted" * trained.interrupted
        except (TrainingError, OutputError) as error:
            ended = f"{type(error).__name__}: {error}"
        np.savez(out / f"{name}-{rank}.npz", **weights)
        report[name] = {"ended": ended, "heard": listener.heard}

    run("neighbourhoods", Hear())
    run("groups", Hear())
    run("timed", Hear())
    run("stopped", Hear(stop_after=6 if rank == 1 else None))
    for name, memory in (("not-finite", False), ("no-memory", True)):
        if rank == 1:
            PtychoLightning._losses = failing(real, step=5, memory=memory)
        run(name, Hear())
        PtychoLightning._losses = real
    run("callback", Hear(fail_after=2))
    (out / f"report-{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
