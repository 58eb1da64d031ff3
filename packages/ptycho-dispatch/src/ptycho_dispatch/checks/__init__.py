"""Checks of this package; what a check is says `ptycho_config.checks`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ptycho_config.moved import moved_name

__all__ = ["CHECKS"]

CHECKS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
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
"""Finding -> import paths of the checks of this package."""

_MOVED = {"PROBES": f"{__name__}:CHECKS"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
