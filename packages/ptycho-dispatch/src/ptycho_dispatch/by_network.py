"""Reconstruct by a network that learns the scan itself.

`choose_method` says which method `auto` means for a scan. A network is only as good as its probe, which the
solver refines before training where nothing better is known. `both.py` joins network and solver.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ptycho_config.execution import NetworkExecution, SolverExecutionConfig
from ptycho_config.models import ModelConfig, SolverConfig, TrainingConfig
from ptycho_dispatch.execution_parts import beside_the_solver
from ptycho_dispatch.network_record import resolved_execution

if TYPE_CHECKING:
    import numpy as np

    from ptycho_core import Reconstruction, Scan
    from ptycho_core.backend import Backend, TrainedModel
    from ptycho_core.result.callbacks import Callback

__all__ = ["TRAINING_S", "Learned", "Learner", "by_network", "choose_method", "timed", "with_refined_probe"]

logger = logging.getLogger("ptycho")
#: Training time where `--max-time` is not given.
TRAINING_S = 150.0
#: From this noise floor of R on photons are few, and a network is what a user might think of.
_DIM_FLOOR = 0.23
#: More than this teach nothing new about the probe, and a long scan should not be solved to find it.
_MOST_FRAMES = 1000


@dataclass(frozen=True, eq=False)
class Learned:
    """A network that has learned a scan.

    Attributes:
        probe: (P, N, N) that it was trained with, as the solver refined it or as it was given.
        papers: behind the network, and behind the refinement of the probe where there was one.
    """

    trained: TrainedModel
    config: TrainingConfig
    learner: Learner
    probe: np.ndarray
    papers: list[dict[str, str]]

    def image(self, scan: Scan) -> Reconstruction:
        """Image a scan that was measured with the probe of the training, by one pass over its frames."""
        from ptycho_core.result.provenance import run_provenance

        result = self.trained.reconstruct(replace(scan, probe=self.probe, probe_source="given"))
        record = {"configuration": {"training": self.config.model_dump(mode="json")}}
        record |= resolved_execution(self.learner.where, self.learner.warned, result.provenance)
        known = {**result.provenance, **run_provenance(scan), "network": record, "papers": self.papers}
        return replace(
            result, history=self.trained.history, interrupted=self.trained.interrupted, provenance=known
        )


@dataclass(frozen=True, eq=False)
class Learner:
    """How a network learns a scan: the core, where it runs, and what it is told.

    Attributes:
        warned: the warnings that came with the execution.
        refine_probe: let the solver refine the probe of the scan first.
    """

    core: Backend
    backend: Literal["pytorch", "tensorflow"]
    where: NetworkExecution
    warned: Sequence[str]
    seed: int
    refine_probe: bool
    callbacks: Sequence[Callback]

    @classmethod
    def of(
        cls,
        solver: SolverConfig,
        execution: SolverExecutionConfig,
        callbacks: Sequence[Callback],
        *,
        backend: Literal["pytorch", "tensorflow"],
        refine_probe: bool,
    ) -> Learner:
        """Find the core, and import its framework, which belongs to the time that is spent.

        Raises:
            BackendUnavailableError: the core or what it needs is not installed.
        """
        from ptycho_core.backend import get_backend

        core = get_backend(backend)
        core.availability()
        where, warned = beside_the_solver(backend, execution.accelerator)
        for text in warned:
            logger.warning("%s", text)
        return cls(core, backend, where, warned, solver.seed, refine_probe, callbacks)

    def learn(self, scan: Scan, seconds: float) -> Learned:
        """Train on the scan for so long; the refinement of the probe comes first and is not counted."""
        from ptycho_core.citations import cited, together
        from ptycho_dispatch.dispatcher import prepare

        papers: list[dict[str, str]] = []
        if self.refine_probe:
            scan = with_refined_probe(scan)
            papers = cited(solver=SolverConfig(probe_modes=len(scan.probe), prior="none"))
        logger.info("Training a network on %s for %.0f s.", scan.name, seconds)
        config = TrainingConfig(
            model=ModelConfig(N=scan.frame_px), max_time=seconds, seed=self.seed, backend=self.backend
        )
        prepare(config, self.where)
        trained = self.core.train(scan, config, self.where, callbacks=self.callbacks)
        papers = together(papers, cited(model=config.model, probe_modes=len(scan.probe)))
        return Learned(trained, config, self, scan.probe, papers)


def by_network(
    scan: Scan,
    solver: SolverConfig,
    execution: SolverExecutionConfig,
    callbacks: Sequence[Callback],
    *,
    backend: Literal["pytorch", "tensorflow"],
    refine_probe: bool,
) -> Reconstruction:
    """Train on the scan, and image every frame once.

    Raises:
        BackendUnavailableError: the core or what it needs is not installed.
    """
    began = time.perf_counter()
    learner = Learner.of(solver, execution, callbacks, backend=backend, refine_probe=refine_probe)
    seconds = TRAINING_S
    if solver.max_time is not None:
        seconds = max(1.0, solver.max_time - (time.perf_counter() - began))
    return timed(learner.learn(scan, seconds).image(scan), began)


def timed(result: Reconstruction, began: float) -> Reconstruction:
    """Book the whole way, the training included, as the time of the run."""
    return replace(result, timings=dict(result.timings) | {"total": time.perf_counter() - began})


def choose_method(scan: Scan, *, goes_on: bool, bundle: Path | None = None) -> Literal["solver"]:
    """Choose the solver, whose prior needs no training at any dose; say so.

    Args:
        goes_on: there is a result to start from.
        bundle: of a network whose image the solver is offered.
    """
    from ptycho_core.solver import noise_floor

    if goes_on:
        logger.info("Method: solver (`auto`): it goes on from a result.")
        return "solver"
    if bundle is not None:
        logger.info(
            "Method: solver (`auto`), with the image of the network in %s as prior mean: where photons are "
            "few, those held out choose how strongly it is followed.",
            bundle,
        )
        return "solver"
    floor = noise_floor(scan)
    if floor is None or floor < _DIM_FLOOR:
        logger.info("Method: solver (`auto`): with so many photons it is faster and sharper than a network.")
        return "solver"
    logger.info(
        "Method: solver (`auto`): photons are few (noise floor of R %.2f), and photons held out choose its "
        "prior. `--prior-bundle` offers it the image of a network, `--method both` trains one, for about "
        "%.0f s.",
        floor,
        TRAINING_S,
    )
    return "solver"


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
