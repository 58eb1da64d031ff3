"""What a run with a network leaves besides its result: its part of `run.json`, and legacy pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho_config.execution import InferenceExecution
from ptycho_config.sources import Loaded
from ptycho_core.files import sha256_of
from ptycho_core.result.callbacks import Callback, RunStart

if TYPE_CHECKING:
    from ptycho_core import Scan

__all__ = [
    "NetworkRecord",
    "TrainingPlan",
    "policy_events",
    "resolved_execution",
    "sha256_of",
    "write_legacy_pictures",
]

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
    execution: Loaded[Any]
    warned: Sequence[str]

    def provenance(self, scan: Scan, core: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of `run.json`.

        Args:
            core: what the core recorded; `execution` where it resolved `auto` itself.
        """
        from ptycho_core.result.provenance import run_provenance

        every = {**self.settings, "execution": self.execution}
        return {
            **run_provenance(scan),
            "settings": {name: loaded.provenance() for name, loaded in every.items()},
            **resolved_execution(self.execution.config, self.warned, core),
        }


def resolved_execution(
    execution: InferenceExecution, warned: Sequence[str], core: Mapping[str, Any]
) -> dict[str, Any]:
    """Say what became of `auto`, and which policies spoke.

    Args:
        warned: the warnings that came with the configuration.
        core: what the core recorded; `execution` and `policy_warnings` where it resolved `auto` itself.
    """
    resolution = getattr(execution, "resolution", None)
    return {
        "execution": core.get("execution") if resolution is None else resolution._asdict(),
        "policy_events": policy_events([*warned, *core.get("policy_warnings", ())]),
    }


def policy_events(warned: Sequence[str]) -> list[dict[str, str]]:
    """Give those warnings that a finding leads, each with its identifier."""
    found = [(_FINDING.match(text), text) for text in warned]
    return [{"finding": finding.group(1), "message": text} for finding, text in found if finding]


class TrainingPlan(Callback):
    """Remembers into how many batches the core divides an epoch."""

    def __init__(self) -> None:
        self.batches_per_epoch: int | None = None

    def on_start(self, start: RunStart) -> None:
        if self.batches_per_epoch is None and start.levels:
            self.batches_per_epoch = start.levels[0].batches


_NAMES = {
    "amplitude.png": "reconstructed_amplitude.png",
    "phase.png": "reconstructed_phase.png",
}


def write_legacy_pictures(files: Mapping[str, Path], directory: Path) -> list[str]:
    """Write the pictures among the files of a result once more, each whole or not at all.

    Args:
        files: by name, as `Reconstruction.save` returns them.
    Returns:
        The names written.
    Raises:
        OutputError: the directory cannot be written.
    """
    from ptycho_core.files import atomic_path

    written = []
    for name, legacy in _NAMES.items():
        if name in files:
            with atomic_path(directory / legacy) as temporary:
                temporary.write_bytes(files[name].read_bytes())
            written.append(legacy)
    return written
