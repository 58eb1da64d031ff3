"""Which levels are run, for how many epochs, with which steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ptycho_config.models import SolverConfig
from ptycho_core.callbacks import LevelPlan
from ptycho_core.solver._level import Steps

__all__ = ["LevelSchedule", "plan_levels"]

#: Epochs at the coarse level, at most, and at the full level, exactly.
_EPOCHS = {"fast": (6, 4), "default": (60, 12), "thorough": (120, 40)}
_COARSE_OBJECT_STEP = 0.7
_COARSE_OBJECT_MOMENTUM = 0.8
_FULL_OBJECT_MOMENTUM = 0.7
#: Part of the last level's epochs over which the steps fall to zero.
_DECAY = 0.5


@dataclass(frozen=True)
class LevelSchedule:
    """Epochs and steps of one level."""

    size_px: int
    epochs: int
    last: bool
    object_step: float
    probe_step: float
    object_momentum: float
    probe_momentum: float

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
    config: SolverConfig, *, coarse_px: int, frame_px: int, warm_start: bool
) -> Sequence[LevelSchedule]:
    """Plan the levels from coarse to full; one level where a coarse one saves nothing or is behind us."""
    final_px = min(config.final_size or frame_px, frame_px)
    coarse_epochs, full_epochs = _EPOCHS[config.effort]
    if config.epochs is not None:
        # The user's number is that of all epochs; keep the ratio of the levels.
        full_epochs = max(1, round(config.epochs * full_epochs / (coarse_epochs + full_epochs)))
        coarse_epochs = config.epochs - full_epochs
    full = LevelSchedule(
        size_px=final_px,
        epochs=full_epochs,
        last=True,
        object_step=config.object_step,
        probe_step=config.probe_step,
        object_momentum=_FULL_OBJECT_MOMENTUM,
        probe_momentum=config.probe_momentum,
    )
    if warm_start:
        return [full]
    if coarse_px >= final_px or coarse_epochs < 1:
        return [_lengthened(full, max(1, coarse_epochs + full_epochs - 2))]
    coarse = LevelSchedule(
        size_px=coarse_px,
        epochs=coarse_epochs,
        last=False,
        object_step=config.object_step * _COARSE_OBJECT_STEP,
        probe_step=config.probe_step,
        object_momentum=_COARSE_OBJECT_MOMENTUM,
        probe_momentum=config.probe_momentum,
    )
    return [coarse, full]


def _lengthened(level: LevelSchedule, epochs: int) -> LevelSchedule:
    return LevelSchedule(**{**level.__dict__, "epochs": epochs})
