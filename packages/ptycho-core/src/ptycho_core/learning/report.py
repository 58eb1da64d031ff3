"""What a training tells while it runs, what it keeps of every epoch, and which metric ranks checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ptycho_config.errors import ConfigError
from ptycho_config.execution import NetworkExecution
from ptycho_core.learning.advice import flag_prefix
from ptycho_core.result.callbacks import Callback, CallbackList, EpochReport, LevelPlan, RunStart, StepReport
from ptycho_core.result.history import RunEvent
from ptycho_core.scan import Scan

__all__ = ["TrainingReport", "metric_to_watch"]

_SECONDS_BETWEEN_WRITES = 60.0


class TrainingReport:
    """Passes a training on to callbacks, keeps its history, and knows when it shall end.

    Attributes:
        history: one row for each epoch of this run.
        interrupted: the run was asked to end.
        lead: whether this process speaks and writes; where several train together only the first one does.
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
        self.lead = True
        self._asked = CallbackList(callbacks)
        self._scan, self._n_epochs, self._max_time_s = scan, n_epochs, max_time_s
        self._write = keep
        self._frames_done = 0
        self._written = self._began = self._epoch_began = time.monotonic()

    @property
    def _heard(self) -> CallbackList:
        return self._asked if self.lead else CallbackList()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self._began

    @property
    def late(self) -> bool:
        """Whether the time budget is spent."""
        return self._max_time_s is not None and self.elapsed_s > self._max_time_s

    def start(self, n_batches: int) -> None:
        """Announce the run and start its clock."""
        self._began = self._epoch_began = time.monotonic()
        plan = LevelPlan(self._scan.frame_px, self._n_epochs or 0, n_batches)
        self._heard.on_start(
            RunStart(
                method="network",
                scan_name=self._scan.name,
                n_frames=self._scan.n_frames,
                frame_px=self._scan.frame_px,
                levels=(plan,),
                n_steps=(self._n_epochs or 0) * n_batches,
            )
        )

    def step(self, epoch: int, step: int, n_steps: int, *, residual: float, frames_done: int) -> bool:
        """Report a step; return whether the run was asked to end.

        Args:
            epoch, step: count from 1.
        """
        self._frames_done = min(self._scan.n_frames, frames_done)
        self._heard.on_step(
            StepReport(
                level=1,
                size_px=self._scan.frame_px,
                epoch=epoch,
                step=step,
                n_steps_in_epoch=n_steps,
                residual=residual,
                frames_done=self._frames_done,
            )
        )
        return self._asked.should_stop()

    def stopped(self) -> None:
        """Note that the run was asked to end."""
        self.interrupted = True
        self._heard.on_event(RunEvent("stopped", "Stopped on request; the weights reached so far are kept."))

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Keep and report an epoch.

        Args:
            metrics: its means; `train_residual`, `train_loss`, `train_nll`, and `val_loss` with a test scan.
        """
        now = time.monotonic()
        seconds, self._epoch_began = now - self._epoch_began, now
        epoch, elapsed = len(self.history) + 1, now - self._began
        row = {
            "level": 1,
            "size_px": self._scan.frame_px,
            "epoch": epoch,
            "residual": metrics.get("train_residual", float("nan")),
            "seconds": round(elapsed, 4),
            "stepped_back": False,
            **{key: metrics[key] for key in ("train_loss", "train_nll", "val_loss") if key in metrics},
        }
        self.history.append(row)
        left = self._remaining(epoch, seconds, elapsed)
        self._heard.on_epoch(
            EpochReport(
                level=1,
                n_levels=1,
                size_px=self._scan.frame_px,
                epoch=epoch,
                n_epochs=self._n_epochs or max(epoch, round(epoch + left / max(seconds, 1e-6))),
                residual=row["residual"],
                frames_per_second=self._frames_done / seconds if seconds > 0 else 0.0,
                elapsed_s=elapsed,
                remaining_s=left,
            )
        )

    def keep(self) -> None:
        """Write the network where that was last done a while ago; after an epoch whose weights are good."""
        now = time.monotonic()
        if self.lead and now - self._written > _SECONDS_BETWEEN_WRITES:
            self._written = now
            self._write(self.history)

    def _remaining(self, epoch: int, seconds: float, elapsed: float) -> float:
        by_epochs = None if self._n_epochs is None else (self._n_epochs - epoch) * seconds
        by_time = None if self._max_time_s is None else max(0.0, self._max_time_s - elapsed)
        return min(value for value in (by_epochs, by_time) if value is not None)


_TRAIN = ("train_loss", "train_residual", "train_nll")
_TEST = ("val_loss", "val_residual")


def metric_to_watch(execution: NetworkExecution, *, tested: bool) -> str:
    """Return the metric that ranks the checkpoints: without a test scan a test metric's twin in training.

    Raises:
        ConfigError: there is no such metric; lists those there are.
    """
    name = execution.checkpoint_monitor_metric
    if name not in (*_TRAIN, *_TEST):
        raise ConfigError(
            f"`{flag_prefix(execution)}checkpoint-monitor-metric {name}` is not one of "
            f"{', '.join((*_TEST, *_TRAIN))}."
        )
    return name if tested else name.replace("val_", "train_")
