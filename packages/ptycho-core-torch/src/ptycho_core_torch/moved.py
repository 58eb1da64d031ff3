"""Modules of this package that moved, for one release under their old names."""

from __future__ import annotations

from ptycho_config.moved import Moved

#: Old module -> where its names are now.
MOVED: Moved = {
    "ptycho_core_torch.bundles": (
        "ptycho_core_torch.loading",
        "ptycho_core_torch.trained",
    ),
    "ptycho_core_torch.probes": ("ptycho_core_torch.checks",),
    "ptycho_core_torch.probes.accumulation": ("ptycho_core_torch.checks.accumulation",),
    "ptycho_core_torch.probes.collapse": ("ptycho_core_torch.checks.training",),
    "ptycho_core_torch.probes.device": ("ptycho_core_torch.checks.training",),
    "ptycho_core_torch.probes.labels": ("ptycho_core_torch.checks.training",),
    "ptycho_core_torch.probes.traces": ("ptycho_core_torch.checks.training",),
    "ptycho_core_torch.probes.training": (
        "ptycho_core_torch.checks.training",
        "ptycho_core.checks.core_training",
    ),
}
