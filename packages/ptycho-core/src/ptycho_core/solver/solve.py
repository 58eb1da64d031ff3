"""One run of the solver: choose a start, go from coarse to full, and make a result of a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.arrays import Arrays
from ptycho_core.physics import whole_and_rest
from ptycho_core.physics.canvas import resample_object
from ptycho_core.physics.gauge import probe_centre_px
from ptycho_core.result.assemble import make_reconstruction
from ptycho_core.result.callbacks import Callback
from ptycho_core.result.provenance import solver_provenance
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import central, mean_and_good
from ptycho_core.solver.background import FlatBackground, darkest_counts
from ptycho_core.solver.batches import plan_batches
from ptycho_core.solver.descent import Descent
from ptycho_core.solver.device import choose_arrays
from ptycho_core.solver.frame_parameters import FrameFreedoms, Freedoms, reach_px
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import Level
from ptycho_core.solver.monitor import Monitor
from ptycho_core.solver.schedule import LevelSchedule, plan_levels
from ptycho_core.solver.spectra import move_spectrum, probe_of, scaled_spectrum, seed_modes
from ptycho_core.solver.start import (
    SOFTENING,
    carried_over,
    corrected_positions,
    dose_carries_an_image,
    look_at,
    probe_is_searched,
    searched_probe,
)
from ptycho_core.solver.windows import MARGIN_PX, canvas_shape

__all__ = ["Run", "solve"]


class Run:
    """One run: what it was given, and its random numbers."""

    def __init__(
        self,
        scan: Scan,
        config: SolverConfig,
        execution: SolverExecutionConfig,
        arrays: Arrays,
        choice: Mapping[str, Any],
        monitor: Monitor,
        given_px: np.ndarray,
    ) -> None:
        self.given_px = given_px
        self.positions_changed = config.refine_positions or given_px is not scan.positions_px
        self.scan, self.config, self.arrays, self.monitor = scan, config, arrays, monitor
        self.execution = execution
        self.provenance = partial(solver_provenance, scan, config, execution, dict(choice))
        self.random = np.random.default_rng(config.seed)
        self.statistics = look_at(scan, config, monitor)
        self.flat: FlatBackground | None = None
        if config.refine_background:
            at_most = darkest_counts(*mean_and_good(scan))
            self.flat = FlatBackground(self.statistics.background, at_most=at_most)
        self.image_reliable = dose_carries_an_image(scan, self.statistics, monitor)
        self.softening = SOFTENING * self.statistics.counts_per_frame / scan.frame_px**2
        self.order, self.batches = plan_batches(
            scan.positions_px,
            frame_px=scan.frame_px,
            frames_per_batch=config.frames_per_batch,
            random=self.random,
        )
        self.shift_px = np.zeros(2)
        self.margin_px = MARGIN_PX
        self.own: FrameFreedoms | None = None
        freedoms = Freedoms.of(config)
        if freedoms.any:
            monitor.event(
                "freedoms",
                f"Found for each frame: {freedoms.describe()}; without the compiled kernel.",
            )
            self.own = FrameFreedoms(freedoms, scan.positions_px[self.order], self.order, self.random)
        if config.refine_positions:
            self.margin_px += reach_px(config.position_bound, scan.positions_px)

    @cached_property
    def frames(self) -> OrderedFrames:
        """All frames, read when they are first needed."""
        frames = OrderedFrames(self.scan, self.order, threads=self.execution.threads)
        self.monitor.lap("read")
        if frames.in_file:
            size = f"{4 * len(frames) * frames.frame_px**2 / 2**30:.1f} GiB"
            self.monitor.event(
                "room", f"The frames as the solver goes through them, {size}, lie in a temporary file."
            )
        return frames

    def from_start_probe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run all levels from a transparent object and the scan's start probe, or a better one."""
        spectrum = scaled_spectrum(self._start_probe(), self.scan, self.statistics.counts_per_frame)
        spectra = seed_modes(spectrum, self.config.probe_modes)
        if not self.image_reliable:
            return self._finished(spectra, None)
        levels = plan_levels(
            self.config,
            coarse_px=self.statistics.coarse_px,
            frame_px=self.scan.frame_px,
            n_frames=self.scan.n_frames,
            warm_start=False,
        )
        return self._descend(levels, spectra, None)

    def from_result(self, start: Reconstruction) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Go on from an earlier result, at full resolution."""
        scan, modes = self.scan, self.config.probe_modes
        obj, spectra, self.shift_px = carried_over(start, scan, margin_px=self.margin_px, probe_modes=modes)
        levels = plan_levels(
            self.config,
            coarse_px=scan.frame_px,
            frame_px=scan.frame_px,
            n_frames=scan.n_frames,
            warm_start=True,
        )
        return self._descend(levels, spectra, obj)

    def _start_probe(self) -> np.ndarray:
        if not (self.image_reliable and probe_is_searched(self.config, self.statistics, self.monitor)):
            return self.scan.probe[0]
        return searched_probe(
            self.scan,
            self.frames,
            self.statistics,
            self.arrays,
            self.config,
            softening=self.softening,
            random=self.random,
            monitor=self.monitor,
        )

    def _descend(
        self, levels: Sequence[LevelSchedule], spectra: np.ndarray, start: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        monitor, scan = self.monitor, self.scan
        monitor.start(scan.name, scan.frame_px, levels, self.batches)

        def offer_state(level: Level) -> None:
            monitor.offer_state(lambda: self._present(level, spectra))

        descent = Descent(
            random=self.random,
            ask_to_stop=monitor.ask_to_stop,
            after_step=monitor.after_step,
            after_epoch=monitor.after_epoch,
            epochs_allowed=monitor.epochs_allowed,
            offer_state=offer_state,
        )
        reference = probe_of(spectra)
        level: Level | None = None
        count = 0 if self.own is None else self.own.freedoms.variations
        variations = np.zeros((len(spectra), count, *spectra.shape[1:]), np.complex64)
        for schedule in levels:
            crop = central(schedule.size_px, scan.frame_px)
            own = self._own_at(schedule)
            fine = self._level(schedule.size_px, own)
            obj = start if level is None else self._carried(level, fine.shape, fine.scale)
            level = fine
            level.start(spectra[:, crop, crop], obj, variations[:, :, crop, crop] if own else None)
            del obj  # a copy of the canvas
            monitor.lap(f"read_{schedule.size_px}")
            monitor.begin_epochs()
            descent.run(level, schedule)
            spectra[:, crop, crop] = self.arrays.to_numpy(level.spectrum)
            if own is not None:
                variations[:, :, crop, crop] = level.variations()
            before = self.shift_px
            spectra = self._centred(spectra, reference)
            for variation in np.moveaxis(variations, 1, 0):
                variation[...] = move_spectrum(variation, before - self.shift_px)
            monitor.lap(f"level_{schedule.size_px}")
            if descent.stopped:
                break
        if self.flat is not None:
            monitor.event("background", self.flat.describe(), background=self.flat.counts)
        return self._finished(spectra, level)

    def _own_at(self, schedule: LevelSchedule) -> FrameFreedoms | None:
        """Return what the frames have of their own at a level; None where a plain level does."""
        own = self.own
        if own is None or schedule.moving:
            return own
        own.holding = True
        if own.freedoms.intensity or own.freedoms.variations:
            return own
        # The frames stay where they came to, as if they had been measured there.
        self.frames.positions_px = self.scan.positions_px[self.order] + own.correction_px
        return None

    def _present(self, level: Level, spectra: np.ndarray) -> Reconstruction:
        """Return the state in the middle of a level as a result that was interrupted here."""
        present, crop = spectra.copy(), central(level.size_px, self.scan.frame_px)
        present[:, crop, crop] = self.arrays.to_numpy(level.spectrum)
        return replace(self.result(*self._finished(present, level, passing=True)), interrupted=True)

    def result(self, obj: np.ndarray, probe: np.ndarray, origin: np.ndarray) -> Reconstruction:
        """Judge a state and record how it came about."""
        monitor, scan = self.monitor, self.scan
        if self.own is not None and self.config.refine_positions:
            moved = np.empty_like(self.own.correction_px)
            moved[self.order] = self.own.correction_px
            # Where the whole scan stands cannot be told from the frames; the canvas goes along.
            common = moved.mean(axis=0)
            origin = origin - common
            scan = replace(scan, positions_px=scan.positions_px + moved - common)
        return make_reconstruction(
            scan,
            obj=obj,
            probe=probe,
            origin_px=origin,
            method="solver",
            overwrite_obj=True,
            frames=self.frames.as_measured(),
            positions_given_px=self.given_px if self.positions_changed else None,
            frame_intensity=self._intensities(),
            image_reliable=self.image_reliable,
            history=tuple(monitor.history),
            events=tuple(monitor.events),
            timings=dict(monitor.timings),
            provenance=self.provenance(),
        )

    def _intensities(self) -> np.ndarray | None:
        """Brightness of each frame relative to the mean, in the order of the scan."""
        if self.own is None or not self.own.freedoms.intensity:
            return None
        found = np.empty(self.scan.n_frames)
        found[self.order] = np.square(self.own.weights[:, 0])
        return found

    def _finished(
        self, spectra: np.ndarray, level: Level | None, *, passing: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the object at the pixel of the full frame, the probe, and where the canvas lies.

        Args:
            passing: the object is not kept for long; a large one lies in a file.
        """
        scan = self.scan
        on_canvas = scan.positions_px - scan.positions_px.min(axis=0) + self.shift_px + self.margin_px
        shape = canvas_shape(whole_and_rest(on_canvas)[0], scan.frame_px, self.margin_px)
        obj = np.ones(shape, np.complex64) if level is None else self._carried(level, shape, 1.0, passing)
        origin = scan.positions_px[0] - (on_canvas[0] + scan.frame_px // 2)
        return obj, probe_of(spectra), origin

    def _level(self, size_px: int, own: FrameFreedoms | None) -> Level:
        return Level(
            self.frames,
            self.arrays,
            batches=self.batches,
            size_px=size_px,
            background=self.statistics.background,
            softening=self.softening,
            object_floor=self.config.object_floor,
            shift_px=self.shift_px,
            own=own,
            stabilised=own is not None
            and own.positions_move
            and size_px == self.scan.frame_px
            and self.statistics.noise_floor is not None,
            margin_px=self.margin_px,
            flat=self.flat,
        )

    def _carried(
        self, level: Level, shape: tuple[int, int], scale: float, passing: bool = False
    ) -> np.ndarray:
        obj = level.kept_object() if passing else self.arrays.to_numpy(level.object)
        if level.scale == scale and obj.shape == shape:
            return obj
        return resample_object(obj, shape, margin_px=self.margin_px, old_scale=level.scale, new_scale=scale)

    def _centred(self, spectra: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Move the probe back to where it started in its window, and the positions the other way.

        If psi(r) = P(r) O(r + c), then P(r + d) O(r + (c + d)) is the same wave, moved; so only the
        positions on the canvas change, and the object needs no interpolation.
        """
        limit = MARGIN_PX - 1.0
        drift = probe_centre_px(probe_of(spectra)) - probe_centre_px(reference)
        allowed = np.clip(self.shift_px + drift, -limit, limit) - self.shift_px
        self.shift_px = self.shift_px + allowed
        return move_spectrum(spectra, -allowed)


def solve(
    scan: Scan,
    config: SolverConfig | None = None,
    execution: SolverExecutionConfig | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    start: Reconstruction | None = None,
) -> Reconstruction:
    """Reconstruct object and probe from a scan.

    The solver descends on the amplitude misfit in small batches of frames, with momentum, from coarse to
    fine resolution, and steps back when it diverges. Nothing needs tuning. The result is the same for the
    same seed, arrays and number of threads.

    Args:
        config: what to compute; the defaults serve every scan.
        execution: where to run; by default NumPy on the CPU, torch where an NVIDIA GPU is seen.
        callbacks: told of progress, asked after every batch whether to stop.
        start: an earlier result of this scan (same frame size) to go on from, at full resolution.
    Returns:
        The reconstruction; `interrupted` is set where a callback or the time budget ended it early.
    Raises:
        ConfigError: a setting does not fit the scan, such as `final_size` above the frame size.
        BackendUnavailableError: the arrays asked for are not installed.
        PolicyError: an explicit GPU that this host lacks (POLICY-001).

    Example:
        >>> from ptycho_core import open_scan, solve
        >>> result = solve(open_scan("siemens-star"))
        >>> print(f"R = {result.data_residual:.3f}")  # doctest: +SKIP
    """
    config = config or SolverConfig()
    execution = execution or SolverExecutionConfig()
    arrays, choice = choose_arrays(execution)
    monitor = Monitor(callbacks, n_frames=scan.n_frames, max_time_s=config.max_time)
    monitor.event("arrays", choice.message, **choice.record())
    given_px = scan.positions_px
    if start is not None:
        scan = corrected_positions(scan, start, monitor)
    with arrays.limits():
        run = Run(scan, config, execution, arrays, choice.record(), monitor, given_px)
        obj, probe, origin = run.from_start_probe() if start is None else run.from_result(start)
    monitor.timings["solve"] = monitor.elapsed_s
    monitor.lap("other")
    result = run.result(obj, probe, origin)
    monitor.lap("report")
    monitor.timings["total"] = monitor.elapsed_s
    return replace(result, timings=dict(monitor.timings), interrupted=monitor.interrupted)
