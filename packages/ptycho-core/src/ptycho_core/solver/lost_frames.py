"""Frames that are lost when the first level is done: looked for in an image that they had no part in.

An image that a frame took part in fits that frame where it is, wrong or not: seen from there every other
place is hardly better, and none is good enough. So the frames that the first level explains badly are left
out of a quick image of all others, and held against it all around where they were put. Where they are found
the next level goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64, Int64

from ptycho_config.models import SolverConfig
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver.elsewhere import Onlookers
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.monitor import Monitor
from ptycho_core.solver.outliers import coarse_residual
from ptycho_core.solver.places import misfits_at, places_within
from ptycho_core.solver.registration import image_config
from ptycho_core.solver.schedule import LevelSchedule
from ptycho_core.solver.spectra import probe_of
from ptycho_core.solver.start import Look, Start
from ptycho_core.solver.state import Solution

__all__ = ["FoundFrames", "frames_found_again", "put_lost_back"]

#: A frame is lost whose residual is so many times the median. Where there is one, those above the second
#: number may be lost as well: the worst of them, up to this part of all.
_LOST, _MAYBE_LOST, _LARGEST_PART = 1.4, 1.2, 0.15
#: A residual of which half is noise or a wrong model tells no frame from another.
_LARGEST_MEDIAN = 0.4
_FEWEST_FRAMES = 32
#: Step of the grid of places, and smoothing of the image, in pixels of the object.
_STEP, _SMOOTHING = 2, 0.5
#: Another place explains a frame better below this ratio.
_BETTER = 0.9
_NOWHERE = np.zeros((1, 2), np.int64)


@dataclass(frozen=True, eq=False)
class FoundFrames:
    """Frames that were lost.

    Attributes:
        frames: (L,) their numbers in the scan, increasing.
        moves_px: (L, 2) float64 (y, x), by how much each is to be moved from where it is.
    """

    frames: Int64[np.ndarray, " lost"]
    moves_px: Float64[np.ndarray, "lost 2"]

    def event(self) -> RunEvent:
        """Say how many there were, and how far they had been led astray."""
        length = np.linalg.norm(self.moves_px, axis=1)
        text = (
            f"Found {len(length)} frames again that were lost, in an image of the others: moved by "
            f"{length.mean():.2g} px on average, at most {length.max():.2g} px."
        )
        return RunEvent("positions", text, {"found_again": self.frames.tolist()})


def frames_found_again(
    scan: Scan,
    residual: Float32[np.ndarray, " frame"],
    free_px: Float64[np.ndarray, "frame 2"],
    solve: Callable[[Scan, SolverConfig], Reconstruction],
    *,
    bound_px: float,
    threads: int | None = None,
    look: Callable[..., np.ndarray] = misfits_at,
) -> FoundFrames | None:
    """Look for the frames that are explained badly, all around where they were put.

    Args:
        scan: at the positions that the first level came to, with its probe.
        residual: (M,) float32, R of each frame there; NaN where it is not known.
        free_px: (M, 2) by how much each frame has moved by itself.
        solve: makes an image, without refining positions.
        bound_px: how far a frame may come from where it was put.
        look: holds frames against an image as `misfits_at` does, whichever process has that part of it.
        threads: as many as there are cores by default.

    Returns:
        None where no frame is lost, or none was found.
    """
    known = residual[np.isfinite(residual)]
    if known.size < _FEWEST_FRAMES or (median := float(np.median(known))) > _LARGEST_MEDIAN:
        return None
    if float(known.max()) <= _LOST * median:
        return None
    relative = np.nan_to_num(residual) / max(median, 1e-30)
    worst = np.argsort(-relative, kind="stable")[: int(_LARGEST_PART * scan.n_frames)]
    lost = np.sort(worst[relative[worst] > _MAYBE_LOST])
    scan = replace(scan, probe_source="given", frame_numbers=None, all_positions_px=None)
    image = solve(scan.select(np.setdiff1d(np.arange(scan.n_frames), lost)), image_config())
    here = look(scan.select(lost), image, _NOWHERE, smoothing=_SMOOTHING, threads=threads)[0]
    offsets = places_within(int(bound_px), _STEP)
    put = scan.moved_to(scan.positions_px - free_px).select(lost)
    there = look(put, image, offsets, smoothing=_SMOOTHING, threads=threads)
    best, least = offsets[there.argmin(axis=0)], there.min(axis=0)
    found = np.flatnonzero(least < _BETTER * here)
    if not found.size:
        return None
    return FoundFrames(lost[found], best[found] - free_px[lost[found]])


def put_lost_back(
    solution: Solution,
    schedule: LevelSchedule,
    *,
    begun: Start,
    look: Look,
    frames: OrderedFrames,
    monitor: Monitor,
    image_of: Callable[[Scan, SolverConfig], Reconstruction],
    onlookers: Onlookers,
    threads: int | None,
) -> None:
    """Look for the frames that the first level has lost, and put them where they are found.

    Args:
        solution: as the level left it, with the schedule that it had.
    """
    parameters, scan, team = begun.frame_parameters, look.scan, look.team
    if parameters is None or solution.object is None:
        return

    def of_all(values: np.ndarray) -> np.ndarray:
        return team.of_all_frames(values, look.order, scan.n_frames)

    moved = frames.moved_by(parameters.correction_px)
    residual = coarse_residual(solution, solution.object, schedule.size_px, look, moved)
    now = scan.moved_to(scan.positions_px + of_all(parameters.correction_px))
    found = frames_found_again(
        replace(now, probe=probe_of(solution.spectra)),
        of_all(residual),
        of_all(parameters.free_px),
        image_of,
        bound_px=look.config.position_bound,
        threads=threads,
        look=onlookers.misfits_at,
    )
    if found is None:
        return
    moves_px = np.zeros((scan.n_frames, 2))
    moves_px[found.frames] = found.moves_px
    ours = np.flatnonzero(np.isin(look.order, found.frames))
    parameters.relocate(ours, moves_px[look.order[ours]])
    monitor.tell(found.event())
