"""Modules of this package that moved, for one release under their old names."""

from __future__ import annotations

from ptycho_config.moved import Moved

#: Old module -> where its names are now.
MOVED: Moved = {
    "ptycho_dispatch.audit.probe_process": ("ptycho_dispatch.audit.check_process",),
    "ptycho_dispatch.audit.probing": ("ptycho_dispatch.audit.checking",),
    "ptycho_dispatch.backends": ("ptycho_dispatch.commands.backends",),
    "ptycho_dispatch.comparison": ("ptycho_dispatch.commands.comparison",),
    "ptycho_dispatch.configuration": ("ptycho_dispatch.commands.configuration",),
    "ptycho_dispatch.data": ("ptycho_dispatch.commands.data",),
    "ptycho_dispatch.execution_policy": ("ptycho_dispatch.execution_parts",),
    "ptycho_dispatch.inference": ("ptycho_dispatch.commands.inference",),
    "ptycho_dispatch.inspection": ("ptycho_dispatch.commands.inspection",),
    "ptycho_dispatch.legacy_pictures": ("ptycho_dispatch.network_record",),
    "ptycho_dispatch.method": ("ptycho_dispatch.by_network",),
    "ptycho_dispatch.probe": ("ptycho_dispatch.by_network",),
    "ptycho_dispatch.probes": ("ptycho_dispatch.checks",),
    "ptycho_dispatch.probes.commands": ("ptycho_dispatch.checks.commands",),
    "ptycho_dispatch.probes.dispatching": ("ptycho_dispatch.checks.dispatching",),
    "ptycho_dispatch.probes.flow": ("ptycho_dispatch.checks.flow",),
    "ptycho_dispatch.probes.recording": ("ptycho_dispatch.checks.recording",),
    "ptycho_dispatch.processes": ("ptycho_dispatch.dispatcher",),
    "ptycho_dispatch.reconstruct": (
        "ptycho_dispatch.commands.reconstruct",
        "ptycho_dispatch.log",
    ),
    "ptycho_dispatch.simulation": ("ptycho_dispatch.commands.simulation",),
    "ptycho_dispatch.suspicion": ("ptycho_dispatch.commands.inspection",),
    "ptycho_dispatch.training": ("ptycho_dispatch.commands.training",),
    "ptycho_dispatch.watching": ("ptycho_dispatch.commands.watching",),
}
