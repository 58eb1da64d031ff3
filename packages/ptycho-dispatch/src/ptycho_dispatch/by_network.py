"""Reconstruct by a network that learns the scan itself, alone or with the solver after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ptycho_config.execution import (
    PyTorchExecutionConfig,
    SolverExecutionConfig,
    TensorFlowExecutionConfig,
)
from ptycho_config.models import ModelConfig, SolverConfig, TrainingConfig
from ptycho_dispatch.log import held_warnings
from ptycho_dispatch.network_record import resolved_execution

if TYPE_CHECKING:
    from ptycho_core import Reconstruction, Scan
    from ptycho_core.callbacks import Callback

__all__ = ["by_network"]

logger = logging.getLogger("ptycho")
#: Training time where nobody set `--max-time`.
_TRAINING_S = 150.0
#: Part of a time budget that training gets where the solver follows.
_TRAINING_SHARE = 0.8


def by_network(
    scan: Scan,
    solver: SolverConfig,
    execution: SolverExecutionConfig,
    callbacks: Sequence[Callback],
    *,
    backend: Literal["pytorch", "tensorflow"],
    refine_probe: bool,
    then_solver: bool,
) -> Reconstruction:
    """Train on the scan, image every frame once, and let the solver go on from there if it is wanted.

    Raises:
        BackendUnavailableError: the core or what it needs is not installed.
    """
    from ptycho_core import solve
    from ptycho_core.backend import get_backend
    from ptycho_core.citations import cited, together
    from ptycho_core.provenance import run_provenance
    from ptycho_core.solver import HOPELESS_NOISE_FLOOR, noise_floor
    from ptycho_dispatch.dispatcher import prepare
    from ptycho_dispatch.probe import with_refined_probe

    began = time.perf_counter()
    core = get_backend(backend)
    core.availability()  # imports the framework, which belongs to the time that is spent
    kind = PyTorchExecutionConfig if backend == "pytorch" else TensorFlowExecutionConfig
    with held_warnings() as warned:
        where = kind(accelerator=execution.accelerator, logger_backend=None)
    for text in warned:
        logger.warning("%s", text)
    papers = []
    if refine_probe:
        scan = with_refined_probe(scan)
        papers = cited(solver=SolverConfig(probe_modes=len(scan.probe)))
    seconds = _TRAINING_S
    if solver.max_time is not None:
        share = _TRAINING_SHARE if then_solver else 1.0
        seconds = max(1.0, share * (solver.max_time - (time.perf_counter() - began)))
    logger.info("Training a network on %s for %.0f s.", scan.name, seconds)
    config = TrainingConfig(
        model=ModelConfig(N=scan.frame_px), max_time=seconds, seed=solver.seed, backend=backend
    )
    prepare(config, where)
    trained = core.train(scan, config, where, callbacks=callbacks)
    result = trained.reconstruct(scan)
    record = {"configuration": {"training": config.model_dump(mode="json")}}
    record |= resolved_execution(where, warned, result.provenance)
    papers = together(papers, result.provenance["papers"])
    known = {**result.provenance, **run_provenance(scan), "network": record, "papers": papers}
    result = replace(result, history=trained.history, interrupted=trained.interrupted, provenance=known)
    if not then_solver or trained.interrupted:
        return _timed(result, began)
    floor = noise_floor(scan)
    if floor is not None and floor >= HOPELESS_NOISE_FLOOR:
        logger.warning(
            "The network's image is kept: with a noise floor of R %.2f the solver would fit noise.", floor
        )
        return _timed(result, began)
    logger.info("The network's image has R %.4f; the solver goes on from it.", result.data_residual)
    if solver.max_time is not None:
        left = max(1.0, solver.max_time - (time.perf_counter() - began))
        solver = solver.model_copy(update={"max_time": left})
    polished = solve(scan, solver, execution, callbacks, start=result)
    papers = together(papers, polished.provenance["papers"])
    both = {**polished.provenance, "network": record, "papers": papers}
    return _timed(replace(polished, method="network, then solver", provenance=both), began)


def _timed(result: Reconstruction, began: float) -> Reconstruction:
    """Book the whole way, the training included, as the time of the run."""
    return replace(result, timings=dict(result.timings) | {"total": time.perf_counter() - began})
