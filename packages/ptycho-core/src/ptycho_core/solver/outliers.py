"""Frames that a coarse solution cannot explain: wrong content or position, half-read, struck by something.

They are judged when the first level is done. A solution that nearly all frames share explains those few
badly; what is left out then is said, and the levels begin again without it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex64, Float32, Int64

from ptycho_core.physics.residual import data_residual
from ptycho_core.scan.dose import central
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.schedule import LevelSchedule
from ptycho_core.solver.spectra import probe_of
from ptycho_core.solver.start import Look
from ptycho_core.solver.state import Solution

__all__ = ["coarse_residual", "outlying_frames"]

FEWEST_FRAMES = 16
#: A frame is left out whose residual is so many times the median, and as many spreads above it.
OUTLYING_FACTOR = 2.0
OUTLYING_SPREADS = 10.0
#: Where no frame had so many times the median when the step last saw it, none is looked for.
SUSPICIOUS_FACTOR = 1.5
#: Where more stand out, it is the solution that is wrong.
LARGEST_OUTLYING_FRACTION = 0.15
#: A residual of which half is noise or a wrong model tells no frame from another.
LARGEST_MEDIAN = 0.4


def outlying_frames(
    solution: Solution,
    schedule: LevelSchedule,
    look: Look,
    frames: OrderedFrames,
    on_the_way: Float32[np.ndarray, " frame"] | None = None,
) -> Int64[np.ndarray, " outlying"]:
    """Return the numbers in the scan of frames whose residual stands far outside of all others', increasing.

    Args:
        solution: as it is at the end of a level. schedule: of that level.
        frames: in the order of their batches.
        on_the_way: R of each frame when the step last saw it, where that is known.
    """
    none = np.zeros(0, np.int64)
    count = look.scan.n_frames
    if count < FEWEST_FRAMES or solution.object is None:
        return none
    if on_the_way is not None and _nothing_stands_out(look.team.of_all_frames(on_the_way, look.order, count)):
        return none
    residual = coarse_residual(solution, solution.object, schedule.size_px, look, frames)
    residual = look.team.of_all_frames(residual, look.order, count)
    known = residual[np.isfinite(residual)]
    if known.size < FEWEST_FRAMES:
        return none
    median = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - median)))
    with np.errstate(invalid="ignore"):
        far = residual > max(OUTLYING_FACTOR * median, median + OUTLYING_SPREADS * spread)
    if median > LARGEST_MEDIAN or far.mean() > LARGEST_OUTLYING_FRACTION:
        return none
    return np.flatnonzero(far)


def _nothing_stands_out(residual: Float32[np.ndarray, " frame"]) -> bool:
    known = residual[np.isfinite(residual)]
    return known.size > 0 and float(known.max()) < SUSPICIOUS_FACTOR * float(np.median(known))


def coarse_residual(
    solution: Solution,
    obj: Complex64[np.ndarray, "h w"],
    size_px: int,
    look: Look,
    frames: OrderedFrames,
) -> Float32[np.ndarray, " frame"]:
    """Compute R of each of this rank's frames at the resolution of a level."""
    crop = central(size_px, frames.frame_px)
    corners = (frames.positions_px - frames.least_px + solution.shift_px) * solution.scale + look.margin_px
    corners -= solution.corner
    amplitude, good = frames.seen_at(size_px)
    return data_residual(
        obj,
        probe_of(solution.spectra[:, crop, crop]),
        corners + size_px // 2,
        lambda chosen: amplitude[chosen],
        good_pixels=None if good is None else good > 0,
        over_all=look.team.total,
    ).per_frame
