"""`--method both`: a network that learns the scan and the solver, never worse than the better of the two.

What decides is never shown to the network: it is trained on what is kept of the scan. Where photons are few,
the network's image is offered to the solver as prior mean (`ptycho_core.solve`), and the photons held out
choose between the solver alone, a start from that image, and a pull to it of any strength. Where they are
many, or the frames are no counts, three images of what is kept are held against what is held out
(`ptycho_core.verdict.rivals`): the network's, the solver's, and the solver's from the network's. The solver
alone stays where no other is clearly better. From the image that was judged the solver goes on with the whole
scan: one that is begun anew may end elsewhere, above all where frames overlap little.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_dispatch.by_network import TRAINING_S, Learned, Learner, timed

if TYPE_CHECKING:
    from ptycho_core import Reconstruction, Scan
    from ptycho_core.result.callbacks import Callback

__all__ = ["network_and_solver"]

logger = logging.getLogger("ptycho")
#: Part of a time budget that training gets; the solver has the rest.
_TRAINING_SHARE = 0.7
_NETWORK, _SOLVER, _BOTH = "network", "solver", "network, then solver"
#: By such a part of its misfit another image has to be better than the solver's: what differs less are two
#: ways to the same misfit, of which neither is known to be nearer the truth.
_CLEARLY = 0.01


def network_and_solver(
    scan: Scan,
    solver: SolverConfig,
    execution: SolverExecutionConfig,
    callbacks: Sequence[Callback],
    *,
    backend: Literal["pytorch", "tensorflow"],
    refine_probe: bool,
) -> Reconstruction:
    """Train on what is kept of the scan, and take what the rest finds best: network, solver or both.

    The network is trained once, on nine tenths of the photons or, where the frames are no counts, on four
    fifths of the frames; its last image is that of the whole scan. `method` of the result says what was
    taken, `network` of its provenance how the network was trained.

    Raises:
        BackendUnavailableError: the core or what it needs is not installed.
    """
    import numpy as np

    from ptycho_core.scan.dose import scan_statistics
    from ptycho_core.solver import solve
    from ptycho_core.solver.selection import why_none_are_held_out

    began = time.perf_counter()
    learner = Learner.of(solver, execution, callbacks, backend=backend, refine_probe=refine_probe)

    def seconds_left() -> float | None:
        return None if solver.max_time is None else max(1.0, solver.max_time - (time.perf_counter() - began))

    def learn(part: Scan) -> Learned:
        left = seconds_left()
        return learner.learn(part, TRAINING_S if left is None else max(1.0, _TRAINING_SHARE * left))

    statistics = scan_statistics(scan, estimate_background=solver.background == "auto")
    if solver.uses_prior and not why_none_are_held_out(scan, statistics, solver):
        expected = _WhenAsked(learn)
        within = solver.model_copy(update={"max_time": seconds_left()})
        result = solve(scan, within, execution, callbacks, prior_mean=expected)
        return timed(_named(result, expected.image), began)

    def solved(part: Scan, share: float, start: Reconstruction | None = None) -> Reconstruction:
        left = seconds_left()
        within = solver.model_copy(update={"max_time": None if left is None else share * left})
        return solve(part, within, execution, callbacks, start=start)

    from ptycho_core.result.history import RunEvent
    from ptycho_core.verdict.rivals import Rivals

    rivals = Rivals.of(scan, np.random.default_rng(solver.seed))
    learned = learn(rivals.seen)
    if learned.trained.interrupted:
        return timed(learned.image(scan), began)
    images = {_NETWORK: learned.image(rivals.seen)}
    images[_SOLVER] = solved(rivals.seen, 1 / 3)
    images[_BOTH] = solved(rivals.seen, 1 / 2, images[_NETWORK])
    misfits = rivals.misfits(images)
    best = min((_BOTH, _NETWORK), key=misfits.__getitem__)
    if not misfits[best] < (1 - _CLEARLY) * misfits[_SOLVER]:
        best = _SOLVER
    figures = ", ".join(f"{name} {misfit:.5g}" for name, misfit in misfits.items())
    text = f"By {rivals.of_what} held out ({figures}): {best}."
    event = RunEvent("method", text, {"misfits": misfits, "taken": best})
    logger.info("%s", event.message)
    if best == _NETWORK:
        result = learned.image(scan)
    else:
        result = solved(scan, 1.0, rivals.for_all(images[_BOTH]) if best == _BOTH else None)
    result = _named(result, images[_NETWORK], taken=best)
    return timed(replace(result, events=(*result.events, event)), began)


class _WhenAsked:
    """A prior mean whose network learns the first scan that it is asked with, that of the kept photons."""

    def __init__(self, learn: Callable[[Scan], Learned]) -> None:
        self._learn = learn
        self._learned: Learned | None = None
        self.image: Reconstruction | None = None

    def __call__(self, scan: Scan) -> Reconstruction:
        if self._learned is None:
            self._learned = self._learn(scan)
        self.image = self._learned.image(scan)
        return self.image


def _named(
    result: Reconstruction, network: Reconstruction | None, *, taken: str | None = None
) -> Reconstruction:
    """Say what a result was made by, and how the network was trained.

    Args:
        network: an image of the network; None where the solver was stopped before it asked for one.
        taken: what was taken; found in the solver's events when not given.
    """
    from ptycho_core.citations import together

    if network is None:
        return result
    if taken is None:
        told = [event.data for event in result.events if event.kind == "prior_mean"]
        wanted = told and (told[-1]["strength"] > 0 or told[-1]["starts"])
        taken = _BOTH if wanted else _SOLVER
    known = {**result.provenance, "network": network.provenance["network"]}
    if taken != _SOLVER:
        known["papers"] = together(known["papers"], network.provenance["papers"])
    return replace(result, method=taken, provenance=known)
