"""Which levels are run, for how many epochs, with which steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ptycho_config.models import SolverConfig
from ptycho_core.kernel import Steps
from ptycho_core.result.callbacks import LevelPlan
from ptycho_core.scan.dose import is_smooth

__all__ = ["LevelSchedule", "plan_levels"]

#: Epochs at the coarse, the middle and the full level, at most, and at least at the full level.
_EPOCHS = {"fast": (5, 2, 2, 2), "default": (60, 12, 30, 6), "thorough": (120, 20, 60, 40)}
#: The full level goes on until so many pixels were compared, within its bounds: small scans get more epochs,
#: which cost next to nothing there and still sharpen the image.
_PIXELS_COMPARED = 5e7
#: How a number of epochs that the user gave is shared among the three levels.
_SHARES = (0.65, 0.15, 0.2)
#: Factors on the object's steps, and its momentum.
_COARSE_OBJECT_STEP, _COARSE_OBJECT_MOMENTUM = 0.7, 0.8
_FINE_OBJECT_STEP, _FINE_OBJECT_MOMENTUM = 1.5, 0.5
#: Where positions are refined: epochs of the coarse level at most, and of the full one at most and at least;
#: it goes on until `_PIXELS_COMPARED`, as positions settle slowly and small scans have the time.
_REFINING_EPOCHS, _LEAST_REFINING = 60, {"fast": 4, "default": 6, "thorough": 30}
#: The coarse level has done its part where half of the frames move by no more than this in an epoch.
_REST_PX = 0.03
#: Where so many epochs of the full level cost little there is no middle one, and the coarse one waits longer.
_CHEAP_EPOCHS, _PATIENCE, _PROGRESS = 12, 10, 0.002
#: Epochs of the full level where a search has found the positions to a few pixels; the coarse one takes about
#: as long, and there is no middle one.
_NEAR_EPOCHS = 10
#: Part of a time budget that may be used when a level ends.
_COARSE_TIME, _MIDDLE_TIME = 0.5, 0.7
#: Part of the last level's epochs over which the steps fall to zero.
_DECAY = 0.5


@dataclass(frozen=True)
class LevelSchedule:
    """Epochs and steps of one level.

    Attributes:
        epochs: passes over the frames, at most.
        least_epochs: where smaller, the level takes as many epochs as the one before it did, but no fewer.
        patience: the level settles when so many epochs brought less than `progress`; 0: it never does.
        rest_px: it settles as well when half of the frames move by no more than this in an epoch.
        last: the steps fall to zero.
        time_share: part of a time budget that may be used when the level ends.
        refines_positions: the positions of the frames move here; where False they are held.
    """

    size_px: int
    epochs: int
    object_step: float
    probe_step: float
    object_momentum: float
    probe_momentum: float
    least_epochs: int | None = None
    patience: int = 0
    progress: float = 0.0
    rest_px: float = 0.0
    last: bool = False
    time_share: float = 1.0
    refines_positions: bool = False

    def steps(self, epoch: int, *, scale: float, epochs: int | None = None) -> Steps:
        """Steps of an epoch, counted from 0, of `epochs` (as planned by default), times `scale`."""
        epochs = self.epochs if epochs is None else epochs
        if self.last:
            scale *= min(1.0, (epochs - epoch) / (epochs * _DECAY + 1))
        closing = self.last and epoch >= epochs - 1
        return Steps(
            object_step=self.object_step * scale,
            probe_step=self.probe_step * scale,
            object_momentum=0.0 if closing else self.object_momentum,
            probe_momentum=0.0 if closing else self.probe_momentum,
        )

    def plan(self, n_batches: int) -> LevelPlan:
        """Return the plan as callbacks hear it."""
        return LevelPlan(size_px=self.size_px, epochs=self.epochs, batches=n_batches)


def plan_levels(
    config: SolverConfig,
    *,
    coarse_px: int,
    frame_px: int,
    n_frames: int,
    warm_start: bool,
    fitted_px: int | None = None,
    positions_are_near: bool = False,
) -> Sequence[LevelSchedule]:
    """Plan the levels from coarse over one in the middle to full; from a warm start the full one alone.

    Where the coarse level sees the whole frame already, it is run at full size and then refined there.

    Args:
        fitted_px: side of the last level, where it is known better than by the configuration.
        positions_are_near: they were searched for, and few epochs find the rest.
    """
    final_px = fitted_px or min(config.final_size or frame_px, frame_px)
    coarse_px = min(coarse_px, final_px)
    middle_px = _middle(coarse_px, final_px)
    coarse_epochs, middle_epochs, full_epochs, least_epochs = _epochs(config)
    probe: dict[str, Any] = {"probe_step": config.probe_step, "probe_momentum": config.probe_momentum}
    coarse = LevelSchedule(
        size_px=coarse_px,
        epochs=coarse_epochs,
        object_step=config.object_step * _COARSE_OBJECT_STEP,
        object_momentum=_COARSE_OBJECT_MOMENTUM,
        patience=5,
        # An epoch costs as many times more as there are modes, so it has to bring as much more.
        progress=0.005 * config.probe_modes,
        time_share=_COARSE_TIME,
        **probe,
    )
    fine: dict[str, Any] = {
        "object_step": config.object_step * _FINE_OBJECT_STEP,
        "object_momentum": _FINE_OBJECT_MOMENTUM,
        **probe,
    }
    middle = LevelSchedule(
        size_px=middle_px,
        epochs=middle_epochs,
        patience=2,
        progress=0.01,
        time_share=_MIDDLE_TIME,
        **fine,
    )
    full = LevelSchedule(size_px=final_px, epochs=full_epochs, last=True, **fine)
    worthwhile = math.ceil(_PIXELS_COMPARED / (n_frames * final_px**2))
    if config.refine_positions:
        levels = _levels_with_positions(
            config, coarse, middle, full, worthwhile=worthwhile, are_near=positions_are_near
        )
        return levels[-2:] if warm_start else levels
    if warm_start:
        return [replace(full, epochs=config.epochs or middle_epochs)]
    least_epochs = min(max(least_epochs, worthwhile), full_epochs)
    if middle_px == final_px:
        least = max(least_epochs, min(full_epochs, middle_epochs))
        full = replace(full, epochs=least if config.epochs is None else middle_epochs + full_epochs)
        return [level for level in (coarse, full) if level.epochs]
    full = replace(full, least_epochs=least_epochs)
    return [level for level in (coarse, middle, full) if level.epochs]


def _levels_with_positions(
    config: SolverConfig,
    coarse: LevelSchedule,
    middle: LevelSchedule,
    full: LevelSchedule,
    *,
    worthwhile: int,
    are_near: bool,
) -> Sequence[LevelSchedule]:
    """Plan the levels where frames may move, and the full one again with the frames where they came to.

    Args:
        worthwhile: epochs of the full level that cost little.
    """
    _, most_polish, _, least_polish = _EPOCHS[config.effort]
    cheap = worthwhile >= _CHEAP_EPOCHS
    between = coarse.size_px < middle.size_px < full.size_px and not (cheap or are_near)
    if are_near:
        full_epochs, polish_epochs = _NEAR_EPOCHS, most_polish
        coarse_epochs = min(round(_NEAR_EPOCHS * (full.size_px / coarse.size_px) ** 2), _REFINING_EPOCHS)
    else:
        full_epochs = min(max(worthwhile, _LEAST_REFINING[config.effort]), _REFINING_EPOCHS)
        polish_epochs = min(max(worthwhile, least_polish), max(most_polish, least_polish))
        coarse_epochs = _REFINING_EPOCHS
    if cheap:
        coarse = replace(coarse, patience=_PATIENCE, progress=_PROGRESS)
    usual = (coarse_epochs, full_epochs if between else 0, full_epochs, polish_epochs)
    factor = 1.0 if config.epochs is None else config.epochs / sum(usual)
    coarse_epochs, middle_epochs, full_epochs, polish_epochs = (
        max(1, round(factor * epochs)) if epochs else 0 for epochs in usual
    )
    moving = {"refines_positions": True, "time_share": _MIDDLE_TIME}
    levels = [
        replace(coarse, epochs=coarse_epochs, rest_px=_REST_PX, refines_positions=True),
        replace(middle, epochs=middle_epochs, patience=0, **moving),
        replace(full, epochs=full_epochs, **moving),
        replace(full, epochs=polish_epochs),
    ]
    return [level for level in levels if level.epochs]


def _epochs(config: SolverConfig) -> tuple[int, int, int, int]:
    if config.epochs is None:
        return _EPOCHS[config.effort]
    full = max(1, round(config.epochs * _SHARES[2]))
    middle = min(round(config.epochs * _SHARES[1]), config.epochs - full)
    return config.epochs - middle - full, middle, full, full


def _middle(coarse_px: int, final_px: int) -> int:
    """Good FFT size half-way between the levels; the final one where there is none between."""
    multiple = 16 if final_px >= 128 else 8
    size = multiple * math.ceil((coarse_px + final_px) / (2 * multiple))
    return size if is_smooth(size) and coarse_px < size < final_px else final_px
