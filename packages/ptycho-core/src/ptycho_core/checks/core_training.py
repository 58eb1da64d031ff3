"""What the checks of every core have in common: the smallest training of a real core, and the rules it keeps.

A core's `checks.training` holds a `Core`, which names its framework and nothing more, and hands it to the
checks of this module.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import BackendUnavailableError, ConfigError, PolicyError, TrainingError
from ptycho_config.execution import ExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.backend import Backend, TrainedModel
from ptycho_core.bundle import read_bundle
from ptycho_core.io import scan_from_arrays
from ptycho_core.learning.course import WARM_UP_STEPS
from ptycho_core.result.callbacks import Callback, RunStart
from ptycho_core.scan import Scan

__all__ = [
    "FRAMES",
    "Began",
    "Core",
    "a_constant_network_is_stopped",
    "a_training_leaves_its_metrics",
    "an_absent_gpu_is_refused_at_the_start",
    "labels_are_asked_for_before_training",
    "small_scan",
]

FRAMES = 8
_FRAME_PX = 32
#: A network that every core builds and trains in a moment.
_SMALL = {"architecture": "fno", "fno_width": 4, "fno_blocks": 1, "fno_cnn_blocks": 1, "fno_modes": 4}


class Began(Callback):
    """Remembers whether a training began."""

    def __init__(self) -> None:
        self.began = False

    def on_start(self, start: RunStart) -> None:
        self.began = True


def small_scan(n_frames: int = FRAMES) -> Scan:
    """Make a scan of frames of 32 px in a row, no two alike, without a true object."""
    at = np.arange(_FRAME_PX) - _FRAME_PX // 2
    square = at[:, None] ** 2 + at**2
    frames = np.stack([200 * np.exp(-square / (20 + frame)) + at % 3 for frame in range(n_frames)])
    return scan_from_arrays(
        np.round(frames).astype(np.uint16),
        np.stack([np.zeros(n_frames), 2.0 * np.arange(n_frames)], axis=1),
        np.exp(-square / 60).astype(np.complex64),
        measurement="counts",
        dc="center",
        name="the scan of the check",
    )


@dataclass(frozen=True, kw_only=True)
class Core:
    """A core, as its checks train with it.

    Attributes:
        execution: the model that says how it runs.
        sees_gpu: what this core asks for a GPU.
    """

    backend: Backend
    execution: type[ExecutionConfig]
    sees_gpu: Callable[[], bool]

    def available(self) -> Backend:
        """Return the backend.

        Raises:
            BackendUnavailableError: its framework is not installed.
        """
        found = self.backend.availability()
        if not found.installed:
            raise BackendUnavailableError(found.reason)
        return self.backend

    def settings(
        self,
        *,
        nepochs: int = 1,
        batch_size: int = 4,
        model_type: str = "pinn",
        **execution: Any,
    ) -> tuple[TrainingConfig, Any]:
        """Return what is trained, and how it runs: on the CPU unless told otherwise.

        Args:
            execution: fields of this core's execution model.
        """
        model = ModelConfig.model_validate({"N": _FRAME_PX, "model_type": model_type, **_SMALL})
        quiet = {"accelerator": "cpu", "logger_backend": None, "enable_checkpointing": False}
        return (
            TrainingConfig(model=model, nepochs=nepochs, batch_size=batch_size, seed=1),
            self.execution.model_validate({**quiet, **execution}),
        )

    def train(
        self,
        scan: Scan | None = None,
        *,
        callbacks: Sequence[Callback] = (),
        directory: Path | None = None,
        **settings: Any,
    ) -> TrainedModel:
        """Train through the public backend, on `small_scan` where no scan is given; see `settings`.

        Raises:
            BackendUnavailableError: its framework is not installed.
        """
        config, execution = self.settings(**settings)
        return self.available().train(
            small_scan() if scan is None else scan,
            config,
            execution,
            callbacks=callbacks,
            directory=directory,
        )


def a_constant_network_is_stopped(core: Core) -> Evidence:
    """Train where all frames are the same, so that a network can only give the same patch for each.

    It is judged at the end of the first epoch after ten warm-ups, of which the weights are not kept.
    """
    finding = "TRAIN-COLLAPSE-001"
    scan, batch_size = small_scan(2 * FRAMES), 2
    alike = replace(scan, frames=np.repeat(scan.frames[:1], scan.n_frames, axis=0))
    # Two frames a step are the fewest that can be alike, and no step more is taken than it needs.
    epochs_before = 10 * WARM_UP_STEPS * batch_size // scan.n_frames
    nepochs = epochs_before + 2
    with tempfile.TemporaryDirectory() as folder:
        message = refused(
            finding,
            TrainingError,
            "a network that gives the same patch for every frame",
            lambda: core.train(alike, directory=Path(folder), nepochs=nepochs, batch_size=batch_size),
        )
        kept = len(read_bundle(folder).history)
    found = f"the bundle of the stopped training has {kept} epochs"
    demand(kept == epochs_before, finding, found, f"the {epochs_before} before")
    core.train(scan, nepochs=nepochs, batch_size=batch_size)
    return {
        "the same patch for every frame": f"stopped: {message.split(' The last good')[0]}",
        "the weights before": "kept, in a bundle",
        "other networks": "train on",
    }


def an_absent_gpu_is_refused_at_the_start(core: Core) -> Evidence:
    """Train, and load a bundle, with an explicit GPU; where there is one there is nothing to refuse."""
    finding, backend, listener = "POLICY-001", core.available(), Began()
    if core.sees_gpu():
        return {"an explicit GPU": "nothing to refuse, as there is one"}
    for name in ("cuda", "gpu"):
        execution = core.execution.model_validate({"accelerator": name})
        refused(
            finding,
            PolicyError,
            f"training with an explicit {name!r}",
            lambda name=name: core.train(accelerator=name, callbacks=(listener,)),
        )
        refused(
            finding,
            PolicyError,
            f"loading a bundle with an explicit {name!r}",
            lambda execution=execution: backend.load(Path("there-is-no-such-bundle"), execution),
        )
    demand(not listener.began, finding, "the training had begun by then", "a refusal at the start")
    return {"an explicit GPU": "refused by train and load, before anything is read"}


def labels_are_asked_for_before_training(core: Core) -> Evidence:
    """Train supervised on a scan without its object."""
    finding, listener = "DATA-SUP-001", Began()
    message = refused(
        finding,
        ConfigError,
        "supervised training on a scan without a ground truth",
        lambda: core.train(model_type="supervised", callbacks=(listener,)),
    )
    demand(not listener.began, finding, "the training had begun by then", "an error before it starts")
    return {"supervised, no ground truth": f"refused before training: {message}"}


def a_training_leaves_its_metrics(core: Core) -> Evidence:
    """Train for one epoch with the logger that is taken where none was chosen, and read what it wrote."""
    finding = "CONFIG-LOGGER-001"
    by_default: Any = core.execution.model_validate({"accelerator": "cpu"})
    with tempfile.TemporaryDirectory() as folder:
        core.train(directory=Path(folder), logger_backend=by_default.logger_backend)
        found = sorted(Path(folder).rglob("metrics.csv"))
        demand(len(found) == 1, finding, f"{len(found)} metrics.csv were left behind", "one")
        lines = found[0].read_text(encoding="utf-8").splitlines()
        where = found[0].relative_to(folder).as_posix()
    demand("train_loss" in lines[0], finding, f"its columns are {lines[0]}", "train_loss among them")
    demand(len(lines) > 1, finding, "it holds no row", "one row an epoch")
    return {"file": where, "rows": len(lines) - 1}
