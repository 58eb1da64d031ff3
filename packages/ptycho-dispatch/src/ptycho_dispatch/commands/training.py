"""`ptycho train`: a network learns a scan through the physics, without labels."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho_config.errors import EXIT_INTERRUPTED, BackendUnavailableError, ConfigError, TrainingError
from ptycho_config.execution import NetworkExecution, PyTorchExecutionConfig
from ptycho_config.flags import add_flags
from ptycho_config.models import RunConfig, SolverConfig, TrainingConfig
from ptycho_config.naming import Part
from ptycho_dispatch.dispatcher import follows
from ptycho_dispatch.execution_parts import (
    ForBackend,
    announce_execution,
    check_core,
    execution_parts,
    load_for_backend,
    runs_by_default,
)
from ptycho_dispatch.log import LOG_FILE, logging_to, writable_directory
from ptycho_dispatch.network_record import NetworkRecord, TrainingPlan, sha256_of, write_legacy_pictures
from ptycho_dispatch.settings import READING_FIELDS, read_options
from ptycho_dispatch.table import print_rows

if TYPE_CHECKING:
    from ptycho_core import Scan
    from ptycho_core.backend import Backend, TrainedModel
    from ptycho_core.result.callbacks import Callback

__all__ = ["EXAMPLES", "PARTS", "add_arguments", "run"]

EXAMPLES = (
    "ptycho train --train-data-file scan.npz --nepochs 3 --output-dir trained",
    "ptycho train --train-data-file siemens-star --max-time 10s --torch-accelerator cpu",
    "ptycho train --train-data-file scan.npz --max-time 5s --torch-logger none --batch-size 12",
)

logger = logging.getLogger("ptycho")

_RUN_FIELDS = {
    *READING_FIELDS,
    "probe_refinement",
    "console_level",
    "do_stitching",
    "resume",
}
PARTS: tuple[Part[Any], ...] = (
    Part(TrainingConfig, title="Training: data, loss and length"),
    *execution_parts(),
    Part(RunConfig, exclude=frozenset(RunConfig.model_fields) - _RUN_FIELDS, title="How to read the scan"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of all models, and `--config`."""
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings; flags and environment win")
    add_flags(parser, *PARTS)


def run(arguments: argparse.Namespace, *, find: Callable[[str], Backend] | None = None) -> int:
    """Train, write the bundle, and show what the network makes of its own scan.

    Args:
        find: gives the core of a name; the installed one when not given.
    Raises:
        BackendUnavailableError: the backend or its framework is not installed.
        ConfigError, DataError, OutputError, PolicyError, TrainingError: see their docstrings.
    """
    told = load_for_backend(PARTS, arguments)
    training, run_config = told.others
    config, execution = training.config, told.execution.config
    if config.train_data_file is None:
        raise ConfigError("`--train-data-file` is missing: a scan file, or a name such as siemens-star.")
    try:
        backend = check_core(told, find)
    except BackendUnavailableError:
        # What is missing changes nothing in what the policy of the run is.
        with logging_to(None, run_config.config.console_level):
            _begin(told, config)
        raise
    if isinstance(execution, PyTorchExecutionConfig) and follows(execution):
        return _follow(backend, config, execution, run_config.config)
    directory = writable_directory(config.output_dir)
    with logging_to(directory, run_config.config.console_level) as screen:
        _begin(told, config)
        record = NetworkRecord({"training": training, "run": run_config}, told.execution, told.warned)
        return _lead(backend, config, execution, run_config.config, directory, screen, record)


def _begin(told: ForBackend, config: TrainingConfig) -> None:
    """Say what the policy of the run is, and write the registry."""
    from ptycho_dispatch.dispatcher import prepare

    announce_execution(told)
    execution = told.execution.config
    # The execution is resolved already; where it was not chosen, the dispatcher says that it holds.
    chosen = None if runs_by_default(told.execution) else execution
    prepare(config, chosen, defaults=lambda: execution)


def _lead(
    backend: Backend,
    config: TrainingConfig,
    execution: NetworkExecution,
    run_config: RunConfig,
    directory: Path,
    screen: Any,
    record: NetworkRecord,
) -> int:
    from ptycho_core.citations import cited, together
    from ptycho_dispatch.interrupt import Interruptible
    from ptycho_dispatch.progress import progress_for

    began = time.perf_counter()
    scans = _opened(config, run_config)
    start = _stored(backend, directory, execution) if run_config.resume else None
    shown, progress = progress_for(screen)
    if screen.console is not None and isinstance(execution, PyTorchExecutionConfig):
        # Two bars on one terminal would write over each other.
        execution = execution.model_copy(update={"enable_progress_bar": False})
    with Interruptible() as interrupt:
        with shown:
            plan = TrainingPlan()
            callbacks = (progress, interrupt, plan)
            trained = _trained(backend, scans, config, execution, directory, start, callbacks)
        screen.console = None
        bundle = trained.with_given_probe(scans.given.probe).save(directory)
        logger.info("The bundle is %s.", bundle)
        imaged = scans.test or scans.train
        result = trained.reconstruct(imaged)
        provenance = dict(result.provenance) | record.provenance(imaged, result.provenance)
        provenance |= {"batches_per_epoch": plan.batches_per_epoch, "bundle_sha256": sha256_of(bundle)}
        if run_config.probe_refinement and not run_config.resume:
            solver = cited(solver=SolverConfig(probe_modes=len(scans.train.probe), prior="none"))
            provenance["papers"] = together(solver, provenance["papers"])
        result = replace(result, history=trained.history or result.history, provenance=provenance)
        files = result.save(directory)
        legacy = write_legacy_pictures(files, directory)
    scan = scans.train
    rows = [
        ("scan", f"{scan.name}: {scan.n_frames} frames of {scan.frame_px} x {scan.frame_px} px"),
        ("network", f"{config.model.architecture}, {trained.n_parameters:,} parameters"),
        ("epochs", str(len(trained.history)) + (" (interrupted)" if trained.interrupted else "")),
        ("time", f"{time.perf_counter() - began:.1f} s"),
        ("residual R", f"{result.data_residual:.4f}"),
        ("files", f"{directory}/: {', '.join([bundle.name, *files, *legacy, LOG_FILE])}"),
    ]
    print_rows("", rows)
    return interrupt.exit_code or (EXIT_INTERRUPTED if trained.interrupted else 0)


def _follow(
    backend: Backend, config: TrainingConfig, execution: PyTorchExecutionConfig, run_config: RunConfig
) -> int:
    """Train along with the first process; it alone says and writes what came of it."""
    from ptycho_dispatch.dispatcher import prepare
    from ptycho_dispatch.interrupt import Interruptible

    with logging_to(None, "CRITICAL"), Interruptible() as interrupt:
        prepare(config, execution)
        scans = _opened(config, run_config)
        start = _stored(backend, config.output_dir, execution) if run_config.resume else None
        try:
            _trained(backend, scans, config, execution, config.output_dir, start, (interrupt,))
        except TrainingError:
            # All processes fail together. A code other than 0 here would have the first one killed while it
            # still saves the last good weights.
            return 0
    return 0


@dataclass(frozen=True)
class _Scans:
    """The scan as given, the one to train on with its probe refined, and the one to test on."""

    given: Scan
    train: Scan
    test: Scan | None


def _opened(config: TrainingConfig, run_config: RunConfig) -> _Scans:
    from ptycho_core.io import read_scan
    from ptycho_dispatch.by_network import with_refined_probe

    logger.info("Opening %s.", config.train_data_file)
    options = read_options(run_config)
    given = scan = read_scan(str(config.train_data_file), options)
    test_scan = None
    if config.test_data_file is not None and config.test_data_file != Path():
        # The files of positions and probe belong to the scan to train on.
        options = replace(options, positions_file=None, probe_file=None)
        test_scan = read_scan(str(config.test_data_file), options)
    if run_config.probe_refinement and not run_config.resume:
        scan = with_refined_probe(scan)
        if test_scan is not None:
            test_scan = replace(test_scan, probe=scan.probe)
    return _Scans(given, scan, test_scan)


def _trained(
    backend: Backend,
    scans: _Scans,
    config: TrainingConfig,
    execution: NetworkExecution,
    directory: Path,
    start: TrainedModel | None,
    callbacks: tuple[Callback, ...],
) -> TrainedModel:
    return backend.train(
        scans.train,
        config,
        execution,
        callbacks=callbacks,
        test_scan=scans.test,
        directory=directory,
        start=start,
    )


def _stored(backend: Backend, directory: Path, execution: NetworkExecution) -> TrainedModel:
    """Open the bundle to go on with."""
    from ptycho_config.errors import BundleNotFoundError

    try:
        start = backend.load(directory, execution)
    except BundleNotFoundError as error:
        raise ConfigError(
            f"`--resume`: {directory} holds no bundle to go on with. Leave the flag out to train anew."
        ) from error
    logger.info("Going on with the network in %s after %d epochs.", directory, len(start.history))
    return start
