"""`--prior-bundle`: a network that was trained before; the solver is offered its image as prior mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho_config.errors import ConfigError
from ptycho_config.execution import NetworkExecution, SolverExecutionConfig
from ptycho_config.models import RunConfig
from ptycho_dispatch.execution_parts import beside_the_solver
from ptycho_dispatch.network_record import resolved_execution

if TYPE_CHECKING:
    from ptycho_core import Reconstruction, Scan
    from ptycho_core.backend import TrainedModel
    from ptycho_core.learning.stored import Stored

__all__ = ["PriorBundle"]

logger = logging.getLogger("ptycho")
#: Probes that have less in common are told apart at a glance.
_ANOTHER_PROBE = 0.9


@dataclass(frozen=True, eq=False)
class PriorBundle:
    """An open bundle; called with a scan, it makes the network's image of it.

    Attributes:
        stored: what the bundle holds.
        where, warned: how the network runs, and the warnings that came with that.
    """

    path: Path
    stored: Stored
    network: TrainedModel
    where: NetworkExecution
    warned: Sequence[str]

    @classmethod
    def open(cls, run: RunConfig, execution: SolverExecutionConfig) -> PriorBundle | None:
        """Open the bundle of a run; None where there is none.

        Raises:
            BackendUnavailableError: the core that opens it is not installed.
            BundleError: it is no bundle, or a damaged one.
        """
        from ptycho_core.backend import get_backend, require_backend
        from ptycho_core.learning.stored import read_stored
        from ptycho_dispatch.dispatcher import trainer_of

        if run.prior_bundle is None:
            return None
        stored = read_stored(run.prior_bundle)
        chosen = "backend" in run.model_fields_set
        backend = run.backend if chosen else trainer_of(run.prior_bundle)
        require_backend(backend)
        where, warned = beside_the_solver(backend, execution.accelerator)
        network = get_backend(backend).load(run.prior_bundle, where)
        return cls(run.prior_bundle, stored, network, where, warned)

    def require_fit(self, scan: Scan) -> None:
        """Refuse a scan of another frame size, and warn of another probe.

        Raises:
            ConfigError: the frames have another size than those the network was trained on.
        """
        from ptycho_core.learning.probe_refinement import likeness

        for text in self.warned:
            logger.warning("%s", text)
        trained_px = self.stored.model.N
        if trained_px != scan.frame_px:
            raise ConfigError(
                f"`--prior-bundle {self.path}`: its network was trained on frames of {trained_px} px and "
                f"{scan.name} has frames of {scan.frame_px} px. Leave it out, or train one for this size."
            )
        known = (self.stored.bundle.probe_given, self.stored.bundle.probe)
        common = max(likeness(scan.probe, probe) for probe in known)
        if scan.probe_source != "estimated" and common < _ANOTHER_PROBE:
            logger.warning(
                "%s: its network was trained with another probe than that of %s (%.0f %% in common). It may "
                "know little of this scan; photons held out decide.",
                self.path,
                scan.name,
                100 * common,
            )

    def __call__(self, scan: Scan) -> Reconstruction:
        """Image a scan by one pass over its frames."""
        return self.network.reconstruct(scan)

    def recorded(self, result: Reconstruction) -> Reconstruction:
        """Return the result with a record of the bundle, and the papers behind its network if it is used."""
        from ptycho_core.citations import cited, together

        told = [event.data for event in result.events if event.kind == "prior_mean"]
        said: Mapping[str, Any] = told[-1] if told else {"strength": 0.0, "starts": False}
        known = {
            **result.provenance,
            "prior_mean": {
                "bundle": str(self.path),
                "strength": said["strength"],
                "starts": said["starts"],
                **resolved_execution(self.where, self.warned, {}),
            },
        }
        if said["strength"] or said["starts"]:
            modes = len(self.stored.bundle.probe)
            papers = cited(model=self.stored.model, probe_modes=modes)
            known["papers"] = together(known["papers"], papers)
        return replace(result, provenance=known)
