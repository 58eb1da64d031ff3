"""The course of the learning rate: factors on the first one, the same in every core."""

from __future__ import annotations

import math

from ptycho_config.models import TrainingConfig

__all__ = ["WARM_UP_STEPS", "exponential", "our_course", "warm_up_and_cosine"]

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
