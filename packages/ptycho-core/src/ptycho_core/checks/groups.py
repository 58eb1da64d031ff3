"""OVERSAMPLING-001: more groups than frames need the opt-in and a pool larger than the group's neighbours."""

from __future__ import annotations

import numpy as np

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import ConfigError
from ptycho_core.checks import samples
from ptycho_core.scan.grouping import group_frames

__all__ = ["more_groups_than_frames_are_a_decision"]

FINDING = "OVERSAMPLING-001"


def more_groups_than_frames_are_a_decision() -> Evidence:
    """Ask for twice as many groups as frames, without and with what that needs.

    Raises:
        CheckError: OVERSAMPLING-001 does not hold.
    """
    positions, size = samples.positions_px(9), 4
    wanted = 2 * len(positions)
    refused(
        FINDING,
        ConfigError,
        f"{wanted} groups of {len(positions)} frames without the opt-in",
        lambda: group_frames(positions, 2, n_groups=wanted, neighbor_count=6, seed=1),
    )
    refused(
        FINDING,
        ConfigError,
        f"oversampling from a pool of {size - 1} neighbours for groups of {size}",
        lambda: group_frames(
            positions, 2, n_groups=wanted, enable_oversampling=True, neighbor_pool_size=size - 1, seed=1
        ),
    )
    groups = group_frames(
        positions, 2, n_groups=wanted, enable_oversampling=True, neighbor_pool_size=6, seed=1
    ).indices
    demand(groups.shape == (wanted, size), FINDING, f"groups of shape {groups.shape}", f"({wanted}, {size})")
    distinct = len(np.unique(np.sort(groups, axis=1), axis=0))
    demand(
        distinct > len(positions), FINDING, f"only {distinct} distinct groups", f"more than {len(positions)}"
    )
    within = len(group_frames(positions, 2, n_groups=9, neighbor_count=6, seed=1).indices)
    demand(within == 9, FINDING, f"{within} groups of 9 frames", "9, which needs no opt-in")
    return {
        "without `enable_oversampling`": "refused",
        f"a pool of C - 1 = {size - 1}": "refused",
        "with both": f"{wanted} groups of {len(positions)} frames, {distinct} distinct",
    }
