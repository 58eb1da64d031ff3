"""Probes of this package; what a probe is says `ptycho_config.probes`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["PROBES"]

PROBES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "BUNDLE-001": ("ptycho_core.probes.bundles.bundles_hold_no_code",),
        "DATA-001": ("ptycho_core.probes.scans.scans_are_checked_at_the_door",),
        "DATA-SUP-001": ("ptycho_core.probes.labels.labels_are_asked_for",),
        "FORMAT-001": ("ptycho_core.probes.layouts.the_frame_axis_is_found_and_announced",),
        "NORMALIZATION-001": ("ptycho_core.probes.scales.scales_are_never_mixed",),
        "OVERSAMPLING-001": ("ptycho_core.probes.groups.more_groups_than_frames_are_a_decision",),
        "POLICY-001": ("ptycho_core.probes.solver.the_solver_takes_no_other_device",),
    }
)
"""Finding -> import paths of the probes of this package."""
