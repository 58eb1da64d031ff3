"""`ptycho infer`: a trained network reconstructs a scan by one pass over its frames."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptycho_config.errors import BackendUnavailableError, ConfigError, DataError
from ptycho_config.execution import InferenceExecution, PyTorchExecutionConfig, RuntimeExecutionConfig
from ptycho_config.flags import add_flags, adopt_flags, given_flags
from ptycho_config.models import InferenceConfig, RunConfig
from ptycho_config.naming import Part, shortened
from ptycho_dispatch.commands import training
from ptycho_dispatch.execution_parts import (
    BY_RUNTIME,
    ForBackend,
    announce_execution,
    check_core,
    execution_parts,
    load_for_backend,
    runs_by_default,
)
from ptycho_dispatch.log import LOG_FILE, logging_to, writable_directory
from ptycho_dispatch.network_record import NetworkRecord, write_legacy_pictures
from ptycho_dispatch.results import tell_verdict, verdict_rows
from ptycho_dispatch.settings import READING_FIELDS, read_options
from ptycho_dispatch.table import print_rows

if TYPE_CHECKING:
    from ptycho_core import Reconstruction, Scan
    from ptycho_core.backend import TrainedModel

__all__ = ["EXAMPLES", "PARTS", "add_arguments", "run"]

EXAMPLES = (
    "ptycho infer --model-path trained --test-data scan.npz --output-dir next",
    "ptycho infer --model-path trained/wts.h5.zip --test-data scan.npz --torch-accelerator cpu",
    "ptycho infer trained/network.onnx scan.npz",
)

logger = logging.getLogger("ptycho")
_RUN_FIELDS = {*READING_FIELDS, "console_level"}
_EXECUTION_FIELDS = {"accelerator", "devices", "num_workers", "inference_batch_size", "precision"}
PARTS: tuple[Part[Any], ...] = (
    Part(InferenceConfig, exclude=frozenset({"model", "debug"}), title="Inference: network and scan"),
    *execution_parts(_EXECUTION_FIELDS, runtimes=True),
    Part(RunConfig, exclude=frozenset(RunConfig.model_fields) - _RUN_FIELDS, title="How to read the scan"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of all models, and `--config`."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="same as --model-path")
    parser.add_argument("scan", nargs="?", metavar="SCAN", help="same as --test-data-file")
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings; flags and environment win")
    add_flags(parser, *PARTS)
    shown = parser.add_argument_group("What is shown and kept besides")
    shown.add_argument(
        "--comparison-plot",
        "--comparison_plot",
        action="store_true",
        help="draw comparison_plot.png against the true object of the scan",
    )
    for name, colour in (("min", "black"), ("max", "white")):
        shown.add_argument(
            f"--phase-v{name}",
            f"--phase_v{name}",
            type=float,
            metavar="RADIANS",
            help=f"phase that is {colour} in the pictures; found from the image when not given",
        )
    shown.add_argument(
        "--debug-dump",
        "--debug_dump",
        nargs="?",
        const="",
        metavar="DIR",
        help="write the scan as it was imaged to DIR/frames.npz; DIR is debug_dump in the results when bare",
    )


def run(arguments: argparse.Namespace) -> int:
    """Reconstruct one scan with a stored network.

    Raises:
        BackendUnavailableError: the core or the runtime that is asked for is not installed.
        BundleError, ConfigError, DataError, OutputError, PolicyError: see their docstrings.
    """
    from ptycho_dispatch.dispatcher import RUNNERS, prepare

    _adopt_words(arguments)
    told = load_for_backend(PARTS, arguments, also=training.PARTS, otherwise=_what_computes)
    inference, run_config = told.others
    config, execution = inference.config, told.execution.config
    _check_limits(arguments.phase_vmin, arguments.phase_vmax)
    opened = _opener(told, config)
    directory = writable_directory(config.output_dir)
    with logging_to(directory, run_config.config.console_level) as screen:
        announce_execution(told)
        # The execution is resolved already; where it was not chosen, the dispatcher says that it holds.
        by_default = told.backend != BY_RUNTIME and runs_by_default(told.execution)
        chosen = None if by_default else execution
        known = (*RUNNERS, BY_RUNTIME)
        prepare(config, chosen, defaults=lambda: execution, otherwise=told.backend, backends=known)
        record = NetworkRecord({"inference": inference, "run": run_config}, told.execution, told.warned)
        return _infer(opened, config, execution, run_config.config, directory, screen, record, arguments)


def _adopt_words(arguments: argparse.Namespace) -> None:
    """Take network and scan that stand without a flag as if they had theirs.

    Raises:
        ConfigError: one is there both ways.
    """
    given = given_flags(arguments)
    for word, setting, flag in (
        (arguments.model, "model_path", "--model-path"),
        (arguments.scan, "test_data_file", "--test-data-file"),
    ):
        if word is None:
            continue
        if setting in given or (setting == "test_data_file" and "test_data" in given):
            raise ConfigError(
                f"`{shortened(word)}` and `{flag}` both name what is asked for. Leave one of them out."
            )
        given[setting] = word
    adopt_flags(arguments, given)


def _what_computes(config: InferenceConfig) -> str:
    """Return the core that trained the bundle, or that a runtime computes."""
    from ptycho_dispatch.dispatcher import trainer_of

    if config.model_path is None:
        return "pytorch"
    if config.runtime is not None or config.model_path.suffix == ".onnx":
        return BY_RUNTIME
    return trainer_of(config.model_path)


def _opener(told: ForBackend, config: InferenceConfig) -> Callable[[], TrainedModel]:
    """Return what opens the network; what is missing here is refused before any directory is made.

    Raises:
        BackendUnavailableError: the core or the runtime is not installed.
        BundleError: a runtime is asked for, and nothing was exported.
        ConfigError: a core and a runtime are both asked for.
        PolicyError: POLICY-001, a GPU that the core was asked to use is absent.
    """
    execution = told.execution.config
    exported = config.model_path.suffix == ".onnx"
    if config.backend is not None and (config.runtime is not None or exported):
        also = f"`--runtime {config.runtime}`" if config.runtime else "a network that was exported"
        raise ConfigError(
            f"`--backend {config.backend}` and {also} exclude each other: a core computes, or a runtime. "
            "Leave one of them out."
        )
    if told.backend == BY_RUNTIME:
        from ptycho_core.runtimes import load_exported, require_runtime

        runtime = config.runtime or "onnx"
        require_runtime(runtime)
        trained = load_exported(config.model_path, runtime, execution)
        trained.session  # noqa: B018 - what the runtime cannot take is refused here
        return lambda: trained
    with _naming_another(told, config):
        backend = check_core(told)
    return lambda: backend.load(config.model_path, execution)


@contextmanager
def _naming_another(told: ForBackend, config: InferenceConfig) -> Iterator[None]:
    """Where the core that trained a bundle cannot work here, say which one opens it as well.

    Raises:
        BackendUnavailableError: names the flag.
    """
    try:
        yield
    except BackendUnavailableError as error:
        from ptycho_core.backend import discover_backends

        others = [] if config.backend else discover_backends().items()
        able = [name for name, core in others if name != told.backend and core.availability().installed]
        also = f" Or use `--backend {able[0]}`, which opens this bundle too." if able else ""
        raise BackendUnavailableError(f"{error}{also}") from error


def _check_limits(lowest: float | None, highest: float | None) -> None:
    given = [value for value in (lowest, highest) if value is not None]
    if not all(map(math.isfinite, given)) or given != sorted(set(given)):
        raise ConfigError(
            f"`--phase-vmin` {lowest} and `--phase-vmax` {highest} are no limits. Expected radians, the "
            "first smaller than the second."
        )


def _infer(
    opened: Callable[[], TrainedModel],
    config: InferenceConfig,
    execution: InferenceExecution,
    run_config: RunConfig,
    directory: Path,
    screen: Any,
    record: NetworkRecord,
    arguments: argparse.Namespace,
) -> int:
    from ptycho_core.io import make_directory, read_scan, save_scan
    from ptycho_core.scan.grouping import choose_frames
    from ptycho_dispatch.interrupt import Interruptible
    from ptycho_dispatch.progress import progress_for

    began = time.perf_counter()
    trained = opened()
    _say_where(config, execution)
    logger.info("Opening %s.", config.test_data_file)
    scan = read_scan(str(config.test_data_file), read_options(run_config))
    if arguments.comparison_plot and scan.ground_truth is None:
        raise DataError(
            f"{scan.name} holds no true object (`objectGuess`) to compare with. "
            "Leave `--comparison-plot` out."
        )
    if config.n_subsample is not None:
        # 0 where none was chosen, as in training: the same command gives the same image.
        chosen = choose_frames(scan.n_frames, config.n_subsample, seed=config.subsample_seed or 0)
        scan = scan.select(np.asarray(chosen))
    shown, progress = progress_for(screen)
    with Interruptible() as interrupt:
        with shown:
            result = trained.reconstruct(scan, config, callbacks=(progress, interrupt))
        screen.console = None
        provenance = (
            dict(result.provenance)
            | record.provenance(scan, result.provenance)
            | {"bundle": str(config.model_path)}
        )
        result = replace(result, provenance=provenance)
        files = result.save(directory, phase_limits_rad=(arguments.phase_vmin, arguments.phase_vmax))
        more = write_legacy_pictures(files, directory)
        if arguments.comparison_plot:
            more.append(_compared(result, scan, directory))
    if arguments.debug_dump is not None:
        dump = Path(arguments.debug_dump or directory / "debug_dump").expanduser()
        logger.info("The scan as it was imaged is %s.", save_scan(scan, make_directory(dump) / "frames.npz"))
    _report(scan, result, directory, [*files, *more, LOG_FILE], began)
    tell_verdict(result)
    return interrupt.exit_code or 0


def _say_where(config: InferenceConfig, execution: InferenceExecution) -> None:
    if isinstance(execution, RuntimeExecutionConfig):
        from ptycho_core.runtimes import RUNTIMES

        logger.info(
            "%s runs the network on the CPU in %s.",
            RUNTIMES[config.runtime or "onnx"][1],
            execution.precision,
        )
    elif isinstance(execution, PyTorchExecutionConfig):
        logger.info("PyTorch model moved to device: %s", execution.accelerator)
        logger.info(
            "accelerator=%s, num_workers=%d, inference_batch_size=%s",
            execution.accelerator,
            execution.num_workers,
            execution.inference_batch_size,
        )
    else:
        logger.info(
            "TensorFlow model: accelerator=%s, inference_batch_size=%s",
            execution.accelerator,
            execution.inference_batch_size,
        )


def _compared(result: Reconstruction, scan: Scan, directory: Path) -> str:
    """Draw the image beside the true object; the name of the picture."""
    from ptycho_core.metrics import compare
    from ptycho_dispatch.commands.comparison import draw_comparison

    comparison = compare(result, np.asarray(scan.ground_truth))
    logger.info("Object error against the true object: %.4g.", comparison.values["object_error"])
    return draw_comparison(comparison, directory / "comparison_plot.png", ("network", "true object")).name


def _report(scan: Scan, result: Reconstruction, directory: Path, names: list[str], began: float) -> None:
    seconds = result.timings["network"]
    rows = [
        ("scan", f"{scan.name}: {scan.n_frames} frames of {scan.frame_px} x {scan.frame_px} px"),
        ("object", f"{result.object.shape[0]} x {result.object.shape[1]} px"),
        ("method", "network, one pass"),
        ("speed", f"{scan.n_frames / seconds:.0f} frames/s, stitching included"),
        ("time", f"{time.perf_counter() - began:.1f} s, bundle and scan opened"),
        ("residual R", f"{result.data_residual:.4f}"),
        *verdict_rows(result),
        ("files", f"{directory}/: {', '.join(names)}"),
    ]
    print_rows("", rows)
