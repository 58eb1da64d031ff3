"""Reconstruct by a network that learns the scan itself, alone or with the solver after it.

`choose_method` says which method `auto` means for a scan. A network is only as good as its probe, which the
solver refines before training where nothing better is known.
"""

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
    from ptycho_core.result.callbacks import Callback

if TYPE_CHECKING:
    from ptycho_core import Scan
from typing import TYPE_CHECKING

__all__ = ["by_network", "choose_method", "with_refined_probe"]

logger = logging.getLogger("ptycho")
#: Training time where `--max-time` is not given.
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
    from ptycho_core.result.provenance import run_provenance
    from ptycho_core.solver import HOPELESS_NOISE_FLOOR, noise_floor
    from ptycho_dispatch.dispatcher import prepare

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
        papers = cited(solver=SolverConfig(probe_modes=len(scan.probe), prior="none"))
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


#: From this noise floor of R on photons are few, and a network is what a user might think of.
_DIM_FLOOR = 0.23


def choose_method(scan: Scan, *, goes_on: bool) -> Literal["solver"]:
    """Choose the solver, whose prior needs no training at any dose; say so.

    Args:
        goes_on: there is a result to start from.
    """
    from ptycho_core.solver import noise_floor

    if goes_on:
        logger.info("Method: solver (`auto`): it goes on from a result.")
        return "solver"
    floor = noise_floor(scan)
    if floor is None or floor < _DIM_FLOOR:
        logger.info("Method: solver (`auto`): with so many photons it is faster and sharper than a network.")
        return "solver"
    logger.info(
        "Method: solver (`auto`): photons are few (noise floor of R %.2f), and photons held out choose its "
        "prior. `--method both` trains a network first, for about %.0f s.",
        floor,
        _TRAINING_S,
    )
    return "solver"


logger = logging.getLogger("ptycho")
#: More than this teach nothing new about the probe, and a long scan should not be solved to find it.
_MOST_FRAMES = 1000


def with_refined_probe(scan: Scan) -> Scan:
    """Return the scan with the probe that the solver finds in a few seconds."""
    from ptycho_core.learning.probe_refinement import refine_probe

    result = refine_probe(scan, most_frames=_MOST_FRAMES)
    logger.info(
        "Probe refined by the solver in %.1f s (R %.4f); `--probe-refinement false` leaves it as given.",
        result.timings["total"],
        result.data_residual,
    )
    return replace(scan, probe=result.probe, probe_source="given")
