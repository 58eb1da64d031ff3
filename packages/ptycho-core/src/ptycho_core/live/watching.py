"""The loop: take what came, improve the image, draw it, and finish when no more frames come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import DataError, OutputError
from ptycho_core.io.options import ReadOptions
from ptycho_core.live.arrival import Source
from ptycho_core.live.feed import Feed
from ptycho_core.live.intake import Intake
from ptycho_core.live.picture import draw_live, live_picture
from ptycho_core.live.record import LiveOptions, LiveRecord, LiveReport, Worker
from ptycho_core.result.callbacks import Callback, CallbackList
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.source_file import SourceFile

__all__ = ["watch"]

#: Of the time between two pictures, so much is worked before new frames are looked for, at most so long.
_SLICE, _LONGEST_SLICE_S = 0.4, 0.15
_IDLE_S = 0.01
#: A large picture is drawn less often than asked for, so that drawing takes at most a part of the time; but
#: once a second in any case.
_DRAWING_PART, _LONGEST_REFRESH_S = 5.0, 1.0
#: Frames per second are counted over so many seconds.
_COUNTED_S = 1.0
_NAMED = 10


def watch(
    source: Source,
    worker: Worker,
    *,
    options: LiveOptions | None = None,
    reading: ReadOptions | None = None,
    picture: Path | None = None,
    on_report: Callable[[LiveReport], None] = lambda report: None,
    on_complete: Callable[[Reconstruction], None] | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[Reconstruction, LiveRecord]:
    """Reconstruct frames while they come, and the whole scan when no more come.

    Args:
        reading: how the frames are to be read, as for `open_scan`.
        picture: the file that holds the live picture.
        on_report: told how things stand after each picture.
        on_complete: given the live image as a result before the scan is finished.
        callbacks: told of events and of the finish; asked whether to stop.
    Returns:
        The result, and what happened. A stop on request keeps the live image, marked as interrupted.
    Raises:
        DataError: nothing came that could be read.
    """
    return _Watch(source, worker, options or LiveOptions(), reading, picture, on_report, callbacks).run(
        on_complete
    )


class _Watch:
    def __init__(
        self,
        source: Source,
        worker: Worker,
        options: LiveOptions,
        reading: ReadOptions | None,
        picture: Path | None,
        on_report: Callable[[LiveReport], None],
        callbacks: Sequence[Callback],
    ) -> None:
        self._source, self._worker, self._options = source, worker, options
        self._picture, self._on_report = picture, on_report
        self._given, self._callbacks = callbacks, CallbackList(callbacks)
        self._intake = Intake(source, reading)
        self._feed = Feed(source, expected=options.expected, timeout_s=options.timeout_s)
        self._record, self._events = LiveRecord(), list[RunEvent]()
        self._history: list[dict[str, Any]] = []
        self._pictured = np.zeros(0, bool)
        self._drawn_s, self._began_s = -np.inf, time.perf_counter()
        self._arrivals: deque[tuple[float, int]] = deque()
        self._residual = float("nan")
        #: When pictures with new frames were drawn, and how many frames were in them.
        self._traced: list[tuple[float, int]] = []
        self._picture_failed, self._drawing_s = False, 0.0

    def run(self, on_complete: Callable[[Reconstruction], None] | None) -> tuple[Reconstruction, LiveRecord]:
        interrupted = False
        feed = self._feed
        with self._worker.limits(), feed:
            while True:
                ended = bool(feed.ended)  # asked before the frames are taken: none can come in between
                self._take(last=ended)
                worked = self._work(last=ended)
                self._draw_if_due(last=ended)
                if self._callbacks.should_stop():
                    interrupted = True
                    break
                if ended and not feed.waiting and (self._worker.traced.all() or not worked):
                    break
                if not worked:
                    time.sleep(_IDLE_S)
        self._record.ended = "stopped on request" if interrupted else feed.ended
        return self._finish(interrupted, on_complete)

    def _take(self, *, last: bool) -> None:
        kept = self._intake.take(self._feed.take(), last=last)
        if last and self._feed.error is not None:
            if not len(self._intake):
                raise self._feed.error
            self._event("stopped", f"The source failed; what had come is used. {self._feed.error}")
        now = time.perf_counter()
        if kept:
            self._arrivals.append((now, kept))
        while self._arrivals and self._arrivals[0][0] < now - _COUNTED_S:
            self._arrivals.popleft()

    @property
    def _frames_per_second(self) -> float:
        if not self._arrivals:
            return 0.0
        since = time.perf_counter() - float(self._intake.arrived_s.min())
        count = sum(count for _, count in self._arrivals) + self._feed.waiting
        return count / min(_COUNTED_S, max(since, 0.1))

    def _work(self, *, last: bool) -> bool:
        """Improve the image for a moment; return whether there was anything to do."""
        intake, worker = self._intake, self._worker
        if not len(intake):
            return False
        waited_s = time.perf_counter() - float(intake.arrived_s.min())
        moment_s = self._options.refresh_s
        if not worker.ready(intake, waited_s=waited_s, moment_s=moment_s, last=last):
            return False
        if len(worker.traced) == len(intake) and worker.idle:
            return False
        fresh = len(worker.traced) < len(intake) or not worker.traced.all()
        residual = worker.work(
            intake,
            known_px=intake.positions_ahead(),
            seconds=min(_SLICE * self._options.refresh_s, _LONGEST_SLICE_S),
            frames_per_second=self._frames_per_second,
        )
        if fresh and np.isfinite(residual):
            self._residual = residual
        for message in worker.news:
            self._event("live", message)
        worker.news.clear()
        return True

    def _draw_if_due(self, *, last: bool) -> None:
        traced = self._worker.traced
        if not len(traced):
            return
        if len(self._pictured) < len(traced):
            self._pictured = np.concatenate(
                [self._pictured, np.zeros(len(traced) - len(self._pictured), bool)]
            )
        news = traced & ~self._pictured[: len(traced)]
        since = time.perf_counter() - self._drawn_s
        refresh_s = max(self._options.refresh_s, min(_DRAWING_PART * self._drawing_s, _LONGEST_REFRESH_S))
        complete = last and bool(traced.all()) and len(traced) == len(self._intake)
        if since < refresh_s and not (complete and news.any()):
            return
        if not news.any() and self._worker.idle:
            return
        began = time.perf_counter()
        self._draw()
        drawn = self._drawn_s = time.perf_counter()
        self._drawing_s = drawn - began
        self._record.pictures += 1
        latencies = drawn - self._intake.arrived_s[: len(traced)][news]
        self._record.latencies_s += latencies.tolist()
        self._pictured[: len(traced)] |= news
        if news.any():
            self._traced.append((drawn, int(self._pictured.sum())))
        self._report(float(latencies.max(initial=0.0)))

    def _draw(self) -> None:
        if self._picture is None:
            return
        obj, coverage = self._worker.image()
        try:
            draw_live(self._picture, live_picture(obj, coverage))
            self._picture_failed = False
        except OutputError as error:
            if not self._picture_failed:  # the scan goes on, and so does the work
                self._event("live_picture", str(error))
            self._picture_failed = True

    def _report(self, latency_s: float) -> None:
        intake, declared = self._intake, self._source.expected
        report = LiveReport(
            frames=len(intake),
            expected=self._options.expected or declared,
            waiting=self._feed.waiting
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
        if interrupted and not len(intake):
            raise KeyboardInterrupt
        record.frames, record.repeated, record.left_out = len(intake), intake.repeated, intake.left_out
        if self._feed.silent and not len(intake):
            raise DataError(
                f"{self._source.name}: {self._feed.ended}, and no frame had come. Is the disk there, on "
                "which it and its positions lie?"
            )
        scan = intake.scan()
        # The checksum is of the file as it is now, when the last frame has been read; later it may be gone.
        origin = None if self._feed.silent else SourceFile.of(scan.source)
        if origin is None and scan.source is not None:
            self._event(
                "not_read_again", f"{scan.source.name} is gone or does not answer; its checksum is not known."
            )
        elif origin is not None and scan.known_sha256 is None:
            origin.begin_checksum()
        scan = replace(scan, origin=origin)
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
        result = self._worker.kept(scan) if interrupted and begun else self._finished(scan, begun=begun)
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

    def _finished(self, scan: Scan, *, begun: bool) -> Reconstruction:
        """Finish the scan; where that fails for what it needs, the live image is not lost."""
        try:
            return self._worker.finished(scan, self._given)
        except (DataError, MemoryError, OSError) as error:
            if not begun or isinstance(error, OutputError):
                raise
            text = " ".join(str(error).split()) or type(error).__name__
            self._event("not_finished", f"The scan could not be finished; the live image is kept. {text}")
            return self._worker.kept(scan)

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
