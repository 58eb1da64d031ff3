"""The course of the learning rate: the factors of every core, and a wait for a plateau as torch has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ptycho_config.models import TrainingConfig
from ptycho_core.learning.course import WARM_UP_STEPS, exponential, our_course, warm_up_and_cosine
from ptycho_core_tf.framework import keras, tf

__all__ = ["WARM_UP_STEPS", "Plateau", "exponential", "our_course", "scheduler_for", "warm_up_and_cosine"]


def scheduler_for(
    optimizer: keras.optimizers.Optimizer,
    config: TrainingConfig,
    factor: Callable[[int], float],
    *,
    monitor: str,
) -> keras.callbacks.Callback:
    """Return the scheduler of a configuration as Keras takes it.

    Args:
        factor: of the learning rate after so many steps of this run; not asked by `ReduceLROnPlateau`.
        monitor: the loss whose plateau counts.
    """
    if config.scheduler != "ReduceLROnPlateau":
        return _Course(optimizer, factor)
    plateau = Plateau(
        factor=config.plateau_factor,
        patience=config.plateau_patience,
        threshold=config.plateau_threshold,
        lowest=config.plateau_min_lr,
    )
    return _Wait(optimizer, plateau, monitor)


class Plateau:
    """Lower a learning rate each time that a loss has not fallen for more than so many epochs."""

    #: A change of the rate that is not worth making.
    _SMALLEST_CHANGE = 1e-8

    def __init__(self, *, factor: float, patience: int, threshold: float, lowest: float) -> None:
        """Wait.

        Args:
            threshold: the part of the lowest loss by which a new one must lie below it.
            lowest: learning rate.
        """
        self._factor, self._patience, self._threshold, self._lowest = factor, patience, threshold, lowest
        self._best, self._waited = math.inf, 0

    def rate_after(self, loss: float, rate: float) -> float:
        """Return the learning rate for the epoch after one that ended with this loss."""
        if loss < self._best * (1 - self._threshold):
            self._best, self._waited = loss, 0
        else:
            self._waited += 1
        if self._waited <= self._patience:
            return rate
        self._waited = 0
        lower = max(rate * self._factor, self._lowest)
        return lower if rate - lower > self._SMALLEST_CHANGE else rate


class _Course(keras.callbacks.Callback):
    def __init__(self, optimizer: keras.optimizers.Optimizer, factor: Callable[[int], float]) -> None:
        super().__init__()
        self._optimizer, self._factor, self._step = optimizer, factor, 0
        self._first = _rate_of(optimizer)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._optimizer.learning_rate = self._first * self._factor(self._step)
        self._step += 1


class _Wait(keras.callbacks.Callback):
    def __init__(self, optimizer: keras.optimizers.Optimizer, plateau: Plateau, monitor: str) -> None:
        super().__init__()
        self._optimizer, self._plateau, self._monitor = optimizer, plateau, monitor

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # A run that is stopped within its first epoch has no loss of an epoch yet, and needs none.
        if logs and self._monitor in logs:
            loss = float(logs[self._monitor])
            self._optimizer.learning_rate = self._plateau.rate_after(loss, _rate_of(self._optimizer))


def _rate_of(optimizer: keras.optimizers.Optimizer) -> float:
    """Read the learning rate, whatever devices hold it."""
    return float(tf.convert_to_tensor(optimizer.learning_rate).numpy())
