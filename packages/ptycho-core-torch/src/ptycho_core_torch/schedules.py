"""The course of the learning rate: the factors of every core, and torch's own wait for a plateau."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer, lr_scheduler

from ptycho_config.models import TrainingConfig
from ptycho_core.learning.course import WARM_UP_STEPS, exponential, our_course, warm_up_and_cosine

__all__ = ["WARM_UP_STEPS", "exponential", "our_course", "scheduler_for", "warm_up_and_cosine"]


def scheduler_for(
    optimizer: Optimizer,
    config: TrainingConfig,
    factor: Callable[[int], float],
    *,
    monitor: str,
) -> dict[str, Any]:
    """Return the scheduler of a configuration as Lightning takes it.

    Args:
        factor: of the learning rate after so many steps of this run; not asked by `ReduceLROnPlateau`.
        monitor: the loss whose plateau counts.
    """
    if config.scheduler != "ReduceLROnPlateau":
        return {"scheduler": lr_scheduler.LambdaLR(optimizer, factor), "interval": "step"}
    plateau = lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=config.plateau_factor,
        patience=config.plateau_patience,
        threshold=config.plateau_threshold,
        min_lr=config.plateau_min_lr,
    )
    # A run that is stopped within its first epoch has no loss of an epoch yet, and needs none.
    return {"scheduler": plateau, "interval": "epoch", "monitor": monitor, "strict": False}
