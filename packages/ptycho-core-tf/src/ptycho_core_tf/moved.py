"""Modules of this package that moved, for one release under their old names."""

from __future__ import annotations

from ptycho_config.moved import Moved

#: Old module -> where its names are now.
MOVED: Moved = {
    "ptycho_core_tf.bundles": (
        "ptycho_core_tf.loading",
        "ptycho_core_tf.trained",
    ),
    "ptycho_core_tf.probes": ("ptycho_core_tf.checks",),
    "ptycho_core_tf.probes.collapse": ("ptycho_core_tf.checks.training",),
    "ptycho_core_tf.probes.device": ("ptycho_core_tf.checks.training",),
    "ptycho_core_tf.probes.labels": ("ptycho_core_tf.checks.training",),
    "ptycho_core_tf.probes.traces": ("ptycho_core_tf.checks.training",),
    "ptycho_core_tf.probes.training": (
        "ptycho_core_tf.checks.training",
        "ptycho_core.checks.core_training",
    ),
}
