"""Between Lightning and our callbacks: progress, the question whether to stop, and the last good weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L

import torch
from ptycho_core.callbacks import (
    Callback,
    CallbackList,
    EpochReport,
    LevelPlan,
    RunEvent,
    RunStart,
    StepReport,
)
from ptycho_core.scan import Scan
from ptycho_core_torch.distributed import any_of, raise_together
from ptycho_core_torch.termination import Termination
from torch import nn

__all__ = ["Reporter"]

_SECONDS_BETWEEN_WRITES = 60.0


class Reporter(L.Callback):
    """Passes a training run on to callbacks, keeps its history, and ends it when asked or when time is up.

    Where several processes train together, only the first one speaks and writes; each is asked whether to
    stop, and all stop after the same step when one wants to or fails.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        *,
        scan: Scan,
        n_epochs: int | None,
        max_time_s: float | None,
        keep: Callable[[Sequence[Mapping[str, Any]]], None] = lambda history: None,
    ) -> None:
        """Prepare.

        Args:
            keep: writes the network with this history; called about once a minute, after an epoch.
        """
        self.history: list[dict[str, Any]] = []
        self.interrupted = False
        self._asked, self._callbacks = CallbackList(callbacks), CallbackList(callbacks)
        self._scan, self._n_epochs = scan, n_epochs
        self._max_time_s = max_time_s
        self._write = keep
        self._written = time.monotonic()
        self._good: dict[str, torch.Tensor] = {}
        self._began = self._epoch_began = time.monotonic()
        self._failure: Exception | None = None
        self._termination = Termination()

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Fall silent in all processes but the first."""
        if not trainer.is_global_zero:
            self._callbacks, self._write = CallbackList(), lambda history: None

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Announce the run."""
        self._termination.listen()
        self._began = self._epoch_began = time.monotonic()
        self._keep(pl_module.network)
        n_batches = int(trainer.num_training_batches)
        plan = LevelPlan(self._scan.frame_px, self._n_epochs or 0, n_batches)
        with self._held(trainer):
            self._callbacks.on_start(
                RunStart(
                    method="network",
                    scan_name=self._scan.name,
                    n_frames=self._scan.n_frames,
                    frame_px=self._scan.frame_px,
                    levels=(plan,),
                    n_steps=(self._n_epochs or 0) * n_batches,
                )
            )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report a step; end the run when somebody wants it to end."""
        done = (batch_idx + 1) * len(batch.counts) * trainer.world_size
        asked = False
        with self._held(trainer):
            self._callbacks.on_step(
                StepReport(
                    level=1,
                    size_px=self._scan.frame_px,
                    epoch=trainer.current_epoch + 1,
                    step=batch_idx + 1,
                    n_steps_in_epoch=int(trainer.num_training_batches),
                    residual=float(pl_module.last_residual),
                    frames_done=min(self._scan.n_frames, done),
                )
            )
            asked = self._asked.should_stop() or self._termination.heard
        late = self._max_time_s is not None and time.monotonic() - self._began > self._max_time_s
        asked, late, failed = any_of(trainer, asked, late, self._failure is not None)
        if failed:
            raise_together(trainer, self._failure)
        if asked:
            self.interrupted = True
            trainer.should_stop = True
            self._callbacks.on_event(
                RunEvent("stopped", "Stopped on request; the weights reached so far are kept.")
            )
        elif late:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Report an epoch, keep its weights, and stop a network that always answers the same."""
        now = time.monotonic()
        seconds, self._epoch_began = now - self._epoch_began, now
        logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
        epoch = trainer.current_epoch + 1
        self.history.append(
            {
                "level": 1,
                "size_px": self._scan.frame_px,
                "epoch": epoch,
                "residual": logged.get("train_residual", float("nan")),
                "seconds": round(now - self._began, 4),
                "stepped_back": False,
                **{key: logged[key] for key in ("train_loss", "train_nll", "val_loss") if key in logged},
            }
        )
        left = self._remaining(epoch, seconds, now - self._began)
        with self._held(trainer):
            self._callbacks.on_epoch(
                EpochReport(
                    level=1,
                    n_levels=1,
                    size_px=self._scan.frame_px,
                    epoch=epoch,
                    n_epochs=self._n_epochs or max(epoch, round(epoch + left / max(seconds, 1e-6))),
                    residual=self.history[-1]["residual"],
                    frames_per_second=self._scan.n_frames / seconds if seconds > 0 else 0.0,
                    elapsed_s=now - self._began,
                    remaining_s=left,
                )
            )
        pl_module.check_collapse()
        self._keep(pl_module.network)
        if now - self._written > _SECONDS_BETWEEN_WRITES:
            self._written = now
            with self._held(trainer):
                self._write(self.history)
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
        """Put the weights of the last finite epoch back."""
        network.load_state_dict(self._good)

    def _keep(self, network: nn.Module) -> None:
        self._good = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}

    def _remaining(self, epoch: int, seconds: float, elapsed: float) -> float:
        by_epochs = None if self._n_epochs is None else (self._n_epochs - epoch) * seconds
        by_time = None if self._max_time_s is None else max(0.0, self._max_time_s - elapsed)
        return min(value for value in (by_epochs, by_time) if value is not None)
