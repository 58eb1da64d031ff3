"""Between Lightning and a training's report: progress, the end of the run, and the last good weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L

import torch
from ptycho_core.learning.ending import LastGood, Termination
from ptycho_core.learning.report import TrainingReport
from ptycho_core_torch.distributed import any_of, raise_together
from torch import nn

__all__ = ["Reporter"]


class Reporter(L.Callback):
    """Feeds the report of a training, and ends the training when asked or when time is up.

    Where several processes train together, only the first one speaks and writes; each is asked whether to
    stop, and all stop after the same step when one wants to or fails.
    """

    def __init__(self, report: TrainingReport) -> None:
        self._report = report
        self._good: LastGood[dict[str, torch.Tensor]] = LastGood({})
        self._failure: Exception | None = None
        self._termination = Termination()

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Fall silent in all processes but the first."""
        self._report.lead = trainer.is_global_zero

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Announce the run."""
        # Lightning's own handler, which this one takes the place of, talks to the other processes from
        # wherever the signal finds it; in the middle of a sum over all of them that ends in waiting for
        # ever. Lightning puts the former handler back when its run is over.
        self._termination.listen()
        self._good = LastGood(_weights(pl_module.network))
        with self._held(trainer):
            self._report.start(int(trainer.num_training_batches))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report a step; end the run when it is asked to."""
        self._good.end_step()
        asked = False
        with self._held(trainer):
            asked = self._report.step(
                trainer.current_epoch + 1,
                batch_idx + 1,
                int(trainer.num_training_batches),
                residual=float(pl_module.last_residual),
                frames_done=(batch_idx + 1) * len(batch.counts) * trainer.world_size,
            )
        asked, late, failed = any_of(
            trainer, asked or self._termination.heard, self._report.late, self._failure is not None
        )
        if failed:
            raise_together(trainer, self._failure)
        if asked:
            self._report.stopped()
        if asked or late:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Report an epoch, keep its weights, and stop a network that always answers the same."""
        with self._held(trainer):
            self._report.epoch({key: float(value) for key, value in trainer.callback_metrics.items()})
        pl_module.check_collapse()
        pl_module.check_scale()
        pl_module.end_epoch()
        self._good.end_epoch(_weights(pl_module.network), len(self._report.history))
        with self._held(trainer):
            self._report.keep()
        raise_together(trainer, self._failure)

    @contextmanager
    def _held(self, trainer: L.Trainer) -> Iterator[None]:
        """Hold a failure until the other processes can end with this one; alone, let it out at once."""
        try:
            yield
        except Exception as error:
            if trainer.world_size == 1:
                raise
            self._failure = error

    def restore_last_good(self, network: nn.Module) -> None:
        """Put the last good weights back, and forget the epochs after them."""
        if self._good.weights:
            network.load_state_dict(self._good.weights)
        del self._report.history[self._good.n_epochs :]


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
