"""The course of a training: how far it is, and the factor of the learning rate that belongs there."""

from __future__ import annotations

from ptycho_config.models import TrainingConfig
from ptycho_core.schedules import exponential, our_course, warm_up_and_cosine

__all__ = ["Course"]


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
