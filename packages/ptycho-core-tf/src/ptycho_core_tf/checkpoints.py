"""Checkpoints of a run, each a bundle of its own: the best by a metric, and the last one.

`ptycho infer` opens them like any other bundle, and a training can go on from one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_core_tf.framework import keras

__all__ = ["Checkpoints"]

#: Times the last writing took that pass before the next; most of a run of short epochs would be writing.
_WAIT = 40.0


class Checkpoints(keras.callbacks.Callback):
    """`checkpoints/last.zip`, and beside it the best so many by a metric.

    Written after an epoch, when enough time has passed for it not to slow the run down, and at the end.
    """

    def __init__(
        self,
        directory: Path,
        execution: TensorFlowExecutionConfig,
        monitor: str,
        *,
        save: Callable[[Path], Any],
    ) -> None:
        """Prepare.

        Args:
            save: writes the network as it is now to a path.
        """
        super().__init__()
        self._directory, self._monitor, self._save = directory / "checkpoints", monitor, save
        self._most = execution.checkpoint_save_top_k
        self._sign = 1.0 if execution.checkpoint_mode == "min" else -1.0
        self._best: list[tuple[float, Path]] = []
        self._not_before = 0.0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write, unless the last writing was just now and the run goes on."""
        model, n_epochs = cast("keras.Model", self.model), cast("dict[str, Any]", self.params)["epochs"]
        last = model.stop_training or epoch + 1 == n_epochs
        if time.monotonic() < self._not_before and not last:
            return
        began = time.monotonic()
        if logs and self._monitor in logs and self._most:
            self._rank(epoch, self._sign * float(logs[self._monitor]))
        self._save(self._directory / "last.zip")
        now = time.monotonic()
        self._not_before = now + _WAIT * (now - began)

    def _rank(self, epoch: int, value: float) -> None:
        """Keep this epoch where it is among the best so many, and drop the one that is not any more."""
        full = self._most > 0 and len(self._best) == self._most
        if full and value >= self._best[-1][0]:
            return
        if full:
            self._best.pop()[1].unlink(missing_ok=True)
        path = self._directory / f"epoch={epoch}.zip"
        self._save(path)
        self._best = sorted([*self._best, (value, path)])
