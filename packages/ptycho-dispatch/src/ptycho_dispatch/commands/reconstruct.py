"""`ptycho reconstruct`: look, reconstruct, write, report."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_config.errors import EXIT_HANGUP, ConfigError, DataError, OutputError, exit_code
from ptycho_config.plaintext import one_line
from ptycho_dispatch.by_network import choose_method
from ptycho_dispatch.combinations import require_compatible
from ptycho_dispatch.commands.planning import require_room
from ptycho_dispatch.log import LOG_FILE, Screen, logging_to, writable_directory
from ptycho_dispatch.prior_bundle import PriorBundle
from ptycho_dispatch.results import prior_mean_rows, save_as_asked, tell_verdict, verdict_rows
from ptycho_dispatch.screen import say
from ptycho_dispatch.second_look import look_again
from ptycho_dispatch.settings import Settings, add_settings, read_options, read_settings
from ptycho_dispatch.signals import HEARING
from ptycho_dispatch.table import print_rows, print_table

if TYPE_CHECKING:
    import numpy as np

    from ptycho_config.models import RunConfig
    from ptycho_core import Reconstruction, Scan
    from ptycho_core.io.options import ReadOptions

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
_LONGEST_CELL = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the scan and the flags of the models."""
    parser.add_argument(
        "scans",
        metavar="SCAN",
        nargs="+",
        help="a file of any known format, or a name such as siemens-star; several share their probe in turn",
    )
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    """Reconstruct one scan, or several that were measured with the same probe.

    Raises:
        BackendUnavailableError: the method needs a network, and its core is not installed.
        ConfigError, DataError, OutputError, PolicyError: see their docstrings; all before or instead of work.
    """
    settings = read_settings(arguments)
    run_config = settings.run.config
    require_compatible(run_config, settings.solver.config)
    bundle = PriorBundle.open(run_config, settings.execution.config)
    root = writable_directory(run_config.output_dir)
    places = _places(arguments.scans, root, start=run_config.start)
    command = ["reconstruct", *arguments.scans]
    if len(places) == 1:
        ((source, directory),) = places
        with logging_to(writable_directory(directory), run_config.console_level) as screen:
            return _reconstruct(source, settings, directory, screen, None, command, bundle)[0]
    return _one_after_another(places, settings, command, bundle)


def _one_after_another(
    places: list[tuple[str, Path]], settings: Settings, command: list[str], bundle: PriorBundle | None
) -> int:
    """Reconstruct several scans; one that fails does not stop the others.

    All inputs are looked at before the first is worked on. A table closes the call; the exit code is that of
    the worst.
    """
    level = settings.run.config.console_level
    failed = _unreadable(places, settings)
    rows: list[tuple[str, str, str]] = []
    worst, probe = 0, None
    for source, directory in places:
        error = failed.get(source)
        began = time.perf_counter()
        if error is None:
            try:
                with logging_to(writable_directory(directory), level) as screen:
                    code, probe = _reconstruct(source, settings, directory, screen, probe, command, bundle)
            except KeyboardInterrupt as caught:
                worst = HEARING.exit_code or exit_code(caught)
                rows.append((source, "interrupted", ""))
                HEARING.was_told()
                break
            except Exception as caught:  # whatever it is, the scans behind it are not to blame
                error = caught
            else:
                rows.append((source, f"done in {time.perf_counter() - began:.1f} s", f"{directory}/"))
                worst = max(worst, code)
                if code >= EXIT_HANGUP:
                    rows[-1] = (source, "interrupted", f"{directory}/")
                    break
                continue
        text = one_line(str(error)) or type(error).__name__
        with logging_to(None, level):
            logger.error("%s: %s", source, text)
        rows.append((source, "failed", text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + " ..."))
        worst = max(worst, exit_code(error))
    rows += [(source, "not begun", "") for source, _ in places[len(rows) :]]
    print_table("", ("scan", "outcome", "result or reason"), rows)
    return worst


def _unreadable(places: list[tuple[str, Path]], settings: Settings) -> dict[str, Exception]:
    """Look at every input without reading its frames; return those that cannot be opened, and why."""
    from ptycho_core.io.opening import read_raw_scan

    failed: dict[str, Exception] = {}
    with logging_to(None, settings.run.config.console_level):
        for source, _ in places:
            try:
                read_raw_scan(source, read_options(settings.run.config))
            except Exception as error:  # it is told, and kept for the table
                failed[source] = error
                logger.error("%s cannot be opened and will be left out; the others go on.", source)
    return failed


def _places(sources: list[str], root: Path, *, start: Path | None) -> list[tuple[str, Path]]:
    """Give each scan its directory: the output directory itself, or one in it where there are several.

    Raises:
        ConfigError: one result cannot start several scans.
    """
    if len(sources) == 1:
        return [(sources[0], root)]
    if start is not None:
        raise ConfigError(
            f"`--start` goes on with one scan, and {len(sources)} were given. Give one scan, or leave it "
            "out: each scan starts from the probe of the one before it."
        )
    places: list[tuple[str, Path]] = []
    for source in sources:
        name = Path(source).name.split(".")[0] or "scan"
        taken = sum(place.name == name or place.name.startswith(f"{name}-") for _, place in places)
        places.append((source, root / (name if not taken else f"{name}-{taken + 1}")))
    return places


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


def _reconstruct(
    source: str,
    settings: Settings,
    directory: Path,
    screen: Screen,
    probe: np.ndarray | None,
    command: list[str],
    bundle: PriorBundle | None,
) -> tuple[int, np.ndarray]:
    from ptycho_core import solve
    from ptycho_core.io import read_scan
    from ptycho_core.solver import choose_arrays
    from ptycho_core.verdict import judged, with_uncertainty
    from ptycho_dispatch.both import network_and_solver
    from ptycho_dispatch.by_network import by_network
    from ptycho_dispatch.checkpoint import Checkpoint
    from ptycho_dispatch.interrupt import Interruptible
    from ptycho_dispatch.progress import progress_for

    run_config = settings.run.config
    # An explicit GPU that is absent fails here, before any data is read (POLICY-001).
    choose_arrays(settings.execution.config)
    start = _start(run_config.start, resume=run_config.resume, directory=directory)
    began = time.perf_counter()
    logger.info("Opening %s.", source)

    def read(options: ReadOptions) -> Scan:
        return _with_probe(read_scan(source, options), probe)

    def read_again(options: ReadOptions) -> Scan:
        what = "" if scan.origin is None else scan.origin.changed()
        if what:
            raise DataError(f"{source} {what}.")
        return read(options)

    scan = read(read_options(run_config))
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
    method = run_config.method
    if method == "auto":
        method = choose_method(scan, goes_on=start is not None, bundle=run_config.prior_bundle)
    if method == "solver":
        require_room(scan, solver, settings.execution.config)
    bar, progress = progress_for(screen)
    # One Ctrl-C spares the writing too: whoever asks late still gets every file.
    with Interruptible() as interrupt:
        with bar:
            callbacks = (progress, interrupt, Checkpoint(directory))
            if method in ("network", "both"):
                result = (by_network if method == "network" else network_and_solver)(
                    scan,
                    solver,
                    settings.execution.config,
                    callbacks,
                    backend=run_config.backend,
                    refine_probe=run_config.probe_refinement,
                )
            else:
                where = settings.execution.config
                result = solve(scan, solver, where, callbacks, start=start, prior_mean=bundle)
        screen.console = None
        solved = time.perf_counter()

        def judge(one: Scan, of_it: Reconstruction) -> Reconstruction:
            return judged(one, of_it, halves=run_config.frc, execution=settings.execution.config)

        advice: tuple[str, ...] = ()
        readable = True
        if not interrupt.asked:
            with _kept_if_gone("verdict from two halves of the frames") as halves:
                result = judge(scan, result)
            readable = halves.done
        doubted = _doubted(result, run_config, method) and start is None
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
                        one, solve(one, how, settings.execution.config, (interrupt,), prior_mean=bundle)
                    ),
                )
                scan, result, solver, advice = look.scan, look.result, look.solver, look.advice
        looked = time.perf_counter()
        if run_config.uncertainty and not interrupt.asked:
            result.save_arrays(directory)
            with _kept_if_gone("uncertainty"):
                result = with_uncertainty(
                    scan, result, solver, settings.execution.config, callbacks=(interrupt,)
                )
        halved = time.perf_counter()
        result = result if bundle is None else bundle.recorded(result)
        provenance = dict(result.provenance) | {"command": command, "settings": settings.provenance()}
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


def _start(given: Path | None, *, resume: bool, directory: Path) -> Reconstruction | None:
    from ptycho_core import Reconstruction

    if given is not None and resume:
        raise ConfigError(
            "`--start` and `--resume` exclude each other; `--resume` goes on in the output directory."
        )
    if given is not None:
        return Reconstruction.load(given)
    if resume:
        if not (directory / _RESULT).exists():
            raise ConfigError(
                f"`--resume`: {directory} holds no {_RESULT}. Leave the flag out to begin anew."
            )
        return Reconstruction.load(directory)
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
