"""Clock, progress and the decision to stop, for one run of the solver."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ptycho_core.result.callbacks import Callback, CallbackList, EpochReport, RunStart, StepReport
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.solver.batches import Batch
from ptycho_core.solver.descent import EpochRecord
from ptycho_core.solver.schedule import LevelSchedule

__all__ = ["Monitor"]


class Monitor:
    """Pass progress on to the callbacks, keep the history, and watch the time budget."""

    def __init__(self, callbacks: Sequence[Callback], *, n_frames: int, max_time_s: float | None) -> None:
        self.history: list[dict[str, Any]] = []
        self.events: list[RunEvent] = []
        self.timings: dict[str, float] = {}
        self.interrupted = False
        self._callbacks = CallbackList(callbacks)
        self._n_frames = n_frames
        self._max_time_s = max_time_s
        self._started = time.perf_counter()
        self._levels: Sequence[LevelSchedule] = ()
        self._batches: Sequence[Batch] = ()
        self._seconds_per_epoch: dict[int, float] = {}
        self._epoch_started = self._started
        self._lap_started = self._started

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._started

    def lap(self, name: str) -> None:
        """Book the time since the last lap under a name."""
        now = time.perf_counter()
        self.timings[name] = self.timings.get(name, 0.0) + now - self._lap_started
        self._lap_started = now

    def start(
        self, scan_name: str, frame_px: int, levels: Sequence[LevelSchedule], batches: Sequence[Batch]
    ) -> None:
        """Announce the plan."""
        self._levels, self._batches = levels, batches
        plans = tuple(level.plan(len(batches)) for level in levels)
        self._callbacks.on_start(
            RunStart(
                method="solver",
                scan_name=scan_name,
                n_frames=self._n_frames,
                frame_px=frame_px,
                levels=plans,
                n_steps=sum(plan.epochs * plan.batches for plan in plans),
            )
        )

    def event(self, kind: str, message: str, **data: Any) -> None:
        """Record an event and pass it on."""
        self.events.append(RunEvent(kind, message, data))
        self._callbacks.on_event(self.events[-1])

    def begin_epochs(self) -> None:
        """Start the clock of the first epoch of a level."""
        self._epoch_started = time.perf_counter()

    def offer_state(self, make_result: Callable[[], Reconstruction]) -> None:
        """Let the callbacks keep the present state; the time they take is not the epoch's."""
        self._callbacks.on_state(make_result)
        self._epoch_started = time.perf_counter()

    def ask_to_stop(self) -> bool:
        """Return whether a callback wants to stop or the time is over; the answer stays the same then."""
        if self.interrupted:
            return True
        if self._callbacks.should_stop():
            self.interrupted = True
            self.event("stopped", "Stopped on request; the image reached so far is kept.")
        elif self._max_time_s is not None and self.elapsed_s > self._max_time_s:
            self.interrupted = True
            self.event(
                "time", f"The time budget of {self._max_time_s:g} s is used up; the image reached is kept."
            )
        return self.interrupted

    def after_step(self, schedule: LevelSchedule, epoch: int, step: int, residual: float) -> None:
        """Report one batch."""
        level = self._levels.index(schedule) + 1
        done = self._batches[step - 1].frames
        self._callbacks.on_step(
            StepReport(
                level=level,
                size_px=schedule.size_px,
                epoch=epoch + 1,
                step=step,
                n_steps_in_epoch=len(self._batches),
                residual=residual * len(self._batches) / step,
                frames_done=done.stop,
            )
        )

    def after_epoch(self, record: EpochRecord) -> None:
        """Report one epoch, and a step back if there was one."""
        now = time.perf_counter()
        seconds, self._epoch_started = now - self._epoch_started, now
        size_px = record.schedule.size_px
        self._seconds_per_epoch[size_px] = seconds
        level = self._levels.index(record.schedule) + 1
        self.history.append(
            {
                "level": level,
                "size_px": size_px,
                "epoch": record.epoch + 1,
                "residual": record.residual,
                "seconds": round(self.elapsed_s, 4),
                "stepped_back": record.stepped_back,
            }
        )
        if record.stepped_back:
            self.event(
                "backoff",
                f"The residual rose at {size_px} px, epoch {record.epoch + 1}: "
                "went back to the best state and halved the steps.",
                size_px=size_px,
                epoch=record.epoch + 1,
                residual=record.residual,
            )
        self._callbacks.on_epoch(
            EpochReport(
                level=level,
                n_levels=len(self._levels),
                size_px=size_px,
                epoch=record.epoch + 1,
                n_epochs=record.n_epochs,
                residual=record.residual,
                frames_per_second=self._n_frames / seconds if seconds > 0 else 0.0,
                elapsed_s=self.elapsed_s,
                remaining_s=self._remaining(level, record, seconds),
            )
        )

    def _remaining(self, level: int, record: EpochRecord, seconds: float) -> float:
        """Estimate from the last epoch; an epoch's time grows with the number of pixels."""
        here = seconds * (record.n_epochs - record.epoch - 1)
        later = sum(
            plan.epochs * seconds * (plan.size_px / record.schedule.size_px) ** 2
            for plan in self._levels[level:]
        )
        return here + later

    def epochs_allowed(self, schedule: LevelSchedule, epochs_done: int) -> int:
        """Return how many epochs of a level there is time for, from the speed of those done."""
        if self._max_time_s is None:
            return schedule.epochs
        left = self._max_time_s * schedule.time_share - self.elapsed_s
        per_epoch = self._seconds_per_epoch.get(schedule.size_px, 0.0)
        if per_epoch <= 0:
            return schedule.epochs
        return min(schedule.epochs, epochs_done + max(0, int(left / per_epoch)))
