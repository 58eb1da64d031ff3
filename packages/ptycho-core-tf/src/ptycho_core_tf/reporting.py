"""Between Keras and a training's report: progress, the end of the run, and the last good weights."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ptycho_config.errors import TrainingError
from ptycho_core.learning.course import Course
from ptycho_core.learning.ending import LastGood, Termination
from ptycho_core.learning.report import TrainingReport
from ptycho_core_tf.framework import keras
from ptycho_core_tf.keras_model import EXTRAS, PtychoKeras
from ptycho_core_tf.loaders import Loader
from ptycho_core_tf.network import PtychoNetwork

__all__ = ["Reporter"]


class Reporter(keras.callbacks.Callback):
    """Feeds the report of a training, and ends the training when asked or when time is up.

    The first of the callbacks: those after it see the metrics alone.
    """

    def __init__(
        self,
        report: TrainingReport,
        network: PtychoNetwork,
        course: Course,
        loader: Loader,
        frames_per_step: int,
    ) -> None:
        super().__init__()
        self._report, self._network, self._course, self._loader = report, network, course, loader
        self._frames_per_step = frames_per_step
        self._good: LastGood[list[np.ndarray]] = LastGood([])
        self._steps, self._epoch, self._spread = 0, 0, float("inf")
        self._termination = Termination()

    @property
    def _trained(self) -> PtychoKeras:
        """The model in training, which Keras sets before its first call."""
        return cast("PtychoKeras", self.model)

    @property
    def _n_steps(self) -> int:
        """Steps of an epoch, which Keras tells before its first call."""
        return int(cast("dict[str, Any]", self.params)["steps"])

    def on_train_begin(self, logs: Any = None) -> None:
        """Announce the run."""
        self._termination.listen()
        self._good = LastGood(self._weights())
        self._report.start(self._n_steps)
        self._loader.begin()

    def on_train_end(self, logs: Any = None) -> None:
        """Hear no signal any more."""
        self._termination.end()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count the epochs."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Report a step; end the run when it is asked to.

        Raises:
            TrainingError: the loss is not finite.
        """
        told = {name: float(value) for name, value in (logs or {}).items()}
        self._steps += 1
        self._course.elapsed_s = self._report.elapsed_s
        if told["finite"] < 1:
            raise TrainingError(self._trained.why_not_finite(self._steps, told))
        self._good.end_step()
        self._spread = told["spread"]
        asked = self._report.step(
            self._epoch + 1,
            batch + 1,
            self._n_steps,
            residual=told["step_residual"],
            frames_done=(batch + 1) * self._frames_per_step,
        )
        if asked or self._termination.heard:
            self._report.stopped()
            self._trained.stop_training = True
        elif self._report.late:
            self._trained.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report an epoch, keep its weights, and stop a network that always answers the same."""
        logs = {} if logs is None else logs
        for name in EXTRAS:
            logs.pop(name, None)
        self._report.epoch({name: float(value) for name, value in logs.items()})
        self._trained.check_collapse(self._steps, self._spread)
        self._trained.check_scale(self._steps)
        self._trained.end_epoch()
        self._good.end_epoch(self._weights(), len(self._report.history))
        self._report.keep()

    def restore_last_good(self) -> None:
        """Put the last good weights back, and forget the epochs after them."""
        if self._good.weights:
            for variable, value in zip(self._network.parameters, self._good.weights, strict=True):
                variable.assign(value)
        del self._report.history[self._good.n_epochs :]

    def _weights(self) -> list[np.ndarray]:
        return [np.array(variable.numpy()) for variable in self._network.parameters]
