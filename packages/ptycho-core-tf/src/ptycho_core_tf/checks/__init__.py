"""Probes of this core; what a probe is says `ptycho_config.checks`. Importing this loads no framework."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["PROBES"]

PROBES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "CONFIG-LOGGER-001": ("ptycho_core_tf.checks.traces.a_training_leaves_its_metrics",),
        "DATA-SUP-001": ("ptycho_core_tf.checks.labels.labels_are_asked_for_before_training",),
        "POLICY-001": (
            "ptycho_core_tf.checks.device.an_absent_gpu_is_refused_at_the_start",
            "ptycho_core_tf.checks.device.auto_without_a_gpu_warns_once",
        ),
        "TRAIN-COLLAPSE-001": ("ptycho_core_tf.checks.collapse.a_constant_network_is_stopped",),
    }
)
"""Finding -> import paths of the probes of this package."""
