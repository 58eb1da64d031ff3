"""Run one level: epochs of shuffled batches, stepping back when the residual rises."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ptycho_core.solver.level import OBJECT_LIMIT, Level, State
from ptycho_core.solver.schedule import LevelSchedule

__all__ = ["Descent", "EpochRecord"]

_DIVERGENCE = 1.1


@dataclass(frozen=True)
class EpochRecord:
    """One epoch as it went; `residual` is the relative amplitude misfit seen while predicting."""

    schedule: LevelSchedule
    epoch: int
    n_epochs: int
    residual: float
    stepped_back: bool


@dataclass
class Descent:
    """Epochs over one level after another, with one memory for the scale of the steps.

    An epoch whose residual is not finite or exceeds the best by a tenth is undone: the best state comes
    back, at rest, and all later steps are half as long. Letting the steps recover was measured to be worse.

    Attributes:
        ask_to_stop: asked after each batch; True ends the level, keeping the present state.
        after_step, after_epoch: told of progress.
        epochs_allowed: given the schedule and the epochs done, how many epochs there is time for.
        offer_state: told before each epoch but the first that the level's state may be kept.
    """

    random: np.random.Generator
    ask_to_stop: Callable[[], bool]
    after_step: Callable[[LevelSchedule, int, int, float], None]
    after_epoch: Callable[[EpochRecord], None]
    epochs_allowed: Callable[[LevelSchedule, int], int]
    offer_state: Callable[[Level], None]
    step_scale: float = 1.0
    stopped: bool = field(default=False, init=False)
    _epochs_before: int = field(default=0, init=False)

    def run(self, level: Level, schedule: LevelSchedule) -> None:
        """Improve the level's state for the epochs that its schedule and the time allow."""
        best = math.inf
        best_state: State | None = None
        epoch, epochs = 0, schedule.epochs
        if schedule.least_epochs is not None and self._epochs_before:
            epochs = min(epochs, max(schedule.least_epochs, self._epochs_before))
        epoch_residuals: list[float] = []
        while epoch < epochs and not self.stopped:
            if epoch or self._epochs_before:
                self.offer_state(level)
            before = level.state()
            residual = self._epoch(level, schedule, epoch, epochs)
            diverged = not math.isfinite(residual) or residual > _DIVERGENCE * best
            if diverged:
                level.restore(before if best_state is None else best_state)
                self.step_scale /= 2
            elif residual < best:
                best, best_state = residual, before
            epoch_residuals.append(residual)
            if not self.stopped or diverged:
                self.after_epoch(EpochRecord(schedule, epoch, epochs, residual, diverged))
            epoch += 1
            if _settled(epoch_residuals, schedule.patience, schedule.progress):
                break
            epochs = min(epochs, max(epoch, self.epochs_allowed(schedule, epoch)))
        self._epochs_before = epoch

    def _epoch(self, level: Level, schedule: LevelSchedule, epoch: int, epochs: int) -> float:
        steps = schedule.steps(epoch, scale=self.step_scale, epochs=epochs)
        misfit = 0.0
        for done, index in enumerate(self.random.permutation(len(level.batches)).tolist(), 1):
            change = level.step(index, steps)
            misfit += change
            self.after_step(schedule, epoch, done, misfit / level.total_amplitude)
            if not math.isfinite(misfit):
                break
            if self.ask_to_stop():
                self.stopped = True
                break
        level.settle(OBJECT_LIMIT)
        return misfit / level.total_amplitude


def _settled(residuals: list[float], patience: int, progress: float) -> bool:
    """Return whether the best of the last epochs is hardly better than the best before them."""
    if not patience or len(residuals) < 2 * patience:
        return False
    return min(residuals[-patience:]) > (1 - progress) * min(residuals[:-patience])
