"""The Lightning Trainer that a training runs on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException

import torch
from ptycho_config import hardware
from ptycho_config.errors import ConfigError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core.learning.recipe import clip_value_of
from ptycho_core_torch.checkpoints import Checkpoints
from ptycho_core_torch.distributed import check_processes, check_strategy

__all__ = ["device_in_use", "make_trainer", "quiet_lightning"]


def make_trainer(
    execution: PyTorchExecutionConfig,
    config: TrainingConfig,
    listeners: Sequence[L.Callback],
    *,
    n_epochs: int | None,
    directory: Path,
) -> L.Trainer:
    """Return a Trainer that does what the execution says.

    Args:
        config: settled; clipping is taken from here.
        n_epochs: None where something else ends the run.
        directory: for the logger's files.
    Raises:
        ConfigError: a strategy that is not offered, or devices that this host does not have.
    """
    check_strategy(execution.strategy)
    adaptive = config.gradient_clip_algorithm == "agc"
    try:
        trainer = L.Trainer(
            accelerator={"cuda": "gpu"}.get(execution.accelerator, execution.accelerator),
            devices=execution.devices,
            num_nodes=execution.num_nodes,
            strategy=execution.strategy,
            precision=execution.precision,
            deterministic=execution.deterministic,
            max_epochs=-1 if n_epochs is None else n_epochs,
            accumulate_grad_batches=execution.accum_steps,
            gradient_clip_val=None if adaptive else clip_value_of(config),
            gradient_clip_algorithm=None if adaptive else config.gradient_clip_algorithm,
            callbacks=list(listeners),
            plugins=[listener.files for listener in listeners if isinstance(listener, Checkpoints)],
            logger=_logger(execution, directory),
            enable_checkpointing=any(isinstance(listener, Checkpoints) for listener in listeners),
            enable_progress_bar=execution.enable_progress_bar,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=directory,
            log_every_n_steps=10,
            num_sanity_val_steps=0,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"Lightning cannot run with `--torch-devices {execution.devices} --torch-strategy "
            f"{execution.strategy}`: {' '.join(str(error).split())} Use `--torch-devices 1`."
        ) from error
    check_processes(trainer)
    return trainer


def device_in_use(trainer: L.Trainer) -> str:
    """Say whether there is a GPU, whether this training uses it, and which it is."""
    device, available = trainer.strategy.root_device, hardware.cuda_available()
    used = device.type == "cuda"
    name = f", device {torch.cuda.get_device_name(device)}" if used else ""
    return f"GPU available: {available}{' (cuda)' if available else ''}, used: {used}{name}"


def _logger(execution: PyTorchExecutionConfig, directory: Path) -> Any:
    from lightning.pytorch import loggers

    kinds = {"csv": "CSVLogger", "tensorboard": "TensorBoardLogger", "mlflow": "MLFlowLogger"}
    if execution.logger_backend not in kinds:
        return False
    if execution.logger_backend == "mlflow":
        return loggers.MLFlowLogger(save_dir=str(directory / "mlruns"))
    return getattr(loggers, kinds[execution.logger_backend])(save_dir=directory)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's hints to itself, and its switch for determinism to the run."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    deterministic = torch.are_deterministic_algorithms_enabled()
    # Writing NaN over every new tensor is a help in finding reads of empty memory, and 5 % of a step.
    filling: Any = torch.utils.deterministic  # a module with a property, which its stubs do not know
    filled, filling.fill_uninitialized_memory = filling.fill_uninitialized_memory, False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning.*")
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
            torch.use_deterministic_algorithms(deterministic)
            filling.fill_uninitialized_memory = filled
