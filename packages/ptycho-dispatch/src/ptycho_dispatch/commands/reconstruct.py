"""`ptycho reconstruct`: look, reconstruct, write, report."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho_config.errors import ConfigError, DataError, OutputError
from ptycho_core.files import expanded
from ptycho_core.ranks import ALONE, Ranks
from ptycho_dispatch.by_network import choose_method
from ptycho_dispatch.combinations import require_compatible, require_shareable
from ptycho_dispatch.commands.planning import require_room
from ptycho_dispatch.log import LOG_FILE, Screen, logging_to, writable_directory
from ptycho_dispatch.prior_bundle import PriorBundle
from ptycho_dispatch.results import prior_mean_rows, save_as_asked, tell_verdict, verdict_rows
from ptycho_dispatch.screen import say
from ptycho_dispatch.second_look import look_again
from ptycho_dispatch.settings import Settings, add_settings, read_options, read_settings
from ptycho_dispatch.several import Place, one_after_another, places_of
from ptycho_dispatch.table import print_rows

if TYPE_CHECKING:
    import numpy as np

    from ptycho_config.models import RunConfig, SolverConfig
    from ptycho_core import Reconstruction, Scan
    from ptycho_core.io.options import ReadOptions
    from ptycho_dispatch.together.team import Team

__all__ = [
    "EXAMPLES",
    "add_arguments",
    "run",
]

EXAMPLES = (
    "ptycho reconstruct siemens-star --output-dir star",
    "ptycho reconstruct scan.npz --effort fast --max-time 90s",
    "ptycho reconstruct scan.npz --probe-modes 3 --pixel-size-m 8e-9",
    "ptycho reconstruct scan.npz --start reconstruction --seed 7",
    "ptycho reconstruct scan.npz --prior-bundle trained",
    "ptycho reconstruct scan.npz --refine-positions true --position-bound 5",
    "ptycho reconstruct scan.npz scan.npz --probe reconstruction/reconstruction.npz",
)

logger = logging.getLogger("ptycho")
_RESULT = "reconstruction.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the scan and the flags of the models."""
    parser.add_argument(
        "scans",
        metavar="SCAN",
        nargs="+",
        help="a file of any known format, or a name such as siemens-star; several share their probe in turn",
    )
    add_settings(parser)


def run(arguments: argparse.Namespace, team: Team | None = None) -> int:
    """Reconstruct one scan, or several that were measured with the same probe.

    Args:
        team: the other tasks of a launcher, where there are some.
    Raises:
        BackendUnavailableError: the method needs a network, and its core is not installed.
        ConfigError, DataError, OutputError, PolicyError: see their docstrings; all before or instead of work.
    """
    if team is not None:
        return _over_ranks(arguments, team)
    return _alone(arguments, read_settings(arguments))


def _alone(arguments: argparse.Namespace, settings: Settings) -> int:
    """Reconstruct in this process."""
    run_config = settings.run.config
    require_compatible(run_config, settings.solver.config)
    bundle = PriorBundle.open(run_config, settings.execution.config)
    root = writable_directory(run_config.output_dir)
    places = places_of(arguments.scans, root, start=run_config.start)
    job = _Job(settings, ["reconstruct", *arguments.scans], bundle, several=len(places) > 1)
    if len(places) == 1:
        with logging_to(writable_directory(root), run_config.console_level) as screen:
            return _reconstruct(job, places[0], screen, None)[0]
    return one_after_another(places, settings, partial(_reconstruct, job))


def _over_ranks(arguments: argparse.Namespace, team: Team) -> int:
    """Reconstruct with the other tasks of a launcher; the exit code on rank 0, 0 on the others.

    Raises:
        ConfigError: the tasks were given different settings, or cannot share the frames of a scan.
    """
    from ptycho_dispatch.together.one_disk import require_one_disk, require_same_inputs
    from ptycho_dispatch.together.scan_queue import over_ranks

    settings, scans = team.agreed(lambda: read_settings(arguments)), list(arguments.scans)
    run_config, execution = settings.run.config, settings.execution.config
    shared = execution.mpi
    if shared == "auto":
        shared = "scans" if len(scans) > 1 else "frames"
    if shared == "off":
        return _alone(arguments, settings) if team.ranks.is_first else 0

    def prepare() -> tuple[PriorBundle | None, list[Place]]:
        require_compatible(run_config, settings.solver.config)
        if shared == "frames":
            require_shareable(run_config, scans)
        root = expanded(run_config.output_dir)
        places = places_of(scans, root, start=run_config.start)
        return PriorBundle.open(run_config, execution), places

    bundle, places = team.ranks.one(prepare)
    if team.threads is not None and execution.threads is None:
        execution = execution.model_copy(update={"threads": team.threads})
        settings = replace(settings, execution=replace(settings.execution, config=execution))
    if team.ranks.is_first:
        with logging_to(None, run_config.console_level):
            for text in team.warnings:
                logger.warning("%s", text)
    about = {"rank": team.ranks.rank, "ranks": team.ranks.count, "host": team.ranks.host, "shared": shared}
    job = _Job(settings, ["reconstruct", *scans], bundle, several=len(places) > 1, about=about)
    if shared == "scans":
        return over_ranks(team, places, settings, partial(_reconstruct, job))
    require_one_disk(team.ranks, places[0].directory)
    require_same_inputs(team.ranks, places)
    job = replace(job, ranks=team.ranks)
    if not team.ranks.is_first:
        with logging_to(None, max(run_config.console_level, "WARNING", key=logging.getLevelName)) as screen:
            _reconstruct(job, places[0], screen, None)
        return 0
    with logging_to(writable_directory(places[0].directory), run_config.console_level) as screen:
        return _reconstruct(job, places[0], screen, None)[0]


@dataclass(frozen=True)
class _Job:
    """What the scans of a call have in common.

    Attributes:
        several: there are more scans than one; `--resume` then begins those that were not begun.
        about: which of several processes this is, for `run.json`.
        ranks: the processes that share the frames of a scan.
    """

    settings: Settings
    command: list[str]
    bundle: PriorBundle | None
    several: bool
    about: Mapping[str, Any] | None = None
    ranks: Ranks = ALONE

    def with_idle(self, count: int) -> _Job:
        """Return the same with the number of ranks that have nothing to do."""
        return replace(self, about=dict(self.about or {}) | {"idle": count})

    def told_by_ranks(self, told: list[list[float]]) -> _Job:
        """Return the same with the seconds that each rank waited for the others, and the bytes it sent."""
        waited_s, bytes_sent = zip(*told, strict=True)
        about = dict(self.about or {}) | {"waited_s": list(waited_s), "bytes_sent": list(bytes_sent)}
        return replace(self, about=about)


def _at_work(ranks: Ranks, scan: Scan, solver: SolverConfig) -> Ranks | None:
    """Return the ranks that share the frames of a scan; None on those for which there are too few frames.

    These wait for the end without using a processor.
    """
    from ptycho_core.solver.team import most_ranks

    most = ranks.from_first(most_ranks(scan.n_frames, solver))
    idle = ranks.count - most
    if idle <= 0:
        return ranks
    if ranks.is_first:
        have = "1 rank has" if idle == 1 else f"{idle} ranks have"
        logger.warning(
            "%s: %d frames are enough for %d rank%s of %d: %s nothing to do.",
            *(scan.name, scan.n_frames, most, "s" * (most != 1), ranks.count, have),
        )
    return ranks.part(most)


def _with_probe(scan: Scan, probe: np.ndarray | None) -> Scan:
    """Return the scan with the probe of the scan before it, if there was one.

    Raises:
        DataError: its frames are of another size.
    """
    if probe is None:
        return scan
    if probe.shape[-1] != scan.frame_px:
        raise DataError(
            f"{scan.name}: its frames have {scan.frame_px} px and those of the scan before it "
            f"{probe.shape[-1]} px, so they cannot share a probe. Reconstruct it in a call of its own."
        )
    logger.info("The probe of the scan before it starts this one.")
    return replace(scan, probe=probe, probe_source="given")


def _reconstruct(job: _Job, place: Place, screen: Screen, probe: np.ndarray | None) -> tuple[int, np.ndarray]:
    from ptycho_core import Reconstruction, solve
    from ptycho_core.io import read_scan
    from ptycho_core.solver import choose_arrays
    from ptycho_core.solver.earlier_result import needed_of
    from ptycho_core.verdict import judged, with_uncertainty
    from ptycho_dispatch.both import network_and_solver
    from ptycho_dispatch.by_network import by_network
    from ptycho_dispatch.checkpoint import Checkpoint, TileCheckpoint
    from ptycho_dispatch.interrupt import Interruptible
    from ptycho_dispatch.progress import progress_for

    settings, bundle, source, directory = job.settings, job.bundle, place.source, place.directory
    ranks, where, run_config = job.ranks, settings.execution.config, settings.run.config
    # An explicit GPU that is absent fails here, before any data is read (POLICY-001).
    choose_arrays(where)
    begun = _start(run_config.start, resume=run_config.resume, place=place, several=job.several)
    start = None if begun is None or ranks.count > 1 else Reconstruction.load(begun)
    began = time.perf_counter()
    logger.info("Opening %s.", source)

    def read(options: ReadOptions, ranks: Ranks = ALONE) -> Scan:
        return _with_probe(read_scan(source, options, ranks=ranks), probe)

    def read_again(options: ReadOptions) -> Scan:
        what = "" if scan.origin is None else scan.origin.changed()
        if what:
            raise DataError(f"{source} {what}.")
        return read(options)

    scan = read(read_options(run_config), ranks)
    solver = settings.solver.config
    if probe is not None and "probe_search" not in solver.model_fields_set:
        solver = solver.model_copy(update={"probe_search": False})
    if run_config.bad_frames == "off" and "leave_out_frames" not in solver.model_fields_set:
        solver = solver.model_copy(update={"leave_out_frames": False})
    if not run_config.probe_refinement and "probe_step" not in solver.model_fields_set:
        solver = solver.model_copy(update={"probe_step": 0.0})
    if solver.probe_step == 0 and scan.probe_source == "estimated":
        logger.warning(
            "%s: the file has no probe, so an estimated one is held as it is; name one with `--probe-file`.",
            scan.name,
        )
    if bundle is not None:
        bundle.require_fit(scan)
    opened = time.perf_counter()
    part = _at_work(ranks, scan, solver)
    if part is None:
        return 0, scan.probe
    if part is not ranks:
        job = job.with_idle(ranks.count - part.count)
        ranks = part
    if begun is not None and start is None:
        needed = partial(needed_of, scan=scan, config=solver, ranks=ranks)
        start = ranks.one(lambda: Reconstruction.load_near(begun, needed))
    method = run_config.method
    if ranks.count > 1:
        method = "solver"
    elif method == "auto":
        method = choose_method(scan, goes_on=start is not None, bundle=run_config.prior_bundle)
    if method == "solver":
        ranks.one(lambda: require_room(scan, solver, where, n_ranks=ranks.count))
    bar, progress = progress_for(screen)
    # One Ctrl-C spares the writing too: whoever asks late still gets every file.
    with Interruptible() as interrupt:
        with bar:
            keeper = Checkpoint(directory) if ranks.count == 1 else TileCheckpoint(directory, ranks)
            callbacks = (progress, interrupt, keeper) if ranks.is_first else (interrupt, keeper)
            if method in ("network", "both"):
                result = (by_network if method == "network" else network_and_solver)(
                    scan,
                    solver,
                    where,
                    callbacks,
                    backend=run_config.backend,
                    refine_probe=run_config.probe_refinement,
                )
            else:
                result = solve(scan, solver, where, callbacks, start=start, prior_mean=bundle, ranks=ranks)
        screen.console = None
        solved = time.perf_counter()

        def judge(one: Scan, of_it: Reconstruction) -> Reconstruction:
            return judged(one, of_it, halves=run_config.frc, execution=where, ranks=ranks)

        advice: tuple[str, ...] = ()
        readable = True
        if ranks.count > 1:
            # What fails on one rank ends all: the image is kept before that.
            if ranks.is_first:
                result.save_arrays(directory)
            if not ranks.any(interrupt.asked):
                result = judge(scan, result)
            told = ranks.everyone([round(ranks.waited_s, 3), ranks.bytes_sent])
            if not ranks.is_first:
                return 0, result.probe
            job = job.told_by_ranks(told)
        elif not interrupt.asked:
            with _kept_if_gone("verdict from two halves of the frames") as halves:
                result = judge(scan, result)
            readable = halves.done
        doubted = _doubted(result, run_config, method) and start is None and ranks.count == 1
        if doubted and readable and not interrupt.asked:
            result.save_arrays(directory)  # what is there already is not lost whatever comes
            with _kept_if_gone("look at how else the scan may be read"):
                look = look_again(
                    source,
                    scan,
                    result,
                    settings,
                    solver,
                    seconds=solved - opened,
                    should_stop=interrupt.should_stop,
                    read=read_again,
                    solve_and_judge=lambda one, how: judge(
                        one, solve(one, how, where, (interrupt,), prior_mean=bundle)
                    ),
                )
                scan, result, solver, advice = look.scan, look.result, look.solver, look.advice
        looked = time.perf_counter()
        if run_config.uncertainty and not interrupt.asked:
            result.save_arrays(directory)
            with _kept_if_gone("uncertainty"):
                result = with_uncertainty(scan, result, solver, where, callbacks=(interrupt,))
        halved = time.perf_counter()
        result = result if bundle is None else bundle.recorded(result)
        provenance = dict(result.provenance) | {"command": job.command, "settings": settings.provenance()}
        if job.about is not None:
            provenance["launched"] = dict(job.about)
        timings = dict(result.timings) | {"open": opened - began, "verdict": looked - solved}
        if run_config.uncertainty:
            timings["uncertainty"] = halved - looked
        result = replace(result, provenance=provenance, timings=timings)
        files = save_as_asked(result, directory, run_config)
    logger.info(
        "Opened in %.2f s, solved in %.2f s, written in %.2f s.",
        opened - began,
        solved - opened,
        time.perf_counter() - halved,
    )
    _report(scan, result, directory, [*files, LOG_FILE])
    tell_verdict(result)
    for line in advice:
        say(line)
    if interrupt.exit_code is not None:
        return interrupt.exit_code, result.probe
    return int(run_config.strict and not result.image_reliable), result.probe


@dataclass
class _Attempt:
    """Whether something that follows the image could be done."""

    done: bool = False


@contextmanager
def _kept_if_gone(what: str) -> Iterator[_Attempt]:
    """Keep the result, with a warning, where the scan can no longer be read for what follows it."""
    attempt = _Attempt()
    try:
        yield attempt
        attempt.done = True
    except (DataError, OSError, MemoryError) as error:
        if isinstance(error, OutputError):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        logger.warning("No %s: the frames could not be read again. The image is kept. %s", what, text)


def _start(given: Path | None, *, resume: bool, place: Place, several: bool) -> Path | None:
    """Return the file or directory of the result to go on from, if there is one.

    Raises:
        ConfigError: two were named, or there is none.
    """
    from ptycho_core.result.stored import holds_result

    if given is not None and resume:
        raise ConfigError(
            "`--start` and `--resume` exclude each other; `--resume` goes on in the output directory."
        )
    if given is not None:
        return given
    directory = place.directory
    if resume:
        if not holds_result(directory) and several:
            return None  # a call that was cut short had not come to it
        if not holds_result(directory):
            raise ConfigError(
                f"`--resume`: {directory} holds no {_RESULT}. Leave the flag out to begin anew."
            )
        return directory
    return None


def _report(scan: Scan, result: Reconstruction, directory: Path, names: list[str]) -> None:
    seconds = result.timings["total"]
    modes = len(result.probe)
    rows = [
        ("scan", scan.name),
        ("frames", _frames(scan, result)),
        ("object", f"{result.object.shape[0]} x {result.object.shape[1]} px"),
        ("method", f"{result.method}, {modes} probe mode{'s' if modes > 1 else ''}"),
        ("time", f"{seconds:.2f} s" + (" (interrupted)" if result.interrupted else "")),
        ("speed", f"{scan.n_frames / seconds:.0f} frames/s, whole run"),
        ("residual R", f"{result.data_residual:.4f}"),
        *prior_mean_rows(result),
        *verdict_rows(result),
        *_uncertainty(result),
        ("files", f"{directory}/: {', '.join(names)}"),
    ]
    if result.positions_given_px is not None:
        moved = result.run_record()["position_corrections"]
        rows.insert(
            -1, ("positions", f"moved by {moved['mean_px']:.2f} px, at most {moved['largest_px']:.2f}")
        )
    if not result.dose_carries_image:
        rows.insert(-1, ("image", "none: too few photons, the object was left transparent"))
    print_rows("", rows)


def _uncertainty(result: Reconstruction) -> list[tuple[str, str]]:
    """Return a row with the medians over the pixels, where they are known."""
    known = result.uncertainty()
    if known is None:
        return []
    text = f"{known['median_amplitude']:.2g} in amplitude, {known['median_phase_rad']:.2g} rad in phase"
    return [("uncertainty", f"{text} (median standard deviation)")]


def _doubted(result: Reconstruction, run_config: RunConfig, method: str) -> bool:
    """Whether it is worth while to try how the scan may be read otherwise."""
    verdict = result.verdict
    asked = run_config.diagnose == "auto" and method == "solver"
    return asked and verdict is not None and verdict.grade != "good" and result.dose_carries_image


def _frames(scan: Scan, result: Reconstruction) -> str:
    used = f"{result.n_frames} of {scan.frame_px} x {scan.frame_px} px"
    left_out = len(result.frames_used) - result.n_frames
    return f"{used}, {left_out} left out" if left_out else used
