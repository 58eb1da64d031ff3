"""A stored network meets a scan whose probe is not the one it was trained with."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex64

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.scan import Scan
from ptycho_core.solver import solve

__all__ = ["refined_probe", "same_probe"]

#: Correlation of two probes above which they are one.
_SAME = 0.99
#: Frames from the middle of a scan that are enough to refine its probe.
_FRAMES = 150


def same_probe(
    one: Complex64[np.ndarray, "mode n n"], other: Complex64[np.ndarray, "other_mode other_n other_n"]
) -> bool:
    """Return whether the strongest modes are the same but for a complex factor."""
    if one.shape[-1] != other.shape[-1]:
        return False
    overlap = abs(np.vdot(one[0], other[0]))
    return bool(overlap >= _SAME * np.linalg.norm(one[0]) * np.linalg.norm(other[0]))


def refined_probe(scan: Scan) -> Complex64[np.ndarray, "mode n n"]:
    """Refine the probe of a scan by the solver, from the frames nearest to its middle; in counts."""
    distance = np.square(scan.positions_px - np.median(scan.positions_px, axis=0)).sum(axis=1)
    part = scan.select(np.sort(np.argsort(distance, kind="stable")[:_FRAMES]))
    config = SolverConfig(probe_modes=len(scan.probe))
    return solve(part, config, SolverExecutionConfig(arrays="numpy", accelerator="cpu")).probe
