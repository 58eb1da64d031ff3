"""What is known of a scan that is being watched, and what the one who works on it has to offer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ptycho_core.live.intake import Intake
from ptycho_core.result.callbacks import Callback
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan

__all__ = ["LiveOptions", "LiveRecord", "LiveReport", "Worker"]


@dataclass(frozen=True)
class LiveOptions:
    """How a scan is watched.

    Attributes:
        refresh_s: seconds between two pictures.
        timeout_s: without a new frame for so long, the scan is taken for complete.
        expected: number of frames after which it is complete.
    """

    refresh_s: float = 0.25
    timeout_s: float = 10.0
    expected: int | None = None


@dataclass(frozen=True)
class LiveReport:
    """How things stand when a picture has been drawn.

    Attributes:
        frames: that came and can be used; `expected`: that there will be, None where it is not known.
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
    def idle(self) -> bool: ...
    def ready(self, intake: Intake, *, waited_s: float, moment_s: float, last: bool) -> bool: ...
    def work(
        self, intake: Intake, *, known_px: np.ndarray | None, seconds: float, frames_per_second: float
    ) -> float: ...
    def image(self) -> tuple[np.ndarray, np.ndarray]: ...
    def kept(self, scan: Scan) -> Reconstruction: ...
    def finished(self, scan: Scan, callbacks: Sequence[Callback]) -> Reconstruction: ...
