"""The solver on frames that are still coming.

Each round takes the newest frames and a sample of the older ones, those that were seen least before all, and
steps on them as the solver does on its batches. It begins at the coarse level and rises when every frame was
seen often enough and the finer steps can keep up with the frames. What it holds is a preview: where a scan is
complete, `solve` looks at all of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Complex64, Float32, Float64

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.arrays import Arrays
from ptycho_core.kernel import Steps
from ptycho_core.live.canvas import LiveCanvas
from ptycho_core.live.intake import Intake
from ptycho_core.result.assemble import make_reconstruction
from ptycho_core.result.callbacks import Callback
from ptycho_core.result.provenance import solver_provenance
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import central, scan_statistics
from ptycho_core.solver import solve
from ptycho_core.solver.batches import Batch, cut_evenly
from ptycho_core.solver.device import choose_arrays
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import OBJECT_LIMIT, Level
from ptycho_core.solver.monitor import Silent
from ptycho_core.solver.probe_search import search_start_probe
from ptycho_core.solver.schedule import LevelSchedule, plan_levels
from ptycho_core.solver.spectra import probe_of, scaled_spectrum, seed_modes
from ptycho_core.solver.start import (
    carries_an_image,
    probe_search_wanted,
    probes_can_be_ranked,
    softening_counts,
)

__all__ = ["BySolver", "LiveFrames", "LiveSolver"]

#: Frames that the search of a start probe looks at; with fewer it is repeated when there are more.
_SEARCH_FRAMES, _SEARCH_AGAIN = 120, 3
#: Frames stepped on in one go: they are copied for it, so that they lie side by side.
_MOST_AT_ONCE = 240
#: How often, on the mean, each frame is seen at a level before the next one is worth its price; at the last
#: level, how often in all while nothing new comes.
_SEEN_ENOUGH, _SEEN_IN_ALL = 8.0, 40.0
#: The next level has to be able to show each new frame so many times while it uses this part of the time.
_TIMES_EACH, _PART_OF_TIME = 4.0, 0.7
#: What the misfit may be relative to that of a transparent object, and what it may be in any case.
_DIVERGED, _WORST = 1.2, 0.8


@dataclass(frozen=True, eq=False)
class LiveFrames:
    """The frames so far, as a scan, and once more as plain arrays; `good` is None where all pixels count."""

    scan: Scan
    amplitude: Float32[np.ndarray, "frame n n"]
    good: np.ndarray | None
    positions_px: Float64[np.ndarray, "frame 2"]


class LiveSolver:
    """Object and probe from frames that come one after the other.

    Attributes:
        size_px: side of the level at work.
        message, arrays_message: what was found when it began, and where it runs, for the log.
        choice: where it runs, as data for `run.json`.
        steps_taken: frames stepped on, each as often as it was.
    """

    def __init__(
        self, config: SolverConfig | None = None, execution: SolverExecutionConfig | None = None
    ) -> None:
        """Choose the arrays.

        Raises:
            BackendUnavailableError, PolicyError: as for `solve`.
        """
        self._config = config or SolverConfig()
        self._xp, choice = choose_arrays(execution or SolverExecutionConfig())
        self.message, self.arrays_message, self.choice = "", choice.message, choice.record()
        self.size_px, self.steps_taken = 0, 0
        self._random = np.random.default_rng(self._config.seed)
        self._canvas: LiveCanvas | None = None
        self._levels: list[LevelSchedule] = []
        self._at, self._searched, self._slower = 0, 0, 1.0
        self._seen = np.zeros(0, np.int64)
        self._seconds_each: dict[int, float] = {}
        self._at_first = self._of_late = math.nan

    @property
    def arrays(self) -> Arrays:
        """The arrays at work; `limits` is the context to work in."""
        return self._xp

    @property
    def begun(self) -> bool:
        """Whether there is an image."""
        return self._canvas is not None

    def begin(self, frames: LiveFrames, known_px: np.ndarray | None = None) -> None:
        """Look at the first frames, choose a probe, and start from a transparent object.

        Args:
            known_px: (K, 2) positions of frames to come, where they are known.
        """
        scan = frames.scan
        statistics = scan_statistics(scan, estimate_background=self._config.background == "auto")
        self._counts, self._background = statistics.counts_per_frame, statistics.background
        self._softening = softening_counts(statistics, scan.frame_px)
        self._hopeless = not carries_an_image(statistics)
        probe, said = scan.probe[0], "as given"
        if probe_search_wanted(self._config) and probes_can_be_ranked(statistics):
            searched = search_start_probe(
                scan,
                OrderedFrames.read(scan, np.arange(scan.n_frames)),
                statistics,
                self._xp,
                softening=self._softening,
                object_floor=self._config.object_floor,
                random=self._random,
                progress=Silent(),
            )
            probe, said = searched.probe, searched.describe()
        self.message = f"Start probe from {scan.n_frames} frames: {said}."
        self._spectrum = seed_modes(scaled_spectrum(probe, scan, self._counts), self._config.probe_modes)
        self._levels = list(
            plan_levels(
                self._config.model_copy(update={"refine_positions": False, "epochs": None}),
                coarse_px=statistics.coarse_px,
                frame_px=scan.frame_px,
                n_frames=scan.n_frames,
                warm_start=False,
            )
        )
        self._first_spectrum = self._spectrum.copy()
        self._at, self._searched, self._at_first = 0, scan.n_frames, math.nan
        self.size_px = self._levels[0].size_px
        positions = (
            frames.positions_px if known_px is None else np.concatenate([frames.positions_px, known_px])
        )
        self._canvas = LiveCanvas(scan.frame_px, self.size_px, positions)
        self._seen = np.zeros(0, np.int64)

    def wants_to_begin_again(self, n_frames: int) -> bool:
        """Whether the start probe was chosen from few frames and there are many more now."""
        return self._searched < _SEARCH_FRAMES and n_frames >= min(
            _SEARCH_FRAMES, _SEARCH_AGAIN * self._searched
        )

    @property
    def converged(self) -> bool:
        """Whether more steps on the frames so far would change nothing that an eye sees."""
        at_last = self._at == len(self._levels) - 1
        return self.begun and at_last and len(self._seen) > 0 and float(self._seen.mean()) >= _SEEN_IN_ALL

    def work(self, frames: LiveFrames, *, seconds: float, frames_per_second: float) -> float:
        """Step on the frames that were never seen, and on a sample of the others while there is time.

        Args:
            seconds: to be used, about; every new frame is seen once in any case.
            frames_per_second: that came lately; a finer level has to keep up with them.
        Returns:
            The amplitude misfit of the first round relative to the amplitude, before its steps.
        """
        canvas, until = self._canvas, time.perf_counter() + seconds
        if canvas is None:
            raise RuntimeError("`begin` comes before `work`")
        count = len(frames.positions_px)
        new = np.arange(len(self._seen), count)
        self._seen = np.concatenate([self._seen, np.zeros(len(new), np.int64)])
        if len(new):
            canvas.hold(frames.positions_px[new])
            light = np.square(np.abs(probe_of(self._spectrum))).sum(axis=0).astype(np.float32)
            canvas.add_coverage(frames.positions_px[new], light)
        if self._hopeless:
            self._seen += 1
            return 1.0
        first = math.nan
        while True:
            waiting = np.flatnonzero(self._seen == 0)[::-1]  # the newest before those that came before them
            fresh = waiting[:_MOST_AT_ONCE]
            older = self._sample(min(max(24, len(fresh)), _MOST_AT_ONCE), without=fresh)
            misfit = self._round(frames, np.concatenate([fresh, older]), canvas)
            first = misfit if math.isnan(first) else first
            if len(waiting) <= len(fresh):
                self._rise_if_worthwhile(canvas, frames_per_second)
                if time.perf_counter() >= until or self.converged:
                    return first

    def _sample(self, count: int, *, without: np.ndarray) -> np.ndarray:
        """Draw frames, those seen least before the others."""
        seen = self._seen.astype(np.float64) + self._random.random(len(self._seen))
        seen[without] = np.inf
        count = min(count, len(seen) - len(without))
        return np.argpartition(seen, count - 1)[:count] if count else np.zeros(0, np.int64)

    def _round(self, frames: LiveFrames, chosen: np.ndarray, canvas: LiveCanvas) -> float:
        """One pass over some frames, in batches."""
        began = time.perf_counter()
        schedule = self._levels[self._at]
        chosen = self._random.permutation(chosen)
        size, side = self.size_px, frames.amplitude.shape[-1]
        crop = central(size, side)
        good = frames.good
        level = Level(
            OrderedFrames(
                frames.amplitude[chosen],
                good[chosen] if good is not None and good.ndim == 3 else good,
                frames.positions_px[chosen],
                least_px=canvas.least_px,
            ),
            self._xp,
            batches=_batches(len(chosen), self._config.frames_per_batch),
            size_px=size,
            background=self._background,
            softening=self._softening,
            object_floor=self._config.object_floor,
            shape=canvas.object.shape,
            counts_per_frame=self._counts,
        )
        level.start(self._spectrum[:, crop, crop], canvas.object)
        steps = Steps(
            object_step=schedule.object_step * self._slower,
            probe_step=schedule.probe_step * self._slower,
            object_momentum=schedule.object_momentum,
            probe_momentum=schedule.probe_momentum,
        )
        misfit = sum(level.step(index, steps) for index in range(len(level.batches)))
        level.settle(OBJECT_LIMIT)
        misfit /= max(level.total_amplitude, 1e-9)
        self._seen[chosen] += 1
        if self._explains(misfit):
            canvas.object = self._xp.to_numpy(level.object)
            self._spectrum[:, crop, crop] = self._xp.to_numpy(level.spectrum)
        else:
            self._start_again(canvas)
        self.steps_taken += len(chosen)
        self._seconds_each[size] = (time.perf_counter() - began) / len(chosen)
        return misfit

    def _explains(self, misfit: float) -> bool:
        """Whether the frames of late are explained better than the first ones were by a transparent object.

        What is not has diverged. A scan may begin beside the object, where a transparent one explains all.
        """
        if not math.isfinite(misfit):
            return False
        if math.isnan(self._at_first):
            self._at_first = self._of_late = misfit
        self._of_late = 0.7 * self._of_late + 0.3 * misfit
        return self._of_late <= max(_DIVERGED * self._at_first, _WORST)

    def _start_again(self, canvas: LiveCanvas) -> None:
        """Forget the image and begin with half the steps, for good."""
        canvas.rise(self._levels[0].size_px)
        canvas.object = np.ones_like(canvas.object)
        self._spectrum = self._first_spectrum.copy()
        self._at, self.size_px = 0, self._levels[0].size_px
        self._slower /= 2
        self._at_first = math.nan
        self._seen[:] = 0

    def _rise_if_worthwhile(self, canvas: LiveCanvas, frames_per_second: float) -> None:
        if self._at + 1 >= len(self._levels) or self._seen.mean() < _SEEN_ENOUGH * (self._at + 1):
            return
        following = self._levels[self._at + 1].size_px
        price_s = self._seconds_each[self.size_px] * (following / self.size_px) ** 2
        if price_s * frames_per_second * _TIMES_EACH > _PART_OF_TIME:
            return
        canvas.rise(following)
        self._at, self.size_px = self._at + 1, following

    def image(self) -> tuple[Complex64[np.ndarray, "height width"], Float32[np.ndarray, "height width"]]:
        """Return object and coverage at the pixel of the full frame."""
        canvas = self._canvas
        if canvas is None:
            raise RuntimeError("there is no image before `begin`")
        return canvas.at(canvas.frame_px), canvas.coverage

    def state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return object, probe (P, N, N) and where the canvas lies, as `make_reconstruction` takes them."""
        canvas = self._canvas
        if canvas is None:
            raise RuntimeError("there is no image before `begin`")
        return canvas.at(canvas.frame_px).copy(), probe_of(self._spectrum), canvas.origin_px


def _batches(n_frames: int, frames_per_batch: int) -> list[Batch]:
    """Cut frames into batches of about that size, each its own cell."""
    n_batches = max(1, round(n_frames / frames_per_batch))
    cut = cut_evenly(slice(0, n_frames), n_batches)
    return [Batch(frames, frames) for frames in cut if frames.stop > frames.start]


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
    def idle(self) -> bool:
        """Whether there is nothing to do before another frame comes."""
        return self._solver.converged and bool(self.traced.all())

    def ready(self, intake: Intake, *, waited_s: float, moment_s: float, last: bool) -> bool:
        """Whether there are enough frames for an image, or a few that have waited for a moment."""
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
        if not self._solver.begun:
            return solve(scan, self._config, self._execution, callbacks)
        if self._finish == "none":
            kept = self.kept(scan)
            # A frame that turned out to be far from all others may have widened the canvas.
            needed = np.ptp(scan.positions_px, axis=0) + 2 * scan.frame_px
            return kept if (np.array(kept.object.shape) <= 2 * needed).all() else kept.cropped()
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
