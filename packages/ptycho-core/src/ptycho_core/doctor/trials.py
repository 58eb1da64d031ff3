"""Short reconstructions of some frames, each in another setting, within a budget of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.doctor.left_over import unexplained_by
from ptycho_core.doctor.setting import Setting
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import scan_statistics
from ptycho_core.scan.middle import frames_near_the_middle
from ptycho_core.scan.overlap import overlap_fraction
from ptycho_core.solver import solve

__all__ = ["Trial", "Trials"]

#: Frames that are tried, and the side of the finest level: more of either changes hardly any answer.
_FRAMES, _SIZE_PX = 100, 64


@dataclass(frozen=True, eq=False)
class Trial:
    """A setting and what came of it.

    Attributes:
        unexplained: data residual over that of the mean pattern in the place of every frame: 0 for a perfect
            explanation, 1 for one that knows nothing of the object.
        overlap, overlap_at_start: of neighbouring frames, under the probe that came out and under the one it
            began with.
    """

    setting: Setting
    result: Reconstruction
    unexplained: float
    overlap: float
    overlap_at_start: float


@dataclass(eq=False)
class Trials:
    """Tries settings on the frames around the middle of a scan; asks for each one once.

    Attributes:
        seconds: that all trials together may take.
        say: told of each trial as it ends.
        should_stop: asked before each trial whether it is to be the last one.
    """

    scan: Scan
    seconds: float
    execution: SolverExecutionConfig | None = None
    say: Callable[[Trial], None] | None = None
    should_stop: Callable[[], bool] | None = None
    frames: int = _FRAMES
    tried: dict[Setting, Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the frames that are tried, once."""
        self._until = time.monotonic() + self.seconds
        numbers = np.sort(frames_near_the_middle(self.scan.positions_px, self.frames))
        part = self.scan.select(numbers)
        self.part = replace(
            part, frames=np.asarray(part.frames[:]), ground_truth=None, patch_truth=None, source=None
        )
        self._longest = 0.0

    @property
    def time_left(self) -> bool:
        """Whether another trial fits into the budget, and no stop was asked for."""
        if self.should_stop is not None and self.should_stop():
            return False
        return time.monotonic() + self._longest < self._until

    def __call__(self, setting: Setting) -> Trial | None:
        """Try a setting; None when the time is over."""
        if setting in self.tried:
            return self.tried[setting]
        if not self.time_left:
            return None
        began = time.monotonic()
        changed = setting.applied(self.part)
        result = self.reconstruct(changed, setting)
        overlaps = [overlap_fraction(changed.positions_px, probe) for probe in (result.probe, changed.probe)]
        trial = Trial(setting, result, unexplained_by(result, changed), *overlaps)
        self.tried[setting] = trial
        self._longest = max(self._longest, time.monotonic() - began)
        if self.say is not None:
            self.say(trial)
        return trial

    def reconstruct(self, changed: Scan, setting: Setting, *, all_frames: bool = False) -> Reconstruction:
        """Make a short reconstruction of frames that were changed as a setting says, or further.

        Args:
            all_frames: leave out none, however badly they are explained.
        """
        coarse_px = scan_statistics(changed, estimate_background=False).coarse_px
        config = SolverConfig(
            final_size=max(coarse_px, min(_SIZE_PX, changed.frame_px)),
            probe_modes=setting.probe_modes,
            refine_background=setting.refine_background,
            refine_positions=setting.refine_positions,
            leave_out_frames=not all_frames,
            prior="none",
        )
        return solve(changed, config, self.execution)
