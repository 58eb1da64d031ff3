"""Watch with the solver: it refines canvas and probe while frames come, and solves the scan at the end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.assemble import make_reconstruction
from ptycho_core.callbacks import Callback
from ptycho_core.live.intake import Intake
from ptycho_core.provenance import solver_provenance
from ptycho_core.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver import LiveFrames, LiveSolver, solve

__all__ = ["BySolver"]

#: Frames with which the solver begins at once, and those that are enough after a moment.
_ENOUGH, _FEW = 120, 4


class BySolver:
    """The solver at work on frames that come."""

    method = "solver"

    def __init__(
        self,
        config: SolverConfig | None = None,
        execution: SolverExecutionConfig | None = None,
        *,
        finish: Literal["solve", "polish", "none"] = "solve",
    ) -> None:
        """Choose how the scan is finished when it is complete.

        Args:
            finish: `solve` reconstructs it from the start, like any finished scan; `polish` goes on from the
                live image at full resolution; `none` keeps the live image.
        """
        self._config, self._execution = config or SolverConfig(), execution or SolverExecutionConfig()
        self._finish, self._solver = finish, LiveSolver(self._config, self._execution)
        self.traced = np.zeros(0, bool)
        self.news: list[str] = [self._solver.arrays_message]

    def limits(self) -> AbstractContextManager[Any]:
        """Return the context to work in."""
        return self._solver.arrays.limits()

    @property
    def size_px(self) -> int:
        """Side of the part of the detector that is looked at now."""
        return self._solver.size_px

    @property
    def rested(self) -> bool:
        """Whether there is nothing to do before another frame comes."""
        return self._solver.rested and bool(self.traced.all())

    def ready(self, intake: Intake, *, waited_s: float, moment_s: float, last: bool) -> bool:
        """Whether there are enough frames for an image, or a few and somebody has waited for a moment."""
        count = len(intake)
        return self._solver.begun or count >= _ENOUGH or (count >= _FEW and waited_s >= moment_s) or last

    def work(
        self, intake: Intake, *, known_px: np.ndarray | None, seconds: float, frames_per_second: float
    ) -> float:
        """Step on what came; returns the misfit of the newest frames relative to their amplitude."""
        frames = _frames(intake)
        solver = self._solver
        if not solver.begun or solver.wants_to_begin_again(len(intake)):
            solver.begin(frames, known_px)
            self.news.append(solver.message)
        misfit = solver.work(frames, seconds=seconds, frames_per_second=frames_per_second)
        self.traced = np.ones(len(intake), bool)
        return misfit

    def image(self) -> tuple[np.ndarray, np.ndarray]:
        """Return object and coverage (H, W) as they are now."""
        return self._solver.image()

    def kept(self, scan: Scan) -> Reconstruction:
        """Return the live image as a result."""
        obj, probe, origin = self._solver.state()
        return make_reconstruction(
            scan,
            obj=obj,
            probe=probe,
            origin_px=origin,
            method="solver",
            provenance=solver_provenance(scan, self._config, self._execution, self._solver.choice),
        )

    def finished(self, scan: Scan, callbacks: Sequence[Callback]) -> Reconstruction:
        """Return the result of the complete scan."""
        if self._finish == "none" or not self._solver.begun:
            return (
                self.kept(scan)
                if self._solver.begun
                else solve(scan, self._config, self._execution, callbacks)
            )
        start = self.kept(scan) if self._finish == "polish" else None
        return solve(scan, self._config, self._execution, callbacks, start=start)


def _frames(intake: Intake) -> LiveFrames:
    head = intake.head
    if head is None:
        raise RuntimeError("the first frames have not come")
    good = intake.good
    bad = None if good is None else ~good
    scan = replace(
        head,
        frames=intake.amplitude,
        positions_px=intake.positions_px,
        measurement="amplitude",
        dc="center",
        bad_pixels=bad,
    )
    return LiveFrames(scan, intake.amplitude, good, intake.positions_px)
