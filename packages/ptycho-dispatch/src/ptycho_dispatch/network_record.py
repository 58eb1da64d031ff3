"""What `run.json` says of a run with a network: settings and their sources, and what became of `auto`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.sources import Loaded

if TYPE_CHECKING:
    from ptycho_core import Scan

__all__ = ["NetworkRecord"]

_FINDING = re.compile(r"([A-Z]+(?:-[A-Z]+)*-\d{3}): ")


@dataclass(frozen=True)
class NetworkRecord:
    """What is known before a run.

    Attributes:
        settings: the configurations by what they are about, such as `training`.
        execution: where and how it runs.
        warned: the warnings that came with the configuration.
    """

    settings: Mapping[str, Loaded[Any]]
    execution: Loaded[PyTorchExecutionConfig]
    warned: Sequence[str]

    def provenance(self, scan: Scan) -> dict[str, Any]:
        """Return the entries of `run.json`."""
        from ptycho_core.provenance import run_provenance

        resolution = self.execution.config.resolution
        found = [(_FINDING.match(text), text) for text in self.warned]
        every = {**self.settings, "execution": self.execution}
        return {
            **run_provenance(scan),
            "settings": {name: loaded.provenance() for name, loaded in every.items()},
            "execution": None if resolution is None else resolution._asdict(),
            "policy_events": [
                {"finding": finding.group(1), "message": text} for finding, text in found if finding
            ],
        }
