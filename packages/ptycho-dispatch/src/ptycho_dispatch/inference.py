"""`ptycho infer`: a trained network reconstructs a scan by one pass over its frames."""

from __future__ import annotations

import argparse
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptycho_config.errors import EXIT_INTERRUPTED, BackendUnavailableError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.flags import add_flags, given_flags
from ptycho_config.models import InferenceConfig, RunConfig
from ptycho_config.naming import Part
from ptycho_config.sources import load_parts
from ptycho_dispatch.legacy_pictures import write_legacy_pictures
from ptycho_dispatch.log import LOG_FILE, held_warnings, logging_to
from ptycho_dispatch.network_record import NetworkRecord
from ptycho_dispatch.reconstruct import writable_directory
from ptycho_dispatch.table import print_rows
from ptycho_dispatch.torch_policy import announce_execution, refuse_absent_gpu, runs_by_default

if TYPE_CHECKING:
    from ptycho_core import Reconstruction, Scan

__all__ = ["EXAMPLES", "PARTS", "add_arguments", "run"]

EXAMPLES = (
    "ptycho infer --model-path trained --test-data scan.npz --output-dir next",
    "ptycho infer --model-path trained/wts.h5.zip --test-data scan.npz --torch-accelerator cpu",
)

logger = logging.getLogger("ptycho")
_RUN_FIELDS = {"measurement", "dc", "probe_file", "console_level"}
_EXECUTION_FIELDS = {"accelerator", "devices", "num_workers", "inference_batch_size", "precision"}
PARTS: tuple[Part[Any], ...] = (
    Part(InferenceConfig, exclude=frozenset({"model", "debug"}), title="Inference: network and scan"),
    Part(
        PyTorchExecutionConfig,
        prefix="torch_",
        exclude=frozenset(PyTorchExecutionConfig.model_fields) - _EXECUTION_FIELDS,
        title="Execution on PyTorch",
    ),
    Part(RunConfig, exclude=frozenset(RunConfig.model_fields) - _RUN_FIELDS, title="How to read the scan"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of all models, and `--config`."""
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings; flags and environment win")
    add_flags(parser, *PARTS)


def run(arguments: argparse.Namespace) -> int:
    """Reconstruct one scan with a stored network.

    Raises:
        BackendUnavailableError: the core that is asked for is not installed.
        BundleError, ConfigError, DataError, OutputError, PolicyError: see their docstrings.
    """
    from ptycho_dispatch.dispatcher import prepare

    with held_warnings() as warned:
        inference, execution, run_config = load_parts(
            PARTS, flags=given_flags(arguments), env=os.environ, yaml=arguments.config
        )
    config = inference.config
    if config.backend not in (None, "pytorch"):
        raise BackendUnavailableError(
            f"The backend `{config.backend}` cannot infer in this version. Use `--backend pytorch`."
        )
    refuse_absent_gpu(execution.config)
    directory = writable_directory(config.output_dir)
    with logging_to(directory, run_config.config.console_level) as screen:
        announce_execution(execution, warned)
        prepare(
            config,
            None if runs_by_default(execution) else execution.config,
            defaults=lambda: execution.config,
        )
        record = NetworkRecord({"inference": inference, "run": run_config}, execution, warned)
        return _infer(config, execution.config, run_config.config, directory, screen, record)


def _infer(
    config: InferenceConfig,
    execution: PyTorchExecutionConfig,
    run_config: RunConfig,
    directory: Path,
    screen: Any,
    record: NetworkRecord,
) -> int:
    from ptycho_core import open_scan
    from ptycho_core.backend import get_backend
    from ptycho_core.grouping import choose_frames
    from ptycho_dispatch.interrupt import Interruptible
    from ptycho_dispatch.progress import progress_for

    began = time.perf_counter()
    trained = get_backend(config.backend or "pytorch").load(config.model_path, execution)
    logger.info("PyTorch model moved to device: %s", execution.accelerator)
    logger.info(
        "accelerator=%s, num_workers=%d, inference_batch_size=%s",
        execution.accelerator,
        execution.num_workers,
        execution.inference_batch_size,
    )
    logger.info("Opening %s.", config.test_data_file)
    scan = open_scan(
        str(config.test_data_file),
        measurement=run_config.measurement,
        dc=run_config.dc,
        probe_file=run_config.probe_file,
    )
    if config.n_subsample is not None:
        # 0 where nobody chose, as in training: the same command gives the same image.
        chosen = choose_frames(scan.n_frames, config.n_subsample, seed=config.subsample_seed or 0)
        scan = scan.select(np.asarray(chosen))
    shown, progress = progress_for(screen)
    with Interruptible() as interrupt:
        with shown:
            result = trained.reconstruct(scan, config, callbacks=(progress, interrupt))
        screen.console = None
        provenance = dict(result.provenance) | record.provenance(scan) | {"bundle": str(config.model_path)}
        result = replace(result, provenance=provenance)
        files = result.save(directory)
        legacy = write_legacy_pictures(files, directory)
    _report(scan, result, directory, [*files, *legacy, LOG_FILE], began)
    return EXIT_INTERRUPTED if interrupt.asked else 0


def _report(scan: Scan, result: Reconstruction, directory: Path, names: list[str], began: float) -> None:
    seconds = result.timings["network"]
    rows = [
        ("scan", f"{scan.name}: {scan.n_frames} frames of {scan.frame_px} x {scan.frame_px} px"),
        ("object", f"{result.object.shape[0]} x {result.object.shape[1]} px"),
        ("method", "network, one pass"),
        ("speed", f"{scan.n_frames / seconds:.0f} frames/s, stitching included"),
        ("time", f"{time.perf_counter() - began:.1f} s, bundle and scan opened"),
        ("residual R", f"{result.data_residual:.4f}"),
        ("files", f"{directory}/: {', '.join(names)}"),
    ]
    print_rows("", rows)
