"""What a source of frames hands over, and what every source can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ptycho_core.io.raw_scan import RawScan

__all__ = ["NO_ANSWER_S", "Arrival", "Source"]

#: A source that has not answered for the timeout and so long does not answer any more.
NO_ANSWER_S = 5.0


@dataclass(frozen=True, eq=False)
class Arrival:
    """One frame that has come.

    Attributes:
        index: its number in the scan, from 0; the same number twice is the same frame.
        frame: (H, W) as stored.
        position: (2,) as stored, (y, x).
        at_s: when it was there, by `time.perf_counter`.
    """

    index: int
    frame: np.ndarray
    position: np.ndarray
    at_s: float


@runtime_checkable
class Source(Protocol):
    """Frames that come while we look, whether from a file, a folder or a replay."""

    name: str

    def head(self) -> RawScan:
        """Return what is known beside frames and positions: probe, mask, lengths; its `frames` are unused."""
        ...

    def poll(self, *, last: bool = False) -> list[Arrival]:
        """Return what has come since the last time; a frame may come twice, and out of order.

        Args:
            last: nothing more will come, so what looked unfinished is taken as it is, or given up.
        Raises:
            DataError: the source cannot be used at all; what is merely unfinished raises nothing.
        """
        ...

    def positions_known(self) -> np.ndarray | None:
        """Return all positions (M, 2) known by now, as stored, those of frames to come included."""
        ...

    @property
    def expected(self) -> int | None:
        """How many frames the source says there will be, None where it does not say."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the source itself says that nothing more will come."""
        ...

    def missing(self) -> dict[int, str]:
        """Return the frames that are known to exist and could not be had: number -> why."""
        ...
