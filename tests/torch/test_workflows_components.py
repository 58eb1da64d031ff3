"""The execution config reaches the Trainer; accumulation is refused before any frame is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

import torch
from ptycho_config import guards
from ptycho_config.errors import PolicyError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.result.callbacks import Callback
from ptycho_core_torch import training
from ptycho_core_torch.lightning_module import PtychoLightning
from ptycho_core_torch.trainer import make_trainer, quiet_lightning


class StubLightningModule:
    """A module that says nothing of how it optimises: it has no `automatic_optimization`."""


class ManualByClass(PtychoLightning):
    """Steps its optimiser itself, and says so in its class."""

    automatic_optimization = False


class ManualByInstance(PtychoLightning):
    """Steps its optimiser itself, and says so as Lightning's pages do."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.automatic_optimization = False


class Unreadable(np.ndarray):
    """Frames of a known shape that nobody may look at."""

    def _refuse(self, *_: object, **__: object) -> Any:
        raise AssertionError("a frame was read")

    __getitem__ = __array_ufunc__ = __array_function__ = _refuse


class Steps(Callback):
    """Counts the batches."""

    def __init__(self) -> None:
        self.n_steps = 0

    def on_step(self, step: object) -> None:
        self.n_steps += 1


@pytest.fixture(scope="module")
def scan(simulated) -> Scan:
    """20 frames of 32 x 32; with a batch size of 5 an epoch has 4 batches."""
    return simulated(frames=20, frame_px=32, start_kind="true", seed=3).scan


@pytest.fixture
def unreadable_scan(scan: Scan) -> Scan:
    """The scan with frames that raise when they are read."""
    unreadable = replace(scan, frames=scan.frames.view(Unreadable))
    with pytest.raises(AssertionError, match="a frame was read"):
        unreadable.amplitude()
    with pytest.raises(AssertionError, match="a frame was read"):
        unreadable.mean_counts_per_frame()
    return unreadable


@pytest.fixture
def trainer_of(
    scan: Scan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[PyTorchExecutionConfig], L.Trainer]:
    """Train for one epoch by the front door and return the Trainer that did it."""

    def train(execution: PyTorchExecutionConfig) -> L.Trainer:
        made: list[L.Trainer] = []

        def make_and_keep(*arguments: Any, **more: Any) -> L.Trainer:
            made.append(make_trainer(*arguments, **more))
            return made[-1]

        monkeypatch.setattr(training, "make_trainer", make_and_keep)
        config = TrainingConfig(nepochs=1, batch_size=5)
        get_backend("pytorch").train(scan, config, execution, test_scan=scan, directory=tmp_path)
        [trainer] = made
        assert trainer.global_step > 0
        return trainer

    return train


def callbacks_of(trainer: L.Trainer, kind: type[Any]) -> list[Any]:
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]


@pytest.mark.finding("EXEC-ACCUM-001")
@pytest.mark.finding("CONFIG-002")
def test_execution_config_overrides_trainer(trainer_of, tmp_path: Path) -> None:
    execution = PyTorchExecutionConfig(
        accelerator="cpu",
        devices=1,
        strategy="single_device",
        precision="bf16-mixed",
        accum_steps=2,
        gradient_clip_val=0.5,
        gradient_clip_algorithm="value",
        enable_progress_bar=True,
        checkpoint_save_top_k=3,
        checkpoint_monitor_metric="val_residual",
        checkpoint_mode="max",
        early_stop_patience=7,
        logger_backend="csv",
    )
    guards.check_accumulation(StubLightningModule(), execution.accum_steps)  # automatic: nothing is raised

    trainer = trainer_of(execution)
    assert isinstance(trainer.strategy, SingleDeviceStrategy)
    assert trainer.strategy.root_device == torch.device("cpu")
    assert trainer.num_devices == 1
    assert trainer.precision == "bf16-mixed"
    assert trainer.accumulate_grad_batches == 2
    assert trainer.global_step == 2  # 4 batches, a step after every second
    assert trainer.gradient_clip_val == 0.5
    assert trainer.gradient_clip_algorithm == "value"
    assert trainer.progress_bar_callback is not None
    assert isinstance(trainer.logger, CSVLogger)
    assert Path(trainer.logger.log_dir).is_relative_to(tmp_path)
    [checkpoints] = callbacks_of(trainer, ModelCheckpoint)
    assert (checkpoints.save_top_k, checkpoints.monitor, checkpoints.mode) == (3, "val_residual", "max")
    [early] = callbacks_of(trainer, EarlyStopping)
    assert (early.patience, early.monitor) == (7, "val_loss")


@pytest.mark.finding("CONFIG-LOGGER-001")
def test_execution_config_defaults_reach_the_trainer(trainer_of, tmp_path: Path) -> None:
    trainer = trainer_of(PyTorchExecutionConfig(accelerator="cpu"))
    assert trainer.accumulate_grad_batches == 1
    assert trainer.precision == "32-true"
    assert (trainer.num_devices, trainer.num_nodes) == (1, 1)
    assert trainer.progress_bar_callback is None
    assert isinstance(trainer.logger, CSVLogger)
    assert (Path(trainer.logger.log_dir) / "metrics.csv").exists()
    [checkpoints] = callbacks_of(trainer, ModelCheckpoint)
    assert (checkpoints.save_top_k, checkpoints.monitor, checkpoints.mode) == (1, "val_loss", "min")
    [early] = callbacks_of(trainer, EarlyStopping)
    assert early.patience == 100


def test_execution_config_switches_logger_and_checkpoints_off(trainer_of) -> None:
    trainer = trainer_of(
        PyTorchExecutionConfig(accelerator="cpu", logger_backend=None, enable_checkpointing=False)
    )
    assert trainer.loggers == []
    assert callbacks_of(trainer, ModelCheckpoint) == []


def make(execution: PyTorchExecutionConfig, directory: Path, **config: Any) -> L.Trainer:
    """Make the Trainer of a training, without one."""
    with quiet_lightning():
        return make_trainer(execution, TrainingConfig(**config), [], n_epochs=3, directory=directory)


def test_execution_config_chooses_devices_strategy_and_precision(tmp_path: Path) -> None:
    execution = PyTorchExecutionConfig(
        accelerator="cpu", devices=2, num_nodes=1, strategy="ddp", precision="bf16-mixed"
    )
    trainer = make(execution, tmp_path)
    assert trainer.num_devices == 2
    assert trainer.world_size == 2
    assert isinstance(trainer.strategy, DDPStrategy)
    assert trainer.precision == "bf16-mixed"
    assert trainer.max_epochs == 3


def test_execution_config_leaves_adaptive_clipping_to_the_module(tmp_path: Path) -> None:
    trainer = make(PyTorchExecutionConfig(accelerator="cpu"), tmp_path, gradient_clip_algorithm="agc")
    assert trainer.gradient_clip_val is None
    assert trainer.gradient_clip_algorithm is None


@pytest.mark.parametrize(("deterministic", "mode"), [(True, "error"), ("warn", "warn"), (False, "default")])
@pytest.mark.finding("EXEC-ACCUM-001")
def test_execution_config_controls_determinism(
    deterministic: Any, mode: str, trainer_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = PyTorchExecutionConfig(accelerator="cpu", logger_backend=None, deterministic=deterministic)
    guards.check_accumulation(StubLightningModule(), execution.accum_steps)
    modes: list[str] = []

    class Listening(PtychoLightning):
        def on_train_start(self) -> None:
            super().on_train_start()
            modes.append({0: "default", 1: "warn", 2: "error"}[torch.get_deterministic_debug_mode()])

    monkeypatch.setattr(training, "PtychoLightning", Listening)
    before = torch.get_deterministic_debug_mode()
    trainer_of(execution)
    assert modes == [mode]
    assert torch.get_deterministic_debug_mode() == before


def test_execution_config_deterministic_runs_agree_to_the_last_bit(scan: Scan) -> None:
    execution = PyTorchExecutionConfig(accelerator="cpu", logger_backend=None)
    config = TrainingConfig(nepochs=2, batch_size=5, seed=4)
    first, second = (get_backend("pytorch").train(scan, config, execution) for _ in range(2))
    weights = first.network.state_dict()
    assert weights
    for name, tensor in second.network.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.finding("EXEC-ACCUM-001")
@pytest.mark.parametrize("module", [ManualByClass, ManualByInstance])
def test_execution_config_with_manual_accumulation_is_refused_before_a_frame_is_read(
    module: type[PtychoLightning], unreadable_scan: Scan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "PtychoLightning", module)
    execution = PyTorchExecutionConfig(accelerator="cpu", accum_steps=2)
    with pytest.raises(PolicyError, match=rf"EXEC-ACCUM-001: .*{module.__name__} optimises manually"):
        get_backend("pytorch").train(
            unreadable_scan, TrainingConfig(nepochs=1, batch_size=5), execution, directory=tmp_path
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.finding("EXEC-ACCUM-001")
def test_execution_config_with_automatic_accumulation_goes_on_to_the_frames(unreadable_scan: Scan) -> None:
    execution = PyTorchExecutionConfig(accelerator="cpu", accum_steps=2)
    with pytest.raises(AssertionError, match="a frame was read"):
        get_backend("pytorch").train(unreadable_scan, TrainingConfig(nepochs=1, batch_size=5), execution)


@pytest.mark.finding("EXEC-ACCUM-002")
@pytest.mark.parametrize("accum_steps", [4, 5])
def test_execution_config_accumulation_beyond_an_epoch_is_refused_before_the_first_batch(
    accum_steps: int, scan: Scan, tmp_path: Path
) -> None:
    steps = Steps()
    execution = PyTorchExecutionConfig(accelerator="cpu", accum_steps=accum_steps)
    config = TrainingConfig(nepochs=1, batch_size=5)

    def train() -> Any:
        return get_backend("pytorch").train(scan, config, execution, callbacks=[steps], directory=tmp_path)

    if accum_steps <= 4:
        train()
        assert steps.n_steps == 4
        return
    with pytest.raises(PolicyError, match=r"EXEC-ACCUM-002: `accum_steps` is 5, .* only 4 batches"):
        train()
    assert steps.n_steps == 0
    assert list(tmp_path.iterdir()) == []
