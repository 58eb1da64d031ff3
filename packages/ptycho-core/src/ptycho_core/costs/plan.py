"""Foretell a run: what it does, how long each part takes here, and what it needs meanwhile.

How many epochs a level takes, and how many tries photons held out ask for, is known only when they are done;
what stands here is what they usually are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.costs.needs import Needs, canvas_of, needs_of, refused, share_of_a_rank
from ptycho_core.costs.speed import Speed, measured_speed
from ptycho_core.memory import memory_bytes
from ptycho_core.physics.lattice import lattice_of
from ptycho_core.physics.residual import KEPT_BYTES
from ptycho_core.scan import Scan
from ptycho_core.solver.device import choose_arrays
from ptycho_core.solver.frames import IN_MEMORY_BYTES, OrderedFrames
from ptycho_core.solver.most_probable import steps_of_the_prior
from ptycho_core.solver.rounds import rounds_expected
from ptycho_core.solver.schedule import LevelSchedule, plan_levels
from ptycho_core.solver.selection import photons_are_few
from ptycho_core.solver.start import Look, look_at, probe_search_wanted, probes_can_be_ranked
from ptycho_core.verdict.halves import HALVES_PIXELS

__all__ = ["Plan", "plan_of"]

#: Epochs that a level which ends by itself takes, of its most; the coarse one, and the others.
_COARSE_EPOCHS, _MIDDLE_EPOCHS = 0.4, 0.6
#: Passes over 120 frames at the coarse level that the search of a start probe takes.
_SEARCH_PASSES, _SEARCHED_FRAMES = 36, 120
#: Gradients for each step of the prior: some steps are taken back, and the misfit is asked for in between.
_GRADIENTS_PER_STEP, _GRADIENTS_BESIDE = 1.1, 3
#: Gradients over some frames that tell smooth objects from others, which about half of all runs ask for; and
#: the pixels of those frames.
_TRIES_OF_SHAPES, _JUDGED_PIXELS = 120, 4.2e5
#: Gradients over all frames where photons held out choose.
_HELD_OUT_GRADIENTS = 450
#: Programs and libraries are loaded; and pictures and files are made, for each pixel of the object.
_START_S, _PICTURES_S, _PICTURE_PIXEL_S = 0.9, 2.0, 1.2e-7
#: Opening a scan is timed on this one; frames are read once more on the way into the solver.
_TIMED_PIXELS = 1 << 22


@dataclass(frozen=True)
class Plan:
    """What a run will do and need, on this host.

    Attributes:
        seconds: part of the run -> how long it takes, about.
        needs: of each rank. memory_bytes: that a process may have here; None where the system does not tell.
        rounds_s_more: that rounds may take besides, if the probe turns out smaller than the start probe is.
        refusal: why it cannot fit, and what would; empty where it can.
        n_ranks: that share the scan, each with as many threads as one process has here.
        frames_per_rank: with those of its rim.
    """

    scan_name: str
    n_frames: int
    frame_px: int
    n_ranks: int
    frames_per_rank: int
    epochs: Mapping[int, int]
    seconds: Mapping[str, float]
    needs: Needs
    memory_bytes: int | None
    refusal: str
    rounds_s_more: float = 0.0

    @property
    def total_s(self) -> float:
        """Seconds of the whole run."""
        return sum(self.seconds.values())

    def record(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            "scan": self.scan_name,
            "frames": self.n_frames,
            "frame_px": self.frame_px,
            "ranks": self.n_ranks,
            "frames_per_rank": self.frames_per_rank,
            "object_px": list(self.needs.canvas),
            "epochs": {str(side): epochs for side, epochs in self.epochs.items()},
            "memory_bytes": self.needs.memory_bytes,
            "memory_allowed_bytes": self.memory_bytes,
            "scratch_bytes": self.needs.scratch_bytes,
            "frames_bytes": self.needs.frames_bytes,
            "frames_in_file": self.needs.frames_in_file,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "total_s": round(self.total_s, 3),
            "rounds_s_more": round(self.rounds_s_more, 3),
            "fits": not self.refusal,
            "refusal": self.refusal,
        }


def plan_of(
    scan: Scan,
    config: SolverConfig | None = None,
    execution: SolverExecutionConfig | None = None,
    *,
    n_ranks: int = 1,
    open_s: float = 0.0,
    halves: bool | None = None,
) -> Plan:
    """Foretell the run of a scan.

    Args:
        open_s: seconds that it took to open the scan.
        halves: two halves of the frames are compared; by default where the scan is small.

    Raises:
        BackendUnavailableError, PolicyError: as `choose_arrays`.
    """
    config = SolverConfig() if config is None else config
    execution = SolverExecutionConfig() if execution is None else execution
    speed = measured_speed(execution)
    _, choice = choose_arrays(execution)
    look = look_at(scan, config, np.random.default_rng(config.seed))
    held_out = config.uses_prior and photons_are_few(look)
    needs = needs_of(scan, config, held_out=held_out, n_ranks=n_ranks, gpu=choice.device != "cpu")
    whole = canvas_of(scan, config)
    n_frames, _ = share_of_a_rank(scan.n_frames, whole, scan.frame_px, n_ranks=n_ranks)
    work = _Work(look, speed, n_frames, config, held_out=held_out, canvas_px=math.prod(needs.canvas))
    seconds = {"open": _START_S + open_s, "read": work.read_s()}
    seconds |= work.seconds()
    if halves or (halves is None and scan.n_frames * scan.frame_px**2 <= HALVES_PIXELS):
        seconds["verdict"] = work.halves_s()
    seconds["files"] = _PICTURES_S + _PICTURE_PIXEL_S * math.prod(whole)
    return Plan(
        scan_name=scan.name,
        n_frames=scan.n_frames,
        frame_px=scan.frame_px,
        n_ranks=n_ranks,
        frames_per_rank=n_frames,
        epochs=work.epochs_of_sizes(),
        seconds=seconds,
        needs=needs,
        memory_bytes=memory_bytes(),
        refusal=refused(needs, n_frames=n_frames, frame_px=scan.frame_px),
        rounds_s_more=work.rounds_s_more(seconds["prior"]) if "prior" in seconds else 0.0,
    )


class _Work:
    """What a rank does with its frames."""

    def __init__(
        self,
        look: Look,
        speed: Speed,
        n_frames: int,
        config: SolverConfig,
        *,
        held_out: bool,
        canvas_px: int,
    ) -> None:
        self._look, self._speed, self._n_frames, self._config = look, speed, n_frames, config
        self._held_out, self._canvas_px = held_out, canvas_px
        self.epochs = _expected(self._levels(config)) if look.dose_carries_image or held_out else []

    def _levels(self, config: SolverConfig, *, warm_start: bool = False) -> list[LevelSchedule]:
        look = self._look
        return list(
            plan_levels(
                config,
                coarse_px=look.statistics.coarse_px,
                frame_px=look.scan.frame_px,
                fitted_px=look.fitted_px,
                n_frames=look.scan.n_frames,
                warm_start=warm_start,
                positions_are_near=look.positions_are_near,
            )
        )

    def epochs_of_sizes(self) -> dict[int, int]:
        """Return side -> epochs of the levels of that side, coarse to full."""
        found: dict[int, int] = {}
        for level, epochs in self.epochs:
            found[level.size_px] = found.get(level.size_px, 0) + epochs
        return found

    def read_s(self) -> float:
        """Time the reading of some frames as the solver does it, and say how long all take."""
        scan = self._look.scan
        count = min(scan.n_frames, max(1, _TIMED_PIXELS // scan.frame_px**2))
        part = scan.select(slice(0, count))
        began = time.perf_counter()
        OrderedFrames.read(part, np.random.default_rng(0).permutation(count))
        each = (time.perf_counter() - began) / count
        if 4 * self._n_frames * scan.frame_px**2 > IN_MEMORY_BYTES:
            each += self._speed.coding_s * scan.frame_px**2
        return self._n_frames * each

    def seconds(self) -> dict[str, float]:
        """Return how long the parts of the solver's work take."""
        look, config, side = self._look, self._config, self._look.scan.frame_px
        found: dict[str, float] = {}
        wanted = look.dose_carries_image and probe_search_wanted(config)
        if wanted and probes_can_be_ranked(look.statistics):
            searched = min(_SEARCHED_FRAMES, look.scan.n_frames) * _SEARCH_PASSES
            found["probe search"] = searched * self._speed.step(look.statistics.coarse_px)
        found["levels"] = self._levels_s(self.epochs, config)
        modes = self._modes(config)
        gradient = self._n_frames * modes * self._speed.gradient(look.with_prior_px)
        object_px = self._canvas_px * (look.with_prior_px / side) ** 2
        step = gradient + object_px * self._speed.canvas_s
        if self._held_out:
            found["photons held out"] = _HELD_OUT_GRADIENTS * step
        elif config.uses_prior:
            steps = steps_of_the_prior(
                self._n_frames * config.probe_modes * look.with_prior_px**2, effort=config.effort
            )
            seconds = steps * _GRADIENTS_PER_STEP * step + _GRADIENTS_BESIDE * gradient
            if config.prior == "auto" and look.statistics.noise_floor is not None:
                judged = min(_JUDGED_PIXELS / side**2, 100.0, look.scan.n_frames)
                seconds += _TRIES_OF_SHAPES * judged * modes * self._speed.gradient(side)
            found["prior"] = seconds
            if surely := rounds_expected(look.scan, config)[0]:
                found["rounds"] = surely * self._round_s(seconds)
        found["judgement"] = self._passes() * self._n_frames * modes * self._speed.residual(side)
        return found

    def rounds_s_more(self, prior_s: float) -> float:
        """Seconds of the rounds that may follow besides those of which the start probe is sure."""
        surely, at_most = rounds_expected(self._look.scan, self._config)
        return (at_most - surely) * self._round_s(prior_s) if at_most > surely else 0.0

    def _round_s(self, prior_s: float) -> float:
        """Levels and prior, once more."""
        levels = _expected(self._levels(self._config, warm_start=True))
        return self._levels_s(levels, self._config) + prior_s

    def _passes(self) -> int:
        """How often all frames are predicted for R.

        Where they are many, once more for its scale; all of that again with a raster's pattern in the probe.
        """
        scan = self._look.scan
        kept = 4 * scan.n_frames * scan.frame_px**2 <= KEPT_BYTES
        raster = self._config.probe_step > 0 and lattice_of(scan.positions_px) is not None
        return (1 if kept else 2) * (2 if raster else 1)

    def halves_s(self) -> float:
        """Two halves of the frames, with little effort and without a search."""
        config = self._config.model_copy(update={"effort": "fast", "probe_search": False})
        return self._levels_s(_expected(self._levels(config)), config)

    def _modes(self, config: SolverConfig) -> float:
        return 1 + (config.probe_modes - 1) * self._speed.more_modes

    def _levels_s(self, epochs: list[tuple[LevelSchedule, int]], config: SolverConfig) -> float:
        moving = self._speed.moving if config.refine_positions or config.frame_intensity else 1.0
        varied = 1 + config.probe_variations * (self._speed.varied - 1)
        factor = self._modes(config) * max(moving, 1.0) * max(varied, 1.0)
        n_batches = len(self._look.batches) * self._n_frames / self._look.scan.n_frames
        return factor * sum(
            count
            * (
                self._n_frames * self._speed.step(level.size_px)
                + n_batches * self._speed.batch(level.size_px)
            )
            for level, count in epochs
        )


def _expected(levels: list[LevelSchedule]) -> list[tuple[LevelSchedule, int]]:
    """Say how many epochs each level usually takes."""
    found: list[tuple[LevelSchedule, int]] = []
    before = 0
    for index, level in enumerate(levels):
        epochs = level.epochs
        if level.least_epochs is not None and before:
            epochs = min(epochs, max(level.least_epochs, before))
        if level.patience and epochs >= 2 * level.patience:
            share = _MIDDLE_EPOCHS if index else _COARSE_EPOCHS
            epochs = max(2 * level.patience, math.ceil(share * epochs))
        found.append((level, epochs))
        before = epochs
    return found
