"""Which frames are solved together.

The frames are cut into cells, each a compact part of the scan whose canvas is not much larger than the
frames of a batch; most scans are one cell. Within a cell the frames are shuffled and cut into batches.
So the work on the canvas that a batch causes does not grow with the scan.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["Batch", "cut_evenly", "plan_batches"]

_MIN_BATCHES = 12
_MIN_FRAMES_PER_BATCH = 4
_SMALLEST_SPLIT_CELL = 480


@dataclass(frozen=True)
class Batch:
    """Frames solved together: `frames` into the permuted scan, `cell` the run of frames of its cell."""

    frames: slice
    cell: slice


def plan_batches(
    positions_px: Float64[np.ndarray, "frame 2"],
    *,
    frame_px: int,
    frames_per_batch: int,
    random: np.random.Generator,
    members: Int64[np.ndarray, " own"] | None = None,
    ranks: int = 1,
) -> tuple[Int64[np.ndarray, " own"], list[Batch]]:
    """Return the order in which frames are stored and the batches as slices of that order.

    Args:
        members: the frames that are wanted, increasing; all of them by default.
        ranks: that go through a batch each at the same time, which is one step of them all: the batches of
            each may be as many times smaller, down to a frame, so that an epoch has as many steps.
    """
    members = np.arange(len(positions_px)) if members is None else members
    order: list[np.ndarray] = []
    batches: list[Batch] = []
    start = 0
    area = frames_per_batch * frame_px**2
    for cell in _cells(positions_px, members, frame_px=frame_px, area_px=area):
        order.append(random.permutation(cell))
        count = len(cell)
        most = min(count, count * ranks // _MIN_FRAMES_PER_BATCH)
        n_batches = max(1, min(max(round(count / frames_per_batch), _MIN_BATCHES), most))
        whole = slice(start, start + count)
        batches += [Batch(frames, whole) for frames in cut_evenly(whole, n_batches)]
        start += count
    return np.concatenate(order), batches


def cut_evenly(frames: slice, n_batches: int) -> list[slice]:
    """Cut a run of frames into batches of nearly equal size."""
    start, count = frames.start, frames.stop - frames.start
    edges = [start + batch * count // n_batches for batch in range(n_batches + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(edges)]


def _cells(positions_px: np.ndarray, members: np.ndarray, *, frame_px: int, area_px: int) -> list[np.ndarray]:
    spread = np.ptp(positions_px[members], axis=0)
    if len(members) < _SMALLEST_SPLIT_CELL or np.prod(spread + frame_px) <= area_px:
        return [members]
    ranked = members[np.argsort(positions_px[members, int(np.argmax(spread))], kind="stable")]
    half = len(ranked) // 2
    return [
        cell
        for part in (np.sort(ranked[:half]), np.sort(ranked[half:]))
        for cell in _cells(positions_px, part, frame_px=frame_px, area_px=area_px)
    ]
