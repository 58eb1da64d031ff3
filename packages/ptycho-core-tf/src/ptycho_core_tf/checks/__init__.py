"""Checks of this core; what a check is says `ptycho_config.checks`. Importing this loads no framework."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ptycho_config.moved import moved_name

__all__ = ["CHECKS"]

CHECKS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "CONFIG-LOGGER-001": ("ptycho_core_tf.checks.training.a_training_leaves_its_metrics",),
        "DATA-SUP-001": ("ptycho_core_tf.checks.training.labels_are_asked_for_before_training",),
        "POLICY-001": (
            "ptycho_core_tf.checks.training.an_absent_gpu_is_refused_at_the_start",
            "ptycho_core_tf.checks.training.auto_without_a_gpu_warns_once",
        ),
        "TRAIN-COLLAPSE-001": ("ptycho_core_tf.checks.training.a_constant_network_is_stopped",),
    }
)
"""Finding -> import paths of the checks of this package."""

_MOVED = {"PROBES": f"{__name__}:CHECKS"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
