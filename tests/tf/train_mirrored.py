"""Trains on two logical devices of the CPU; `test_execution.py` runs it in a process of its own.

TensorFlow divides a processor only before it starts. For each training the program writes into the folder it
is given: weights and image of two devices and of one that takes the same batches, and what was heard or said.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import ConfigError, TrainingError
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.learning.prepare import prepare
from ptycho_core.result.callbacks import Callback
from ptycho_core.simulate import simulate_scan
from ptycho_core_tf.devices import place_run
from ptycho_core_tf.first_weights import seeded
from ptycho_core_tf.framework import tf
from ptycho_core_tf.keras_model import PtychoKeras
from ptycho_core_tf.network import PtychoNetwork
from ptycho_core_tf.trained import TrainedNetwork
from ptycho_core_tf.training import train_on
from ptycho_core_tf.weights import read_weights

SMALL = {"architecture": "fno_vanilla", "fno_width": 8, "fno_blocks": 1}
#: Name of a training -> its settings, and those of the execution.
TRAININGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "averaged": ({"optimizer": "sgd", "gradient_clip_val": 0.0}, {}),
    "clipped": (
        {"optimizer": "sgd", "gradient_clip_val": 0.01, "scheduler": "ReduceLROnPlateau"},
        {"learning_rate": 0.5},
    ),
    "groups": ({"model": {**SMALL, "gridsize": 2}, "batch_size": 4}, {}),
    "neighbourhoods": ({"model": {**SMALL, "overlap_constraint": "batch"}}, {"jit_compile": True}),
}


class Hear(Callback):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.steps: list[tuple[int, int, int]] = []

    def on_step(self, step: Any) -> None:
        self.steps.append((step.epoch, step.step, step.frames_done))

    def on_epoch(self, epoch: Any) -> None:
        self.heard.append(f"epoch {epoch.epoch}")

    def on_event(self, event: Any) -> None:
        self.heard.append(event.kind)


def scan() -> Scan:
    """48 frames of 32 px: four batches of twelve, two steps of two devices."""
    return simulate_scan(frames=48, frame_px=32, start_kind="true", seed=2).scan


def config(name: str) -> TrainingConfig:
    settings: dict[str, Any] = {"model": SMALL, "batch_size": 12, "nepochs": 2, "seed": 1}
    settings |= TRAININGS.get(name, ({}, {}))[0]
    return TrainingConfig(**{**settings, "model": ModelConfig(**settings["model"])})


def execution(name: str, **more: Any) -> TensorFlowExecutionConfig:
    settings = {"accelerator": "cpu", "learning_rate": 0.02, **TRAININGS.get(name, ({}, {}))[1], **more}
    return TensorFlowExecutionConfig(**settings)


def failing(real: Any, *, step: int) -> Any:
    """Return a loss that is no number in one step of the second device alone."""

    def told(module: Any, batch: Any) -> dict[str, tf.Tensor]:
        found = real(module, batch)
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)
        wrong = (replica == 1) & tf.equal(tf.convert_to_tensor(module.optimizer.iterations.value), step)
        return found | {"loss": tf.where(wrong, float("nan"), found["loss"])}

    return told


def main(out: Path, names: list[str]) -> None:
    """Run the trainings of these names; with the first, go on from it, and see what is refused."""
    processor = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()]
    tf.config.set_logical_device_configuration(processor, halves)
    backend, frames, report = get_backend("tensorflow"), scan(), {}

    def run(name: str, listener: Hear, **more: Any) -> TrainedNetwork:
        settings = execution(name, **{"devices": 2, **more})
        directory = out / name
        return backend.train(frames, config(name), settings, callbacks=[listener], directory=directory)

    for name in names:
        listener = Hear()
        both = run(name, listener)
        alone_on = execution(name, logger_backend="none")
        prepared = prepare(frames, config(name), alone_on)
        alone = train_on(place_run(alone_on), prepared, alone_on, together=2)
        with seeded(1):
            begun = PtychoNetwork(prepared.config.model, frames.probe, 1.0)
        np.savez(out / f"{name}-begun.npz", **read_weights(begun.network))
        for number, trained in (("two", both), ("one", alone)):
            np.savez(out / f"{name}-{number}.npz", **read_weights(trained.network.network))
            losses = [row["train_loss"] for row in trained.history]
            np.savez(
                out / f"{name}-{number}-seen.npz", image=trained.reconstruct(frames).object, losses=losses
            )
        report[name] = {"heard": listener.heard, "steps": listener.steps}
    if "averaged" in names:
        go_on_and_fail(out, report, run)
    (out / "report.json").write_text(json.dumps(report))


def go_on_and_fail(out: Path, report: dict[str, Any], run: Callable[..., TrainedNetwork]) -> None:
    """Train on from a checkpoint; with a loss that is no number on one device; on too many devices."""
    backend, frames = get_backend("tensorflow"), scan()
    again = backend.load(out / "averaged" / "checkpoints" / "last.zip", execution("averaged", devices=2))
    more = config("averaged").model_copy(update={"nepochs": 3})
    gone_on = backend.train(frames, more, execution("averaged", devices="auto"), start=again)
    report["resumed"] = {"epochs": [row["epoch"] for row in gone_on.history]}
    report["resumed"]["devices"] = gone_on.placement.n_devices
    PtychoKeras._told = failing(PtychoKeras._told, step=3)
    for name, wanted in (("not-finite", {}), ("too-many", {"devices": 3})):
        try:
            run(name, Hear(), **wanted)
            report[name] = "nothing"
        except (TrainingError, ConfigError) as error:
            report[name] = f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
