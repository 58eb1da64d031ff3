"""Probes of this package; what a probe is says `ptycho_config.checks`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["PROBES"]

PROBES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "CONFIG-001": (
            "ptycho_dispatch.checks.dispatching.the_registry_is_written_first",
            "ptycho_dispatch.checks.commands.train_writes_the_registry_first",
        ),
        "CONFIG-002": ("ptycho_dispatch.checks.dispatching.execution_enters_nothing",),
        "CONFIG-LOGGER-001": ("ptycho_dispatch.checks.dispatching.metrics_go_to_csv",),
        "POLICY-001": (
            "ptycho_dispatch.checks.dispatching.the_dispatcher_is_gpu_first",
            "ptycho_dispatch.checks.commands.commands_are_gpu_first",
        ),
    }
)
"""Finding -> import paths of the probes of this package."""
