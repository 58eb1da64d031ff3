"""What the solver computes; where it runs is `SolverExecutionConfig`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ptycho_config.models.base import CanonicalConfig
from ptycho_config.values import (
    SWITCH,
    WHOLE,
    Duration,
    NonNegativeNumber,
    PositiveInteger,
    PositiveNumber,
    ProperFraction,
    Seed,
)

__all__ = ["MOST_VARIATIONS", "SolverConfig"]

MOST_VARIATIONS = 4
"""OPR modes, at most."""


class SolverConfig(CanonicalConfig):
    """Effort, model and steps of the solver; the defaults need no tuning.

    Example:
        >>> SolverConfig(effort="fast", max_time="3m").max_time
        180.0
    """

    effort: Literal["fast", "default", "thorough"] = Field(
        default="default", description="how long to look for a better image"
    )
    probe_search: bool = Field(
        default=True, description="look for a better start probe before the reconstruction"
    )
    background: Annotated[Literal["auto", "off"], SWITCH] = Field(
        default="auto", description="estimate a flat background from the corners of the detector"
    )
    refine_background: bool = Field(
        default=False, description="find the flat background together with object and probe"
    )
    probe_modes: Annotated[int, Field(ge=1, le=8), WHOLE] = Field(
        default=1, description="incoherent probe modes, 1 to 8"
    )
    epochs: PositiveInteger | None = Field(
        default=None, description="passes over the frames, over all levels; chosen per level when not given"
    )
    final_size: PositiveInteger | None = Field(
        default=None, description="side in px of the last level; the whole frame when not given"
    )
    frames_per_batch: PositiveInteger = Field(default=24, description="frames per step, about")
    object_step: PositiveNumber = Field(default=1.0, description="factor on the object's steps")
    probe_step: NonNegativeNumber = Field(
        default=1.0, description="factor on the probe's steps; 0 holds a known probe"
    )
    probe_momentum: ProperFraction = Field(default=0.75, description="momentum of the probe, 0 to 1")
    object_floor: PositiveNumber = Field(
        default=0.25, description="share of the brightest coverage added everywhere when dividing by it"
    )
    refine_positions: bool = Field(
        default=False, description="correct the scan positions together with object and probe"
    )
    position_bound: PositiveNumber = Field(
        default=10.0, description="how far a position may move from a stretched and drifting scan, in px"
    )
    frame_intensity: bool = Field(default=False, description="find the intensity of each frame")
    probe_variations: Annotated[int, Field(ge=0, le=MOST_VARIATIONS), WHOLE] = Field(
        default=0,
        description="OPR modes: orthogonal functions that each frame adds to the probe, 0 to 4",
    )
    leave_out_frames: bool = Field(
        default=True, description="leave out frames that the first level explains far worse than all others"
    )
    prior: Literal["auto", "none", "tv", "huber", "log"] = Field(
        default="auto",
        description="what is expected of the object: smooth but for edges (tv, huber, log); auto chooses, by "
        "photons held out where they are few",
    )
    prior_strength: PositiveNumber | None = Field(
        default=None, description="strength of the prior in counts; chosen when not given"
    )
    max_time: Duration | None = Field(
        default=None, description="stop after this wall-clock time: 90s, 3m, 1h or seconds"
    )
    seed: Seed = Field(default=0, description="seed of everything random")

    @property
    def uses_prior(self) -> bool:
        """Whether a prior is taken into account; the least effort goes without, unless one is named."""
        return self.prior in ("tv", "huber", "log") or (self.prior == "auto" and self.effort != "fast")
