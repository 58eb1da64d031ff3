"""Several processes that train together: how they may be started, and what they must decide as one.

A process that stopped or failed alone would leave the others waiting for its gradients, and one that followed
its own clock would go another way. Where there is one process, it answers every question here itself.
"""

from __future__ import annotations

import os
import sys

import lightning as L

import torch
from ptycho_config.errors import ConfigError, TrainingError

__all__ = ["any_of", "check_processes", "check_strategy", "largest", "raise_together"]

#: Names of a program that has no file.
_NO_FILE = ("", "-", "-c")
#: Every process holds all weights, and begins where the program begins.
_STRATEGIES = (
    "auto",
    "ddp",
    "ddp_find_unused_parameters_false",
    "ddp_find_unused_parameters_true",
    "single_device",
)


def check_strategy(name: str) -> None:
    """Refuse strategies that fork, or that no process holds all weights under.

    Raises:
        ConfigError: names the strategies there are.
    """
    if name.lower() not in _STRATEGIES:
        raise ConfigError(
            f"`--torch-strategy {name}` is not one of {', '.join(_STRATEGIES)}. Use `--torch-strategy ddp`."
        )


def check_processes(trainer: L.Trainer) -> None:
    """Refuse processes that could not train together.

    Raises:
        ConfigError: Lightning would fork a notebook, or several processes were started for a training of one.
    """
    launcher = trainer.strategy.launcher
    forks = launcher is not None and launcher.is_interactive_compatible
    if forks or (trainer.world_size > 1 and sys.argv[0] in _NO_FILE):
        raise ConfigError(
            "Several devices need a program that can be started again, which a notebook, a prompt and "
            "`python -c` are not. Use `ptycho train`, a script, or `devices=1`."
        )
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    started = int(os.environ.get("WORLD_SIZE", "1")) if by_torchrun else 1
    if trainer.world_size == 1 < started:
        raise ConfigError(
            f"{started} processes were started, and each would train for itself. "
            f"Use `--torch-devices {started} --torch-strategy ddp`, or start one process."
        )


def largest(trainer: L.Trainer, *values: float) -> tuple[float, ...]:
    """Return the largest of each value over all processes; all of them must ask."""
    if trainer.world_size == 1:
        return values
    mine = torch.tensor(values, dtype=torch.float32, device=trainer.strategy.root_device)
    return tuple(trainer.strategy.reduce(mine, reduce_op="max").tolist())


def any_of(trainer: L.Trainer, *answers: bool) -> tuple[bool, ...]:
    """Return for each question whether any process answers yes; all of them must ask."""
    return tuple(map(bool, largest(trainer, *map(float, answers))))


def raise_together(trainer: L.Trainer, failure: Exception | None) -> None:
    """Raise what failed in this process, and end the others with it; all of them must ask.

    Raises:
        TrainingError: another process failed; it says itself why.
    """
    (failed,) = any_of(trainer, failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise TrainingError("Another process of this training failed.")
