"""The loop: take what came, improve the image, draw it, and finish when no more frames come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ptycho_config.errors import OutputError
from ptycho_core.callbacks import Callback, CallbackList, RunEvent
from ptycho_core.live.arrival import Source
from ptycho_core.live.feed import Feed
from ptycho_core.live.intake import Intake
from ptycho_core.live.picture import draw_live, live_picture
from ptycho_core.reconstruction import Reconstruction
from ptycho_core.scan import Scan

__all__ = ["LiveOptions", "LiveRecord", "LiveReport", "Worker", "watch"]

#: Of the time between two pictures, so much is worked before anybody looks for new frames, at most so long.
_SLICE, _LONGEST_SLICE_S = 0.25, 0.15
_IDLE_S = 0.01
#: Frames per second are counted over so many seconds.
_COUNTED_S = 1.0
_NAMED = 10


@dataclass(frozen=True)
class LiveOptions:
    """How a scan is watched.

    Attributes:
        refresh_s: seconds between two pictures.
        timeout_s: without a new frame for so long, the scan is taken for complete.
        expected: number of frames after which it is complete.
    """

    refresh_s: float = 0.5
    timeout_s: float = 10.0
    expected: int | None = None


@dataclass(frozen=True)
class LiveReport:
    """How things stand when a picture has been drawn.

    Attributes:
        frames: that came and can be used; `expected`: that there will be, None where nobody knows.
        waiting: that came and are in no picture yet.
        frames_per_second: that came lately.
        latency_s: from the arrival of the frames that are new in this picture to the picture, the longest.
        residual: amplitude misfit of the newest frames before they were learned, at the present level.
        size_px: side of the part of the detector that is looked at.
        left_out, repeated: frames that cannot be used so far, and those that came again.
    """

    frames: int
    expected: int | None
    waiting: int
    frames_per_second: float
    latency_s: float
    residual: float
    size_px: int
    left_out: int
    repeated: int


@dataclass
class LiveRecord:
    """What happened, for `run.json`.

    Attributes:
        latencies_s: of each frame, from its arrival to the first picture with its trace.
        sustained_frames_per_second: that left their trace between the first and the last new picture.
        finish_s: seconds that the final reconstruction took.
    """

    frames: int = 0
    repeated: int = 0
    left_out: dict[int, str] = field(default_factory=dict)
    pictures: int = 0
    ended: str = ""
    sustained_frames_per_second: float = float("nan")
    finish_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the record as data for `run.json`."""
        shown = (
            "frames",
            "repeated",
            "left_out",
            "pictures",
            "ended",
            "sustained_frames_per_second",
            "finish_s",
        )
        latencies = self.latencies_s or [float("nan")]
        median, high = np.percentile(latencies, (50, 95))
        return {key: getattr(self, key) for key in shown} | {
            "latency_s": {"median": float(median), "95 %": float(high), "max": float(max(latencies))}
        }


@runtime_checkable
class Worker(Protocol):
    """What makes an image of frames that come: the solver, or a network.

    Attributes:
        method: `solver` or `network`. traced: for each frame, whether it has left a trace in the image.
        news: sentences for the log, taken away by whoever says them.
    """

    method: str
    traced: np.ndarray
    news: list[str]

    def limits(self) -> AbstractContextManager[Any]: ...
    @property
    def size_px(self) -> int: ...
    @property
    def rested(self) -> bool: ...
    def ready(self, intake: Intake, *, waited_s: float, moment_s: float, last: bool) -> bool: ...
    def work(
        self, intake: Intake, *, known_px: np.ndarray | None, seconds: float, frames_per_second: float
    ) -> float: ...
    def image(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
    def kept(self, scan: Scan) -> Reconstruction: ...
    def finished(self, scan: Scan, callbacks: Sequence[Callback]) -> Reconstruction: ...


def watch(
    source: Source,
    worker: Worker,
    *,
    options: LiveOptions | None = None,
    door: Mapping[str, Any] | None = None,  # Any: the keywords of `open_scan`
    picture: Path | None = None,
    on_report: Callable[[LiveReport], None] = lambda report: None,
    on_complete: Callable[[Reconstruction], None] | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[Reconstruction, LiveRecord]:
    """Reconstruct frames while they come, and the whole scan when no more come.

    Args:
        picture: the file that holds the live picture.
        on_report: told how things stand after each picture.
        on_complete: given the live image as a result before the scan is finished.
        callbacks: told of events and of the finish; asked whether to stop.
    Returns:
        The result, and what happened. A stop on request keeps the live image, marked as interrupted.
    Raises:
        DataError: nothing came that could be read.
    """
    return _Watch(source, worker, options or LiveOptions(), door, picture, on_report, callbacks).run(
        on_complete
    )


class _Watch:
    def __init__(
        self,
        source: Source,
        worker: Worker,
        options: LiveOptions,
        door: Mapping[str, Any] | None,
        picture: Path | None,
        on_report: Callable[[LiveReport], None],
        callbacks: Sequence[Callback],
    ) -> None:
        self._source, self._worker, self._options = source, worker, options
        self._picture, self._on_report = picture, on_report
        self._given, self._callbacks = callbacks, CallbackList(callbacks)
        self._intake = Intake(source, door)
        self._record, self._events = LiveRecord(), list[RunEvent]()
        self._history: list[dict[str, Any]] = []
        self._pictured = np.zeros(0, bool)
        self._drawn_s, self._began_s = -np.inf, time.perf_counter()
        self._arrivals: deque[tuple[float, int]] = deque()
        self._residual = float("nan")
        self._traced: list[
            tuple[float, int]
        ] = []  # when pictures were drawn, and how many frames were in them
        self._picture_failed = False

    def run(self, on_complete: Callable[[Reconstruction], None] | None) -> tuple[Reconstruction, LiveRecord]:
        options, interrupted = self._options, False
        feed = Feed(self._source, expected=options.expected, timeout_s=options.timeout_s)
        with self._worker.limits(), feed:
            while True:
                ended = bool(feed.ended)  # asked before the frames are taken: none can come in between
                new = self._take(feed, last=ended)
                worked = self._work(last=ended)
                self._draw_if_due(feed, new=new, last=ended)
                if self._callbacks.should_stop():
                    interrupted = True
                    break
                if ended and not feed.waiting and (self._worker.traced.all() or not worked):
                    break
                if not worked:
                    time.sleep(_IDLE_S)
        self._record.ended = "stopped on request" if interrupted else feed.ended
        return self._finish(interrupted, on_complete)

    def _take(self, feed: Feed, *, last: bool) -> int:
        kept = self._intake.take(feed.take(), last=last)
        now = time.perf_counter()
        if kept:
            self._arrivals.append((now, kept))
        while self._arrivals and self._arrivals[0][0] < now - _COUNTED_S:
            self._arrivals.popleft()
        return kept

    @property
    def _frames_per_second(self) -> float:
        if not self._arrivals:
            return 0.0
        since = time.perf_counter() - float(self._intake.arrived_s.min())
        return sum(count for _, count in self._arrivals) / min(_COUNTED_S, max(since, 0.1))

    def _work(self, *, last: bool) -> bool:
        """Improve the image for a moment; return whether there was anything to do."""
        intake, worker = self._intake, self._worker
        if not len(intake):
            return False
        waited_s = time.perf_counter() - float(intake.arrived_s.min())
        moment_s = self._options.refresh_s
        if not worker.ready(intake, waited_s=waited_s, moment_s=moment_s, last=last):
            return False
        if len(worker.traced) == len(intake) and worker.rested:
            return False
        known = self._source.positions_known()
        fresh = len(worker.traced) < len(intake) or not worker.traced.all()
        residual = worker.work(
            intake,
            known_px=None if known is None or not len(known) else _finite(intake.positions_of(known)),
            seconds=min(_SLICE * self._options.refresh_s, _LONGEST_SLICE_S),
            frames_per_second=self._frames_per_second,
        )
        if fresh and np.isfinite(residual):
            self._residual = residual
        for message in worker.news:
            self._event("live", message)
        worker.news.clear()
        return True

    def _draw_if_due(self, feed: Feed, *, new: int, last: bool) -> None:
        traced = self._worker.traced
        if not len(traced):
            return
        if len(self._pictured) < len(traced):
            self._pictured = np.concatenate(
                [self._pictured, np.zeros(len(traced) - len(self._pictured), bool)]
            )
        news = traced & ~self._pictured[: len(traced)]
        since = time.perf_counter() - self._drawn_s
        complete = last and bool(traced.all()) and len(traced) == len(self._intake)
        if since < self._options.refresh_s and not (complete and news.any()):
            return
        if not news.any() and self._worker.rested:
            return
        self._draw()
        drawn = self._drawn_s = time.perf_counter()
        self._record.pictures += 1
        latencies = drawn - self._intake.arrived_s[: len(traced)][news]
        self._record.latencies_s += latencies.tolist()
        self._pictured[: len(traced)] |= news
        if news.any():
            self._traced.append((drawn, int(self._pictured.sum())))
        self._report(feed, float(latencies.max(initial=0.0)))

    def _draw(self) -> None:
        if self._picture is None:
            return
        obj, coverage, _ = self._worker.image()
        try:
            draw_live(self._picture, live_picture(obj, coverage))
            self._picture_failed = False
        except OutputError as error:
            if not self._picture_failed:  # the scan goes on, and so does the work
                self._event("live_picture", str(error))
            self._picture_failed = True

    def _report(self, feed: Feed, latency_s: float) -> None:
        intake, declared = self._intake, self._source.expected
        report = LiveReport(
            frames=len(intake),
            expected=self._options.expected or declared,
            waiting=feed.waiting
            + int((~self._pictured[: len(intake)]).sum())
            + len(intake)
            - len(self._pictured),
            frames_per_second=self._frames_per_second,
            latency_s=latency_s,
            residual=self._residual,
            size_px=self._worker.size_px,
            left_out=len(intake.left_out),
            repeated=intake.repeated,
        )
        self._history.append(
            {
                "level": 0,
                "size_px": report.size_px,
                "epoch": len(self._history) + 1,
                "residual": report.residual,
                "seconds": round(self._drawn_s - self._began_s, 4),
                "stepped_back": False,
            }
        )
        self._on_report(report)

    def _event(self, kind: str, message: str, **data: Any) -> None:
        self._events.append(RunEvent(kind, message, data))
        self._callbacks.on_event(self._events[-1])

    def _finish(
        self, interrupted: bool, on_complete: Callable[[Reconstruction], None] | None
    ) -> tuple[Reconstruction, LiveRecord]:
        intake, record = self._intake, self._record
        record.frames, record.repeated, record.left_out = len(intake), intake.repeated, intake.left_out
        scan = intake.scan()
        if len(self._traced) > 1:
            (first_s, first), (last_s, last) = self._traced[0], self._traced[-1]
            record.sustained_frames_per_second = (last - first) / (last_s - first_s)
        self._say_what_is_missing()
        live_s = time.perf_counter() - self._began_s
        began = time.perf_counter()
        begun = len(self._worker.traced) > 0
        if begun and on_complete is not None:
            on_complete(self._worker.kept(scan))
            began = time.perf_counter()
        result = (
            self._worker.kept(scan) if interrupted and begun else self._worker.finished(scan, self._given)
        )
        record.finish_s = time.perf_counter() - began
        timings = {**result.timings, "live": live_s, "total": live_s + record.finish_s}
        return (
            replace(
                result,
                history=(*self._history, *result.history),
                events=(*self._events, *result.events),
                timings=timings,
                interrupted=interrupted or result.interrupted,
                provenance={**result.provenance, "live": record.summary()},
            ),
            record,
        )

    def _say_what_is_missing(self) -> None:
        record = self._record
        if record.repeated:
            self._event(
                "repeated", f"{record.repeated} frames came more than once; the first of each is used."
            )
        if not record.left_out:
            return
        named = [f"{index} ({why})" for index, why in list(record.left_out.items())[:_NAMED]]
        more = f" and {len(record.left_out) - _NAMED} more" if len(record.left_out) > _NAMED else ""
        self._event(
            "left_out",
            f"{len(record.left_out)} frames were left out: {', '.join(named)}{more}.",
            frames=list(record.left_out),
        )


def _finite(positions: np.ndarray) -> np.ndarray | None:
    """Keep what can be a position."""
    usable = positions[np.isfinite(positions).all(axis=1)]
    return usable if len(usable) else None
