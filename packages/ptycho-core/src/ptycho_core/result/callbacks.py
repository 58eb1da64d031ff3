"""What long work tells its surroundings: progress, events, and the question whether to stop.

One small protocol feeds the progress bar, the metrics file and embedding programs alike. Reports are
plain frozen records; a callback that is not interested in a report inherits a method that does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptycho_core.result.history import RunEvent

if TYPE_CHECKING:
    from ptycho_core.result.reconstruction import Reconstruction

__all__ = [
    "Callback",
    "CallbackList",
    "EpochReport",
    "LevelPlan",
    "RunStart",
    "StepReport",
    "told_of_the_end",
]


@dataclass(frozen=True)
class LevelPlan:
    """One resolution level: side of the detector crop in pixels, epochs, batches in an epoch."""

    size_px: int
    epochs: int
    batches: int


@dataclass(frozen=True)
class RunStart:
    """What is about to run."""

    method: str
    scan_name: str
    n_frames: int
    frame_px: int
    levels: tuple[LevelPlan, ...] = ()
    n_steps: int = 0


@dataclass(frozen=True)
class StepReport:
    """One batch done; `residual` is that of the batch, measured while predicting it."""

    level: int
    size_px: int
    epoch: int
    step: int
    n_steps_in_epoch: int
    residual: float
    frames_done: int


@dataclass(frozen=True)
class EpochReport:
    """One pass over all frames done. Levels and epochs count from 1."""

    level: int
    n_levels: int
    size_px: int
    epoch: int
    n_epochs: int
    residual: float
    frames_per_second: float
    elapsed_s: float
    remaining_s: float


class Callback:
    """Listen to a run; override what is of interest."""

    def on_start(self, start: RunStart) -> None:
        """Hear what is about to run."""

    def on_step(self, step: StepReport) -> None:
        """Hear that one batch is done."""

    def on_epoch(self, epoch: EpochReport) -> None:
        """Hear that one pass over the frames is done."""

    def on_event(self, event: RunEvent) -> None:
        """Hear of a decision, a warning or a change of plan."""

    def on_state(self, make_result: Callable[[], Reconstruction]) -> None:
        """Be offered the state between two epochs; calling `make_result` takes about half an epoch."""

    def wants_tile(self) -> bool:
        """Answer True on the first of several ranks, and each is given its part of the state by `on_tile`."""
        return False

    def on_tile(self, tile: Reconstruction) -> None:
        """Be given this rank's own part of the state, on all ranks at once: no part overlaps another."""

    def should_stop(self) -> bool:
        """Answer True to end the run after the present batch, keeping what was reached."""
        return False

    def on_end(self, *, failed: bool) -> None:
        """Hear that the run is over; what was drawn for it can be closed.

        Args:
            failed: an error ended it, or Ctrl-C did.
        """


class CallbackList(Callback):
    """Pass every report on to several callbacks, in order."""

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self._callbacks = tuple(callbacks)

    def on_start(self, start: RunStart) -> None:
        for callback in self._callbacks:
            callback.on_start(start)

    def on_step(self, step: StepReport) -> None:
        for callback in self._callbacks:
            callback.on_step(step)

    def on_epoch(self, epoch: EpochReport) -> None:
        for callback in self._callbacks:
            callback.on_epoch(epoch)

    def on_event(self, event: RunEvent) -> None:
        for callback in self._callbacks:
            callback.on_event(event)

    def on_state(self, make_result: Callable[[], Reconstruction]) -> None:
        for callback in self._callbacks:
            callback.on_state(make_result)

    def wants_tile(self) -> bool:
        return any(callback.wants_tile() for callback in self._callbacks)

    def on_tile(self, tile: Reconstruction) -> None:
        for callback in self._callbacks:
            callback.on_tile(tile)

    def should_stop(self) -> bool:
        # Every callback is asked, so that one which only counts the questions misses none.
        answers = [callback.should_stop() for callback in self._callbacks]
        return any(answers)

    def on_end(self, *, failed: bool) -> None:
        for callback in self._callbacks:
            callback.on_end(failed=failed)


@contextmanager
def told_of_the_end(callbacks: Iterable[Callback]) -> Iterator[None]:
    """Tell callbacks when what runs inside is over, however it ended."""
    heard = CallbackList(callbacks)
    try:
        yield
    except BaseException:
        heard.on_end(failed=True)
        raise
    heard.on_end(failed=False)
