"""Go through the levels from coarse to full, and step back where the residual rises.

`descend` carries a `Solution` from level to level; `run_level` improves one level, epoch by epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from ptycho_core.arrays import Arrays
from ptycho_core.kernel import Steps
from ptycho_core.physics.gauge import probe_centre_px
from ptycho_core.scan.dose import central
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import OBJECT_LIMIT, Level
from ptycho_core.solver.monitor import EpochRecord, Progress
from ptycho_core.solver.outliers import outlying_frames
from ptycho_core.solver.schedule import LevelSchedule
from ptycho_core.solver.spectra import move_spectrum, probe_of
from ptycho_core.solver.start import Look, Start
from ptycho_core.solver.state import Solution
from ptycho_core.solver.windows import MARGIN_PX

__all__ = ["Pace", "descend", "run_level"]

_DIVERGENCE = 1.1


def descend(
    start: Start,
    look: Look,
    frames: OrderedFrames,
    arrays: Arrays,
    random: np.random.Generator,
    progress: Progress,
    *,
    judge_frames: bool = False,
    look_for_lost: Callable[[Solution, LevelSchedule], None] | None = None,
) -> tuple[Solution, Int64[np.ndarray, " outlying"]]:
    """Go through the levels of a start; return object and probe as they are after the last one.

    A stop, asked for or by the time budget, ends the level at work and leaves out those behind it.

    Args:
        judge_frames: after the first of several levels, look for frames that it does not explain, and go no
            further where there are any.
        look_for_lost: moves frames that the first of several levels has lost; asked where the next one goes
            on moving them.

    Returns:
        The solution, and the numbers of the frames that it cannot explain.
    """
    solution, pace = start.solution, Pace()
    centre_px = probe_centre_px(probe_of(solution.spectra))
    for schedule in start.levels:
        level = _begin(schedule, solution, start, look, frames, arrays)
        solution = replace(solution, object=None)  # the level has a copy of it
        progress.level_begins(schedule)
        pace = run_level(level, schedule, pace, solution, random, progress)
        solution = _recentred(level.solution(solution), centre_px)
        first_of_several = schedule is start.levels[0] and len(start.levels) > 1
        judged = judge_frames and first_of_several
        on_the_way = level.frame_residual() if judged else None
        del level  # with its velocities, before the next one is made
        progress.level_ends(schedule)
        if pace.stopped:
            break
        if judged:
            outlying = outlying_frames(solution, schedule, look, frames, on_the_way)
            if outlying.size:
                return solution, outlying
        if look_for_lost is not None and first_of_several and start.levels[1].refines_positions:
            look_for_lost(solution, schedule)
    return solution, np.zeros(0, np.int64)


@dataclass(frozen=True)
class Pace:
    """What one level hands on to the next.

    Attributes:
        step_scale: factor on all steps.
        epochs: that the level took.
        stopped: it was stopped, and no other one follows.
    """

    step_scale: float = 1.0
    epochs: int = 0
    stopped: bool = False


def run_level(
    level: Level,
    schedule: LevelSchedule,
    pace: Pace,
    before: Solution,
    random: np.random.Generator,
    progress: Progress,
) -> Pace:
    """Improve the level's state for the epochs that its schedule and the time allow.

    An epoch whose residual is not finite or exceeds the best by a tenth is undone: the best state comes
    back, at rest, and all later steps are half as long. Letting the steps recover was measured to be worse.

    Args:
        before: the solution that the level began with, whose outer frequencies it does not see.
    """
    step_scale, stopped = pace.step_scale, False
    best, best_state = math.inf, None
    epoch, epochs = 0, schedule.epochs
    if schedule.least_epochs is not None and pace.epochs:
        epochs = min(epochs, max(schedule.least_epochs, pace.epochs))
    residuals: list[float] = []
    while epoch < epochs and not stopped:
        if epoch or pace.epochs:
            progress.offer_state(lambda: level.solution(before, passing=True))
        state = level.state()
        steps = schedule.steps(epoch, scale=step_scale, epochs=epochs)
        residual, stopped = _run_epoch(level, schedule, epoch, steps, random, progress)
        diverged = not math.isfinite(residual) or residual > _DIVERGENCE * best
        if diverged:
            level.restore(state if best_state is None else best_state)
            step_scale /= 2
        elif residual < best:
            best, best_state = residual, state
        residuals.append(residual)
        if not stopped or diverged:
            progress.after_epoch(EpochRecord(schedule, epoch, epochs, residual, diverged))
        epoch += 1
        if _settled(residuals, schedule.patience, schedule.progress):
            break
        if schedule.rest_px and level.frames_are_at_rest(schedule.rest_px):
            break
        epochs = min(epochs, max(epoch, progress.epochs_allowed(schedule, epoch)))
    return Pace(step_scale, epoch, stopped)


def _run_epoch(
    level: Level,
    schedule: LevelSchedule,
    epoch: int,
    steps: Steps,
    random: np.random.Generator,
    progress: Progress,
) -> tuple[float, bool]:
    """Step on all batches in random order; return the residual, and whether a stop was asked for."""
    misfit, stopped = 0.0, False
    for done, batches in level.rounds(random):
        misfit += level.agreed(sum((level.step(index, steps) for index in batches), 0.0))
        progress.after_step(schedule, epoch, done, misfit / level.total_amplitude)
        if not math.isfinite(misfit):
            break
        if progress.should_stop():
            stopped = True
            break
    level.settle(OBJECT_LIMIT)
    return misfit / level.total_amplitude, stopped


def _settled(residuals: list[float], patience: int, progress: float) -> bool:
    """Return whether the best of the last epochs is hardly better than the best before them."""
    if not patience or len(residuals) < 2 * patience:
        return False
    return min(residuals[-patience:]) > (1 - progress) * min(residuals[:-patience])


# From level to level


def _begin(
    schedule: LevelSchedule,
    solution: Solution,
    start: Start,
    look: Look,
    frames: OrderedFrames,
    arrays: Arrays,
) -> Level:
    """Return a level that goes on from a solution."""
    parameters, size_px, frame_px = start.frame_parameters, schedule.size_px, look.scan.frame_px
    if parameters is not None and not schedule.refines_positions:
        parameters.hold_positions()
        if not parameters.model.changes_the_probe:
            # The frames stay where they came to, as if they had been measured there: a plain level does.
            frames, parameters = frames.moved_by(parameters.correction_px), None
    level = Level(
        frames,
        arrays,
        batches=look.batches,
        size_px=size_px,
        background=look.statistics.background,
        softening=look.softening,
        object_floor=look.config.object_floor,
        shift_px=solution.shift_px,
        parameters=parameters,
        stabilised=parameters is not None
        and parameters.positions_move
        and size_px == frame_px
        and look.statistics.noise_floor is not None,
        margin_px=look.margin_px,
        flat=start.flat_background,
        team=look.team,
    )
    crop = central(size_px, frame_px)
    level.start(
        solution.spectra[:, crop, crop],
        solution.object_on(
            level.shape, scale=level.scale, margin_px=look.margin_px, corner=level.tiles.origin
        ),
        solution.variations[:, :, crop, crop],
    )
    return level


def _recentred(solution: Solution, centre_px: np.ndarray) -> Solution:
    """Move the probe back to its centre at the start, and the positions the other way.

    If psi(r) = P(r) O(r + c), then P(r + d) O(r + (c + d)) is the same wave, moved; so only the
    positions on the canvas change, and the object needs no interpolation.
    """
    limit = MARGIN_PX - 1.0
    before_px = solution.shift_px
    drift_px = probe_centre_px(probe_of(solution.spectra)) - centre_px
    allowed_px = np.clip(before_px + drift_px, -limit, limit) - before_px
    after_px = before_px + allowed_px
    variations = solution.variations.copy()
    for variation in np.moveaxis(variations, 1, 0):
        variation[...] = move_spectrum(variation, before_px - after_px)
    return replace(
        solution,
        spectra=move_spectrum(solution.spectra, -allowed_px),
        variations=variations,
        shift_px=after_px,
    )
