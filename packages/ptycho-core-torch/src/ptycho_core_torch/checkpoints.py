"""Lightning's checkpoints of a run: the best weights by a metric, and the last ones.

They are for tools that read Lightning's files, and hold tensors and plain values only. Nothing here reads one
back: a `.ckpt` is a pickle, and a training goes on from its bundle, which is none (BUNDLE-001).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

import torch
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_core.files import atomic_path, make_directory
from ptycho_core_torch.distributed import any_of, raise_together

__all__ = ["Checkpoints"]

#: Times the last writing took that pass before the next; most of a run of short epochs would be writing.
_WAIT = 40.0


class Checkpoints(ModelCheckpoint):
    """`checkpoints/last.ckpt`, and beside it the best so many by a metric.

    Written after an epoch, when enough time has passed for it not to slow the run down, and at the end.

    Attributes:
        files: what writes them, for the Trainer.
    """

    def __init__(self, directory: Path, execution: PyTorchExecutionConfig, monitor: str) -> None:
        super().__init__(
            dirpath=directory / "checkpoints",
            monitor=monitor,
            mode=execution.checkpoint_mode,
            save_top_k=execution.checkpoint_save_top_k,
            save_weights_only=True,
            save_on_train_epoch_end=True,
        )
        self.files = _WholeFiles()
        self._not_before = 0.0
        # Not `save_last`, which leaves out epochs that rank too low.
        self._last = directory / "checkpoints" / "last.ckpt"

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write, unless the last writing was just now and the run goes on."""
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        (early,) = any_of(trainer, time.monotonic() < self._not_before)
        if early and not last:
            return
        began = time.monotonic()
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)
        trainer.save_checkpoint(self._last, weights_only=True)
        now = time.monotonic()
        self._not_before = now + _WAIT * (now - began)
        raise_together(trainer, self.files.failure)


class _WholeFiles(TorchCheckpointIO):
    """Writes checkpoints whole or not at all; a failure is kept for when all processes can hear of it."""

    failure: Exception | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            make_directory(Path(path).parent)
            with atomic_path(path) as temporary:
                torch.save(checkpoint, temporary)
        except Exception as error:
            self.failure = error
