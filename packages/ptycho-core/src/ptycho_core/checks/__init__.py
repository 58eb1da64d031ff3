"""Checks of this package; what a check is says `ptycho_config.checks`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ptycho_config.moved import moved_name

__all__ = ["CHECKS"]

CHECKS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "BUNDLE-001": ("ptycho_core.checks.bundles.bundles_hold_no_code",),
        "DATA-001": ("ptycho_core.checks.scans.scans_are_checked_at_the_door",),
        "DATA-SUP-001": ("ptycho_core.checks.labels.labels_are_asked_for",),
        "FORMAT-001": ("ptycho_core.checks.layouts.the_frame_axis_is_found_and_announced",),
        "NORMALIZATION-001": ("ptycho_core.checks.scales.scales_are_never_mixed",),
        "OVERSAMPLING-001": ("ptycho_core.checks.groups.more_groups_than_frames_are_a_decision",),
        "POLICY-001": ("ptycho_core.checks.solver.the_solver_takes_no_other_device",),
    }
)
"""Finding -> import paths of the checks of this package."""

_MOVED = {"PROBES": f"{__name__}:CHECKS"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
