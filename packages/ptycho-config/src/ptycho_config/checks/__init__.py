"""Checks: one function for each part of a rule, which exercises the enforcing code as installed.

A check takes nothing, leaves nothing behind, and returns its evidence as a flat dict of plain values. Where
the rule does not hold it raises `CheckError`; where what it needs is absent, `BackendUnavailableError`.
`ptycho audit` runs each of them twice, in processes where the hardware answers yes and no.

Every package of the family has such a module with the same table, so that a package which enforces part of
another one's rule can prove its part.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ptycho_config.moved import moved_name

__all__ = ["CHECKS"]

CHECKS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "CONFIG-001": ("ptycho_config.checks.registry.registry_follows_the_config",),
        "CONFIG-002": ("ptycho_config.checks.separation.execution_stays_apart",),
        "CONFIG-LOGGER-001": ("ptycho_config.checks.separation.metrics_go_to_csv",),
        "EXEC-ACCUM-001": ("ptycho_config.checks.training.manual_optimisation_does_not_accumulate",),
        "EXEC-ACCUM-002": ("ptycho_config.checks.training.an_epoch_holds_one_accumulation",),
        "POLICY-001": ("ptycho_config.checks.accelerator.gpu_first_and_no_silent_fallback",),
        "TRAIN-COLLAPSE-001": ("ptycho_config.checks.training.a_collapsed_network_is_stopped",),
    }
)
"""Finding -> import paths of the checks of this package."""

_MOVED = {"PROBES": f"{__name__}:CHECKS"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
