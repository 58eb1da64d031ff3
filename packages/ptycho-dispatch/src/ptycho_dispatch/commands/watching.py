"""`ptycho watch`: reconstruct a scan while it is being measured."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho_config.errors import ConfigError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.flags import add_flags, given_flags
from ptycho_config.models import RunConfig, SolverConfig, WatchConfig
from ptycho_config.naming import Part
from ptycho_config.sources import Loaded, load_parts
from ptycho_dispatch import settings
from ptycho_dispatch.execution_parts import beside_the_solver
from ptycho_dispatch.log import LOG_FILE, Screen, logging_to, writable_directory
from ptycho_dispatch.network_record import resolved_execution
from ptycho_dispatch.results import save_as_asked, tell_verdict, verdict_rows
from ptycho_dispatch.signals import HEARING
from ptycho_dispatch.table import print_rows

if TYPE_CHECKING:
    from ptycho_core import Reconstruction
    from ptycho_core.live import LiveRecord, Worker

__all__ = ["EXAMPLES", "LIVE_PICTURE", "PARTS", "add_arguments", "run"]

EXAMPLES = (
    "ptycho watch siemens-star --replay 500 --output-dir live",
    "ptycho watch scan.npz --replay 2000 --finish polish",
    "ptycho watch scan.npz --replay 500 --method network --model-path trained",
)

logger = logging.getLogger("ptycho")
LIVE_PICTURE = "live.png"
#: What the solver finds for each frame, or beside them, it finds when all have come.
_FOUND_AT_THE_END = ("refine_positions", "frame_intensity", "probe_variations", "refine_background")
_NOT_OFFERED = frozenset(
    {"do_stitching", "resume", "start", "prior_bundle", "probe_refinement", "share_probe"}
)
#: Frames are taken as they come, one by one; the finished scan is for `ptycho reconstruct`.
_NOT_OFFERED |= {"frames", "exclude_frames", "region", "missing_positions", "diagnose", "frc", "uncertainty"}
PARTS: tuple[Part[Any], ...] = (
    Part(WatchConfig, title="Watching: when it is complete, how often it is drawn"),
    Part(RunConfig, exclude=_NOT_OFFERED, title="Input and output"),
    Part(SolverConfig, rename={"epochs": "solver_epochs"}, title="Solver: what it computes"),
    Part(SolverExecutionConfig, exclude=frozenset({"mpi"}), title="Execution: where it runs"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source and the flags of the models."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help=(
            "a growing HDF5 or NPY file, or a directory of frame files (NPY, TIFF, NPZ), with the positions "
            "in it or beside it; with --replay, any scan that `ptycho reconstruct` opens"
        ),
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings; flags and environment win")
    add_flags(parser, *PARTS)


def run(arguments: argparse.Namespace) -> int:
    """Watch a source until it is complete, and write what `ptycho reconstruct` writes.

    Raises:
        BackendUnavailableError: the network's core is not installed.
        BundleError, ConfigError, DataError, OutputError, PolicyError: see their docstrings.
    """
    loaded = load_parts(
        PARTS, flags=given_flags(arguments), env=os.environ, yaml=arguments.config, also=settings.PARTS
    )
    watched, run_config = loaded[0].config, loaded[1].config
    method = _method(watched, run_config)
    _require_finish(watched, loaded[2].config)
    directory = writable_directory(run_config.output_dir)
    with logging_to(directory, run_config.console_level) as screen:
        return _watch(arguments.source, loaded, method, directory, screen)


def _method(watched: WatchConfig, run_config: RunConfig) -> str:
    """Choose the solver, or the network where one was named.

    Raises:
        ConfigError: the method has no network, or cannot be live.
    """
    method = run_config.method
    if method == "both":
        raise ConfigError(
            "`--method both` trains a network, which takes longer than a scan. Use `--method solver`, or "
            "`--method network --model-path BUNDLE` with a trained one."
        )
    if method == "auto":
        method = "solver" if watched.model_path is None else "network"
    if method == "network" and watched.model_path is None:
        raise ConfigError(
            "`--method network` needs a trained one: `--model-path BUNDLE`. `ptycho train` makes it from a "
            "scan with the same probe."
        )
    if method == "network" and watched.finish == "polish":
        raise ConfigError(
            "`--finish polish` goes on with the solver. With a network use `--finish solve` (all frames once "
            "more, as a whole) or `--finish none`."
        )
    return method


def _require_finish(watched: WatchConfig, solver: SolverConfig) -> None:
    """Refuse what only the finish can find where there is none.

    Raises:
        ConfigError: such a setting came with `--finish none`.
    """
    asked = [name for name in _FOUND_AT_THE_END if getattr(solver, name)]
    if watched.finish == "none" and asked:
        flags = " and ".join(f"`--{name.replace('_', '-')}`" for name in asked)
        raise ConfigError(
            f"{flags}: not while the frames come, and `--finish none` ends there. Use `--finish solve`, or "
            "`ptycho reconstruct` with the complete scan."
        )


def _watch(source: str, loaded: tuple[Loaded[Any], ...], method: str, directory: Path, screen: Screen) -> int:
    from ptycho_core.live import LiveOptions, open_source, watch
    from ptycho_core.live.arrival import NO_ANSWER_S
    from ptycho_dispatch.checkpoint import Checkpoint
    from ptycho_dispatch.interrupt import Interruptible
    from ptycho_dispatch.progress import progress_for

    watched, run_config = loaded[0].config, loaded[1].config
    worker, record_of = _worker(loaded, method)
    reading = settings.read_options(run_config)
    # Somewhat later than whoever looks for frames notices it, if Python is free to.
    HEARING.expect_life(watched.timeout + 2 * NO_ANSWER_S)
    frames = open_source(
        source,
        replay=watched.replay,
        first_number=watched.first_number,
        reading=reading,
        timeout_s=watched.timeout,
    )
    options = LiveOptions(
        refresh_s=watched.refresh, timeout_s=watched.timeout, expected=watched.expected_frames
    )
    logger.info(
        "Watching %s by the %s; %s shows the image as it grows.", source, method, directory / LIVE_PICTURE
    )
    shown, progress = progress_for(screen)
    with Interruptible() as interrupt:
        with shown:
            result, record = watch(
                frames,
                worker,
                options=options,
                reading=None if watched.replay is not None else reading,  # a replay was read as a whole
                picture=directory / LIVE_PICTURE,
                on_report=progress.on_live,
                callbacks=(progress, interrupt, Checkpoint(directory)),
            )
        screen.console = None
        names = ("watch", "run", "solver", "execution")
        told = {name: one.provenance() for name, one in zip(names, loaded, strict=True)}
        provenance = {**result.provenance, **record_of(result.provenance), "settings": told}
        provenance["command"] = ["watch", source]
        result = replace(result, provenance=provenance)
        files = save_as_asked(result, directory, run_config)
    drawn = [LIVE_PICTURE] if (directory / LIVE_PICTURE).exists() else []
    _report(source, result, record, directory, [*files, *drawn, LOG_FILE])
    tell_verdict(result)
    if interrupt.exit_code is not None:
        return interrupt.exit_code
    return int(run_config.strict and not result.image_reliable)


def _worker(
    loaded: tuple[Loaded[Any], ...], method: str
) -> tuple[Worker, Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """Make what will do the work; whatever is missing for it is missed before a frame is read.

    Returns:
        The worker, and what adds to the provenance of its result where it ran.
    """
    watched, run_config, solver, execution = (one.config for one in loaded)
    if method == "solver":
        from ptycho_core.live import BySolver

        return BySolver(solver, execution, finish=watched.finish), lambda known: {}
    from ptycho_core.backend import get_backend, require_backend
    from ptycho_core.learning.trained import Trained
    from ptycho_core.live import ByNetwork
    from ptycho_dispatch.dispatcher import trainer_of

    backend = run_config.backend
    if "backend" not in run_config.model_fields_set:
        backend = trainer_of(watched.model_path)
    require_backend(backend)
    where, warned = beside_the_solver(backend, execution.accelerator)
    for text in warned:
        logger.warning("%s", text)
    trained = get_backend(backend).load(watched.model_path, where)
    if not isinstance(trained, Trained):
        raise ConfigError(f"`{backend}` cannot image frames one by one. Use `--method solver`.")
    worker = ByNetwork(trained, keep_live=watched.finish == "none")
    return worker, lambda known: {"network": resolved_execution(where, warned, known)}


def _report(
    source: str, result: Reconstruction, record: LiveRecord, directory: Path, names: list[str]
) -> None:
    summary = record.summary()
    latency = summary["latency_s"]
    came = f"{record.frames} of {result.frame_px} x {result.frame_px} px"
    if record.left_out:
        came += f", {len(record.left_out)} left out"
    if record.repeated:
        came += f", {record.repeated} came again"
    rows = [
        ("scan", source),
        ("frames", came),
        ("ended", record.ended),
        ("method", result.method),
        ("live", f"{record.sustained_frames_per_second:.0f} frames/s, {record.pictures} pictures"),
        (
            "latency",
            f"median {latency['median']:.2f} s, 95 % {latency['95 %']:.2f} s, longest {latency['max']:.2f} s",
        ),
        ("finish", f"{record.finish_s:.2f} s" + (" (interrupted)" if result.interrupted else "")),
        ("residual R", f"{result.data_residual:.4f}"),
        *verdict_rows(result),
        ("files", f"{directory}/: {', '.join(names)}"),
    ]
    if not result.dose_carries_image:
        rows.insert(-1, ("image", "none: too few photons, the object was left transparent"))
    print_rows("", rows)
