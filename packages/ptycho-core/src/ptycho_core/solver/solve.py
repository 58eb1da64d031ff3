"""How a scan becomes an image: look at the scan, start, descend from coarse to full, finish."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Int64

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.arrays import Arrays, one_blas_thread
from ptycho_core.given import expect
from ptycho_core.held_out import SHARE
from ptycho_core.ranks import ALONE, Ranks
from ptycho_core.result.callbacks import Callback, told_of_the_end
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver.descent import descend
from ptycho_core.solver.device import choose_arrays
from ptycho_core.solver.earlier_result import start_from_result
from ptycho_core.solver.elsewhere import Onlookers
from ptycho_core.solver.finish import finish
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.lost_frames import put_lost_back
from ptycho_core.solver.monitor import Monitor
from ptycho_core.solver.most_probable import with_prior
from ptycho_core.solver.prior_mean import PriorMean
from ptycho_core.solver.registration import search_is_worth_it, searched_positions
from ptycho_core.solver.rounds import MOST_ROUNDS, another_round, goes_on
from ptycho_core.solver.selection import (
    chosen_by_held_out_photons,
    photons_are_few,
    thorough_would_hold_out,
    why_none_are_held_out,
)
from ptycho_core.solver.spectra import probe_of
from ptycho_core.solver.start import (
    Look,
    Start,
    begin_again,
    leave_out,
    look_at,
    once_more,
    start_from_scan,
)
from ptycho_core.solver.state import Solution
from ptycho_core.solver.team import balance, check_ranks
from ptycho_core.solver.tiles import Share
from ptycho_core.solver.unseen_frames import frames_held_out, positions_are_far_off

__all__ = ["solve"]

#: Places up to so many times the bound of a position are searched before anything else.
_SEARCHED = 2.4
#: Where the search found the scan strained, the descent has to look for that too, for so many epochs.
_EPOCHS_OF_A_STRAINED_SCAN = 45
#: As many as the configuration allows.
MOST_MODES = 8
#: So many pixels of frames may be held twice in memory.
_SMALL_PIXELS = 1 << 27


def solve(
    scan: Scan,
    config: SolverConfig | None = None,
    execution: SolverExecutionConfig | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    start: Reconstruction | None = None,
    prior_mean: PriorMean | None = None,
    judged: bool = True,
    ranks: Ranks = ALONE,
) -> Reconstruction:
    """Reconstruct object and probe from a scan.

    The solver descends on the amplitude misfit in small batches of frames, with momentum, from coarse to
    fine resolution, and steps back when it diverges. Nothing needs tuning. The result is the same for the
    same seed, arrays and number of threads.

    Args:
        config: what to compute; the defaults serve every scan.
        execution: where to run; by default NumPy on the CPU, torch where an NVIDIA GPU is seen.
        callbacks: told of progress, asked after every batch whether to stop; `ProgressBar()` shows a bar.
        start: an earlier result of this scan (same frame size) to go on from, at full resolution. Of several
            ranks each may have it with the part of the object that it needs (`earlier_result.needed_of`).
        prior_mean: given a scan, makes the image that is expected of it, as a trained network does: a
            `Reconstruction`, or an object (H, W) and the scan coordinate (y, x) of its pixel [0, 0]. Where
            photons are few it is asked with those that are kept; photons that it has not seen choose how
            strongly the object is pulled to it, 0 among others, and it is asked again with all of them. Its
            phase, ramp and place do not matter. Where no photons are held out it is not asked.
        judged: measure the residual, and give a verdict. Where the image alone is wanted that can be left
            out: there is no verdict then, and the residual is NaN, but for positions on a raster.
        ranks: the processes that solve the scan together (`ptycho_core.ranks`). All of them call this, with
            the same scan and settings; each reads its own frames and holds its own part of the object.

    Several threads may solve at the same time. A process must not be forked meanwhile: the child has the
    locks of the mathematical libraries and nobody who opens them. Start it by `spawn` or `forkserver`.

    Returns:
        The reconstruction; `interrupted` is set where a callback or the time budget ended it early. Of
        several ranks the first gets the whole object, in a file where it is large; the others get the same
        with the object, coverage and origin of their own part.
    Raises:
        ConfigError: a setting does not fit the scan, such as a `start` of another frame size; or a
            `prior_mean` came with a `start`, `effort` fast or `prior` none, which leave no place for it; or
            something was asked for that several ranks cannot do.
        BackendUnavailableError: the arrays asked for are not installed.
        PolicyError: an explicit GPU that this host lacks (POLICY-001).
        TypeError: something else was given than is described here; says what was expected.

    Example:
        >>> from ptycho_core import open_scan, solve
        >>> result = solve(open_scan("siemens-star"))
        >>> print(f"R = {result.data_residual:.3f}")  # doctest: +SKIP
    """
    config = SolverConfig() if config is None else config
    execution = SolverExecutionConfig() if execution is None else execution
    _check_given(scan, config, execution, callbacks, start)
    _check_prior_mean(prior_mean, config, start)
    with told_of_the_end(callbacks), one_blas_thread():
        return _solved(scan, config, execution, callbacks, start, prior_mean, judged, ranks)


def _solved(
    scan: Scan,
    config: SolverConfig,
    execution: SolverExecutionConfig,
    callbacks: Sequence[Callback] = (),
    start: Reconstruction | None = None,
    prior_mean: PriorMean | None = None,
    judged: bool = True,
    ranks: Ranks = ALONE,
    *,
    in_parts: bool = False,
) -> Reconstruction:
    """Do what `solve` says, with what was checked.

    Args:
        in_parts: rank 0 gets its part of the object as well, and all of them reach as far as a frame does.
    """
    check_ranks(ranks, scan, config, prior_mean=prior_mean)
    config, modes_taken = _with_modes_of(scan, config, start)
    arrays, choice = choose_arrays(execution)
    monitor = Monitor(callbacks, n_frames=scan.n_frames, max_time_s=config.max_time, ranks=ranks)
    monitor.tell(choice.event(), *modes_taken)
    random = np.random.default_rng(config.seed)
    sent_before, waited_before_s = ranks.bytes_sent, ranks.waited_s

    onlookers = Onlookers(ranks, scan, kernel=arrays.kernel)

    def image_of(part: Scan, how: SolverConfig) -> Reconstruction:
        return _solved(part, how, execution, judged=False, ranks=ranks, in_parts=True)

    def both_images_of(parts: Sequence[Scan], how: SolverConfig) -> Sequence[Reconstruction]:
        small = sum(part.n_frames * part.frame_px**2 for part in parts) <= _SMALL_PIXELS
        if arrays.name != "numpy" or arrays.threads < 2 or ranks.count > 1 or not small:
            return [image_of(part, how) for part in parts]
        # Two threads that never wait for each other are done sooner than two that share every step.
        alone = partial(
            _solved, config=how, execution=execution.model_copy(update={"threads": 1}), judged=False
        )
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(alone, parts))

    asked, given, near = config, scan, False
    if config.refine_positions and start is None:
        far_off = positions_are_far_off(
            scan,
            image_of,
            probe_modes=config.probe_modes,
            unseen_by=onlookers.residuals,
        )
        if far_off or search_is_worth_it(
            scan,
            image_of,
            threads=execution.threads,
            look=onlookers.misfits_at,
        ):
            found = searched_positions(
                scan,
                image_of,
                bound_px=_SEARCHED * config.position_bound,
                should_stop=monitor.should_stop,
                threads=execution.threads,
                look=onlookers.misfits_at,
            )
            if found is not None and found.settled:
                scan = replace(scan.moved_to(found.positions_px), probe=found.probe, probe_source="given")
                config, near = config.model_copy(update={"probe_search": False}), not found.strained
                if found.strained and config.epochs is None:
                    config = config.model_copy(update={"epochs": _EPOCHS_OF_A_STRAINED_SCAN})
            if found is not None:
                monitor.tell(found.event())
        monitor.lap("search")

    with arrays.limits():
        look = look_at(
            scan,
            config,
            random,
            earlier=start,
            given_px=given.positions_px,
            positions_are_near=near,
            ranks=ranks,
        )
        ours = look.team.random(random, config.seed)
        # An earlier result has seen all photons: none could be held out of it.
        few = config.uses_prior and start is None and photons_are_few(look)
        monitor.tell(*look.events(to_be_tried=few))
        if prior_mean is not None and not few:
            why = why_none_are_held_out(look.scan, look.statistics, config)
            text = f"Prior mean: not asked for (strength 0), {why}."
            monitor.tell(RunEvent("prior_mean", text, {"strength": 0.0, "starts": False}))
        quick = config.uses_prior and config.effort == "default"
        if quick and thorough_would_hold_out(look.scan, look.statistics):
            text = (
                "The frames are noisy: `--effort thorough` lets photons held out choose start, probe and "
                "prior, which takes minutes."
            )
            monitor.tell(RunEvent("effort", text))

        least_px = look.scan.positions_px.min(axis=0)
        frames = OrderedFrames.read(look.scan, look.order, threads=execution.threads, least_px=least_px)
        monitor.lap("read")
        monitor.tell(*frames.events())

        if start is None:
            begun = start_from_scan(look, frames, arrays, random, monitor)
        else:
            begun = start_from_result(start, look)
        monitor.lap("start_probe")
        monitor.tell(*begun.events())

        def finished(solution: Solution, share: Share = "tile" if in_parts else "whole") -> Reconstruction:
            return finish(
                solution,
                begun.frame_parameters,
                look,
                frames,
                monitor.record(),
                arrays,
                execution=execution,
                resolved=choice.record(),
                judged=judged,
                share=share,
            )

        split = frames.split_photons(ours) if few else None
        if few:
            text = (
                f"Photons are few: {100 * SHARE:.0f} % of those of every pixel are held out, and will choose "
                "start, probe and prior."
            )
            monitor.tell(RunEvent("held_out", text))
        solution = begun.solution
        if begun.levels:
            monitor.announce(look.scan, begun.levels, look.batches, judge=finished)
            judge = config.leave_out_frames and start is None and begun.frame_parameters is None
            fitted = frames if split is None else split[0]

            look_for_lost = partial(
                put_lost_back,
                begun=begun,
                look=look,
                frames=frames,
                monitor=monitor,
                image_of=image_of,
                onlookers=onlookers,
                threads=execution.threads,
            )
            moving = config.refine_positions and start is None
            solution, outlying = descend(
                begun,
                look,
                fitted,
                arrays,
                ours,
                monitor,
                judge_frames=judge,
                look_for_lost=look_for_lost if moving else None,
            )
            if outlying.size:
                kept = np.setdiff1d(np.arange(look.scan.n_frames), outlying)
                try:
                    look, told = leave_out(outlying, look, random)
                except DataError as error:  # to look again is to read again
                    monitor.tell(_not_left_out(outlying, error))
                else:
                    monitor.tell(told)
                    frames = OrderedFrames.read(
                        look.scan,
                        look.order,
                        threads=execution.threads,
                        at_hand=None if look.team.several else frames.as_measured().select(kept),
                        least_px=look.scan.positions_px.min(axis=0),
                    )
                split = frames.split_photons(ours) if few else None
                fitted = frames if split is None else split[0]
                begun = begin_again(begun, solution, look)
                solution = begun.solution
                monitor.announce(look.scan, begun.levels, look.batches, judge=finished)
                solution, _ = descend(begun, look, fitted, arrays, ours, monitor)
            if begun.flat_background is not None:
                monitor.tell(begun.flat_background.event())
        if config.uses_prior and not monitor.interrupted and (few or begun.levels):
            solution, look, plain, moved = _most_probable(
                solution, begun, look, frames, split, arrays, monitor, prior_mean=prior_mean
            )
            if plain:
                monitor.announce(look.scan, begun.levels, look.batches, judge=finished)
                solution, _ = descend(begun, look, frames, arrays, ours, monitor)
            before = math.inf
            for number in range(1, MOST_ROUNDS + 1):
                probe = probe_of(solution.spectra)
                if not goes_on(moved, before=before, probe=probe, scan=look.scan, config=config):
                    break
                monitor.tell(another_round(number, moved))
                again, before = once_more(begun, solution, look), moved
                monitor.announce(look.scan, again.levels, look.batches, judge=finished)
                found, _ = descend(again, look, frames, arrays, ours, monitor)
                if monitor.should_stop():
                    break  # what this round has found had no prior yet
                solution, look, _, moved = _most_probable(
                    found, again, look, frames, None, arrays, monitor, prior_mean=None
                )
            monitor.lap("prior")
        elif few and begun.levels:
            # Stopped on the way: the probe has the power of the photons that were kept.
            factor = np.float32(1 / math.sqrt(1 - SHARE))
            solution = replace(
                solution, spectra=solution.spectra * factor, variations=solution.variations * factor
            )

    if ranks.count > 1:
        told = balance(
            ranks,
            n_frames=look.order.size,
            elapsed_s=monitor.elapsed_s,
            sent_before=sent_before,
            waited_before_s=waited_before_s,
        )
        monitor.tell(told)
    monitor.timings["solve"] = monitor.elapsed_s
    monitor.lap("other")
    result = finished(solution)
    monitor.lap("report")
    monitor.timings["total"] = monitor.elapsed_s
    result = replace(result, timings=dict(monitor.timings), interrupted=monitor.interrupted)
    if config.refine_positions and start is None and begun.levels and not monitor.interrupted:
        without = asked.model_copy(update={"refine_positions": False})
        try:
            return _borne_out(
                given,
                result,
                both_images_of,
                lambda: _solved(
                    given,
                    without,
                    execution,
                    callbacks,
                    prior_mean=prior_mean,
                    ranks=ranks,
                    in_parts=in_parts,
                ),
                onlookers,
            )
        except DataError as error:
            text = f"The refined positions were not tried on frames held out, and are kept. {error}"
            event = RunEvent("not_read_again", text)
            monitor.tell(event)
            return replace(result, events=(*result.events, event))
    return result


def _not_left_out(outlying: Int64[np.ndarray, " outlying"], error: DataError) -> RunEvent:
    """Say that frames which do not fit the others are kept, as the scan cannot be read any more."""
    text = (
        f"{outlying.size} frames do not fit all others and are kept: the scan cannot be looked at again. "
        f"{error}"
    )
    return RunEvent("not_read_again", text, {"frames": outlying.tolist()})


def _check_given(
    scan: object, config: object, execution: object, callbacks: Sequence[object], start: object
) -> None:
    """Refuse what is of another type, before any work.

    Raises:
        TypeError: in one line.
    """
    expect(scan, Scan, "solve, as `scan`,", "a Scan; `open_scan(FILE)` returns one")
    expect(config, SolverConfig, "solve, as `config`,", "a SolverConfig, such as SolverConfig(effort='fast')")
    expect(execution, SolverExecutionConfig, "solve, as `execution`,", "a SolverExecutionConfig")
    expect(callbacks, Sequence, "solve, as `callbacks`,", "a list of Callback")
    for callback in callbacks:
        expect(callback, Callback, "solve, in `callbacks`,", "each to be a Callback")
    if start is not None:
        expected = "a Reconstruction; `Reconstruction.load(PLACE)` reads one"
        expect(start, Reconstruction, "solve, as `start`,", expected)


def _check_prior_mean(prior_mean: object, config: SolverConfig, start: Reconstruction | None) -> None:
    """Refuse what is no function, and what leaves no place for it.

    Raises:
        ConfigError, TypeError: in one line.
    """
    if prior_mean is None:
        return
    if not callable(prior_mean):
        expect(prior_mean, type(solve), "solve, as `prior_mean`,", "a function from a Scan to its image")
    if start is not None:
        raise ConfigError(
            "`prior_mean` is judged by photons held out, and `start` has seen all of them. Leave one out."
        )
    if not config.uses_prior:
        raise ConfigError(
            f"`prior_mean` is part of the prior, which `prior` {config.prior} with `effort` {config.effort} "
            "leaves out. Use `prior` auto and `effort` default."
        )


def _most_probable(
    solution: Solution,
    begun: Start,
    look: Look,
    frames: OrderedFrames,
    split: tuple[OrderedFrames, OrderedFrames] | None,
    arrays: Arrays,
    monitor: Monitor,
    *,
    prior_mean: PriorMean | None,
) -> tuple[Solution, Look, bool, float]:
    """Take the prior into account, by a rule or, where photons are held out, by what they choose.

    Returns:
        The solution; the look, which knows now whether the photons carry an image; whether the levels are to
        be gone through with all photons instead; and by what part of its contrast the prior moved the object
        in the end, 0 where nothing is to follow.
    """
    flat = begun.flat_background
    background = look.statistics.background if flat is None else flat.counts
    if split is None:
        solution, told = with_prior(
            solution,
            begun.frame_parameters,
            look,
            frames,
            arrays,
            background=background,
            should_stop=monitor.should_stop,
        )
        monitor.tell(told)
        return solution, look, False, told.data["moved"]
    chosen = chosen_by_held_out_photons(
        solution if begun.levels else None,
        begun.solution,
        begun.frame_parameters,
        look,
        frames,
        split,
        arrays,
        background=background,
        should_stop=monitor.should_stop,
        prior_mean=prior_mean,
    )
    monitor.tell(*chosen.events)
    look = replace(look, dose_carries_image=chosen.carries_an_image)
    return chosen.solution, look, chosen.plain, 0.0


def _borne_out(
    scan: Scan,
    result: Reconstruction,
    both_images_of: Callable[[Sequence[Scan], SolverConfig], Sequence[Reconstruction]],
    at_those_given: Callable[[], Reconstruction],
    onlookers: Onlookers,
) -> Reconstruction:
    """Keep refined positions where frames held out say that they are better; else solve at those given."""
    began = time.perf_counter()
    refined_px = (
        result.positions_px if scan.frame_numbers is None else result.positions_px[scan.frame_numbers]
    )
    found = frames_held_out(scan, result, refined_px, both_images_of, unseen_by=onlookers.residuals)
    if found is None:
        return result
    kept = result if found.accepted else replace(at_those_given(), provenance=result.provenance)
    spent = time.perf_counter() - began
    timings = {**kept.timings, "held_out": spent, "total": result.timings["total"] + spent}
    return replace(kept, events=(*kept.events, found.event()), timings=timings)


def _with_modes_of(
    scan: Scan, config: SolverConfig, start: Reconstruction | None
) -> tuple[SolverConfig, Sequence[RunEvent]]:
    """Take as many probe modes as the probe to begin with has, where no number was chosen; and say so."""
    whose, probe = ("the scan's probe", scan.probe) if start is None else ("the earlier result", start.probe)
    count = min(len(probe), MOST_MODES)
    guessed = start is None and scan.probe_source == "estimated"
    if "probe_modes" in config.model_fields_set or count == 1 or guessed:
        return config, ()
    text = f"{count} probe modes, as many as {whose} has; `--probe-modes 1` takes the first alone."
    return config.model_copy(update={"probe_modes": count}), (RunEvent("probe_modes", text),)
