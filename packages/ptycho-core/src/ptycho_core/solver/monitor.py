"""Progress of a run: the protocol by which the descent reports it, and the monitor that passes it on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from ptycho_core.ranks import ALONE, Ranks
from ptycho_core.result.callbacks import Callback, CallbackList, EpochReport, RunStart, StepReport
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver.batches import Batch
from ptycho_core.solver.schedule import LevelSchedule
from ptycho_core.solver.state import Solution
from ptycho_core.solver.tiles import Share

__all__ = ["EpochRecord", "Monitor", "Progress", "RunRecord", "Silent"]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch as it went; `residual` is the relative amplitude misfit seen while predicting."""

    schedule: LevelSchedule
    epoch: int
    n_epochs: int
    residual: float
    stepped_back: bool


@runtime_checkable
class Progress(Protocol):
    """What the search of a start probe and the descent report, and what they ask."""

    def should_stop(self) -> bool:
        """Return whether to stop after this batch, keeping the present state."""
        ...

    def epochs_allowed(self, schedule: LevelSchedule, epochs_done: int) -> int:
        """Return how many epochs of a level there is time for."""
        ...

    def level_begins(self, schedule: LevelSchedule) -> None:
        """Note that a level has its data and begins."""
        ...

    def level_ends(self, schedule: LevelSchedule) -> None:
        """Note that a level is done."""
        ...

    def after_step(self, schedule: LevelSchedule, epoch: int, step: int, residual: float) -> None:
        """Note that so many batches of an epoch are done."""
        ...

    def after_epoch(self, record: EpochRecord) -> None:
        """Note that an epoch is done."""
        ...

    def offer_state(self, present: Callable[[], Solution]) -> None:
        """Offer the state between two epochs; it is made only if it is asked for."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Makes a judged result of a solution."""

    def __call__(self, solution: Solution, share: Share, /) -> Reconstruction:
        """Return the result, with what each of several ranks gets of the object."""
        ...


@dataclass(frozen=True)
class RunRecord:
    """What has been told so far, as a result keeps it."""

    history: tuple[dict[str, Any], ...]
    events: tuple[RunEvent, ...]
    timings: dict[str, float]


class Silent:
    """Progress of work that reports nothing, is never stopped and has no time budget."""

    def should_stop(self) -> bool:
        return False

    def epochs_allowed(self, schedule: LevelSchedule, epochs_done: int) -> int:
        return schedule.epochs

    def level_begins(self, schedule: LevelSchedule) -> None:
        pass

    def level_ends(self, schedule: LevelSchedule) -> None:
        pass

    def after_step(self, schedule: LevelSchedule, epoch: int, step: int, residual: float) -> None:
        pass

    def after_epoch(self, record: EpochRecord) -> None:
        pass

    def offer_state(self, present: Callable[[], Solution]) -> None:
        pass


class Monitor:
    """The progress of one run: told to the callbacks, kept as a record, and held within the time budget."""

    def __init__(
        self,
        callbacks: Sequence[Callback],
        *,
        n_frames: int,
        max_time_s: float | None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Begin the clock.

        Args:
            ranks: that work on the same scan. They stop together, and ask at the same places.
        """
        self._ranks = ranks
        self.history: list[dict[str, Any]] = []
        self.events: list[RunEvent] = []
        self.timings: dict[str, float] = {}
        self.interrupted = False
        self._callbacks = CallbackList(callbacks)
        self._judge: Judge | None = None
        self._n_frames = n_frames
        self._max_time_s = max_time_s
        self._started = time.perf_counter()
        self._levels: Sequence[LevelSchedule] = ()
        self._batches: Sequence[Batch] = ()
        self._of_all = 1.0  # frames of all ranks for one of ours
        self._seconds_per_epoch: dict[int, float] = {}
        self._epoch_started = self._started
        self._lap_started = self._started

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._started

    def record(self) -> RunRecord:
        """Return a copy of what has been told so far."""
        return RunRecord(tuple(self.history), tuple(self.events), dict(self.timings))

    def lap(self, name: str) -> None:
        """Book the time since the last lap under a name."""
        now = time.perf_counter()
        self.timings[name] = self.timings.get(name, 0.0) + now - self._lap_started
        self._lap_started = now

    def tell(self, *events: RunEvent) -> None:
        """Record events and pass them on."""
        for event in events:
            self.events.append(event)
            self._callbacks.on_event(event)

    def announce(
        self,
        scan: Scan,
        levels: Sequence[LevelSchedule],
        batches: Sequence[Batch],
        *,
        judge: Judge,
    ) -> None:
        """Tell what is about to run.

        Args:
            judge: makes a result of a state on the way, for callbacks that keep it as an interrupted one.
                Several ranks call it together.
        """
        self._levels, self._batches, self._judge = levels, batches, judge
        self._of_all = scan.n_frames / batches[-1].frames.stop
        plans = tuple(level.plan(len(batches)) for level in levels)
        self._callbacks.on_start(
            RunStart(
                method="solver",
                scan_name=scan.name,
                n_frames=scan.n_frames,
                frame_px=scan.frame_px,
                levels=plans,
                n_steps=sum(plan.epochs * plan.batches for plan in plans),
            )
        )

    def level_begins(self, schedule: LevelSchedule) -> None:
        """Book the time that its data took, and start the clock of its first epoch."""
        self.lap(f"read_{schedule.size_px}")
        self._epoch_started = time.perf_counter()

    def level_ends(self, schedule: LevelSchedule) -> None:
        """Book the time of a level."""
        self.lap(f"level_{schedule.size_px}")

    def offer_state(self, present: Callable[[], Solution]) -> None:
        """Let the callbacks keep the present state; the time they take is not the epoch's."""
        judge, ranks = self._judge, self._ranks
        if judge is not None:
            if ranks.count > 1 and ranks.any(ranks.is_first and self._callbacks.wants_tile()):
                self._callbacks.on_tile(replace(judge(present(), "own"), interrupted=True))
            self._offer(lambda: replace(judge(present(), "whole"), interrupted=True))
        self._epoch_started = time.perf_counter()

    def _offer(self, make: Callable[[], Reconstruction]) -> None:
        """Ask the callbacks of rank 0; where one wants a result, all ranks make it together."""
        ranks = self._ranks
        if ranks.count == 1:
            self._callbacks.on_state(make)
            return
        if not ranks.is_first:
            while ranks.any(False):
                make()
            return

        def together() -> Reconstruction:
            ranks.any(True)
            return make()

        self._callbacks.on_state(together)
        ranks.any(False)

    def should_stop(self) -> bool:
        """Return whether a callback wants to stop or the time is over; the answer stays the same then."""
        if self.interrupted:
            return True
        if self._ranks.any(self._callbacks.should_stop()):
            self.interrupted = True
            self.tell(RunEvent("stopped", "Stopped on request; the image reached so far is kept."))
        elif self._max_time_s is not None and self._ranks.any(self.elapsed_s > self._max_time_s):
            self.interrupted = True
            used_up = f"The time budget of {self._max_time_s:g} s is used up; the image reached is kept."
            self.tell(RunEvent("time", used_up))
        return self.interrupted

    def after_step(self, schedule: LevelSchedule, epoch: int, step: int, residual: float) -> None:
        """Report one batch; nothing where a rank has fewer batches than rounds and none in the first."""
        if not step:
            return
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
                frames_done=round(done.stop * self._of_all),
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
            where = {"size_px": size_px, "epoch": record.epoch + 1, "residual": record.residual}
            self.tell(
                RunEvent(
                    "backoff",
                    f"The residual rose at {size_px} px, epoch {record.epoch + 1}: "
                    "went back to the best state and halved the steps.",
                    where,
                )
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
        left = -self._ranks.largest(self.elapsed_s - self._max_time_s * schedule.time_share)
        per_epoch = self._ranks.largest(self._seconds_per_epoch.get(schedule.size_px, 0.0))
        if per_epoch <= 0:
            return schedule.epochs
        return min(schedule.epochs, epochs_done + max(0, int(left / per_epoch)))
