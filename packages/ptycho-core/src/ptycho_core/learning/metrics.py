"""The metrics of a training, and the one that ranks its checkpoints."""

from __future__ import annotations

from ptycho_config.errors import ConfigError
from ptycho_config.execution import NetworkExecution
from ptycho_core.learning.advice import flag_prefix

__all__ = ["metric_to_watch"]

_TRAIN = ("train_loss", "train_residual", "train_nll")
_TEST = ("val_loss", "val_residual")


def metric_to_watch(execution: NetworkExecution, *, tested: bool) -> str:
    """Return the metric that ranks the checkpoints: without a test scan a test metric's twin in training.

    Raises:
        ConfigError: there is no such metric; lists those there are.
    """
    name = execution.checkpoint_monitor_metric
    if name not in (*_TRAIN, *_TEST):
        raise ConfigError(
            f"`{flag_prefix(execution)}checkpoint-monitor-metric {name}` is not one of "
            f"{', '.join((*_TEST, *_TRAIN))}."
        )
    return name if tested else name.replace("val_", "train_")
