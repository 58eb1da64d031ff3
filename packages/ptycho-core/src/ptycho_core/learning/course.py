"""The course of a training: how far it is, and the factors of the learning rate, the same in every core."""

from __future__ import annotations

import math

from ptycho_config.models import TrainingConfig

__all__ = ["WARM_UP_STEPS", "Course", "exponential", "our_course", "warm_up_and_cosine"]


class Course:
    """Where a run is, by steps or by the time budget.

    Attributes:
        elapsed_s: seconds of this run; whoever steps keeps it up to date.
    """

    def __init__(
        self, config: TrainingConfig, *, steps_per_epoch: int, n_epochs: int | None, epochs_before: int = 0
    ) -> None:
        """Start.

        Args:
            steps_per_epoch: of the optimiser.
            n_epochs: of the whole run; None where the time budget alone ends it.
            epochs_before: how many of them an earlier run has done.
        """
        self.elapsed_s = 0.0
        self._config, self._steps_per_epoch = config, steps_per_epoch
        self._n_epochs, self._epochs_before = n_epochs, epochs_before

    def epochs_after(self, step: int) -> float:
        """Epochs of the whole run that are done after so many steps of this one; fractions count."""
        return self._epochs_before + step / self._steps_per_epoch

    def progress_after(self, step: int) -> float:
        """Part of the run that is done, by steps or by time, whichever is further; 0 to 1."""
        done = 0.0 if self._n_epochs is None else self.epochs_after(step) / self._n_epochs
        if self._config.max_time is not None:
            done = max(done, self.elapsed_s / self._config.max_time)
        return min(1.0, done)

    def factor(self, step: int) -> float:
        """Factor of the learning rate after so many steps of this run."""
        epochs, progress = self.epochs_after(step), self.progress_after(step)
        if self._config.scheduler == "Exponential":
            return exponential(epochs)
        if self._config.scheduler == "WarmupCosine":
            return warm_up_and_cosine(epochs, progress, self._config, self._n_epochs)
        return our_course(step, progress)


#: Steps of the warm-up of `Default`.
WARM_UP_STEPS = 20
#: Where a warm-up begins; a step that changes nothing would be wasted.
_FIRST_RATE = 0.05
#: Last learning rate over the first one in `Default`.
_LAST_RATE = 0.02
#: Factor of `Exponential` after each epoch.
_PER_EPOCH = 0.95


def our_course(step: int, progress: float) -> float:
    """`Default`: a short warm-up, and a cosine over the steps or the time that the run has."""
    return min(1.0, step / WARM_UP_STEPS + _FIRST_RATE) * _cosine(progress, _LAST_RATE)


def warm_up_and_cosine(epochs: float, progress: float, config: TrainingConfig, n_epochs: int | None) -> float:
    """`WarmupCosine`: a straight line over `lr_warmup_epochs`, then a cosine down to `lr_min_ratio`.

    Args:
        epochs: done, fractions count.
        progress: part of the run that is done, 0 to 1.
        n_epochs: of the whole run; None where a time budget ends it, over which the cosine then goes.
    """
    warm_up = config.lr_warmup_epochs
    if epochs < warm_up:
        return max(_FIRST_RATE, epochs / warm_up)
    part = 0.0 if n_epochs is None else min(1.0, warm_up / n_epochs)
    return _cosine((progress - part) / (1 - part) if part < 1 else 1.0, config.lr_min_ratio)


def exponential(epochs: float) -> float:
    """`Exponential`: 5 % less after each epoch."""
    return _PER_EPOCH ** math.floor(epochs)


def _cosine(progress: float, lowest: float) -> float:
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
