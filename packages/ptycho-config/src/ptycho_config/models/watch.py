"""How a scan is watched while it is being measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptycho_config.models.base import CanonicalConfig
from ptycho_config.values import (
    Duration,
    FilePath,
    NonNegativeInteger,
    PositiveFraction,
    PositiveInteger,
    PositiveNumber,
)

__all__ = ["WatchConfig"]


class WatchConfig(CanonicalConfig):
    """When a growing scan is complete, how often it is drawn, and how it is finished."""

    replay: PositiveNumber | None = Field(
        default=None, description="frames per second at which a finished scan is replayed"
    )
    refresh: PositiveFraction = Field(default=0.25, description="seconds between two pictures, at most 1")
    timeout: Duration = Field(
        default=10.0, description="the scan is complete when no frame came for so long: 30s, 2m or seconds"
    )
    expected_frames: PositiveInteger | None = Field(
        default=None, description="the scan is complete with so many frames; the source says when not given"
    )
    first_number: NonNegativeInteger | None = Field(
        default=None, description="number of the first frame file; 0 or the smallest found when not given"
    )
    finish: Literal["solve", "polish", "none"] = Field(
        default="solve",
        description="when complete: solve the scan as a whole, polish the live image, or keep it as it is",
    )
    model_path: FilePath | None = Field(
        default=None, description="trained network for `--method network`: a bundle or its directory"
    )
