"""The probe of a scan as the solver finds it: what every network is trained and used with."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex64

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.middle import frames_near_the_middle
from ptycho_core.solver import solve

__all__ = ["likeness", "refine_probe", "same_probe"]

#: Correlation of two probes above which they are one.
_SAME = 0.99


def refine_probe(
    scan: Scan, *, most_frames: int, execution: SolverExecutionConfig | None = None
) -> Reconstruction:
    """Solve the frames nearest to the scan's middle, at most so many; the result's `probe` is in counts."""
    if scan.n_frames > most_frames:
        scan = scan.select(np.sort(frames_near_the_middle(scan.positions_px, most_frames)))
    return solve(scan, SolverConfig(probe_modes=len(scan.probe), prior="none"), execution)


def likeness(
    one: Complex64[np.ndarray, "mode n n"], other: Complex64[np.ndarray, "other_mode other_n other_n"]
) -> float:
    """Return the correlation of the strongest modes of two probes.

    It is 1 where they are the same but for a complex factor, 0 where they have nothing in common, or another
    size.
    """
    if one.shape[-1] != other.shape[-1]:
        return 0.0
    size = float(np.linalg.norm(one[0])) * float(np.linalg.norm(other[0]))
    return float(abs(np.vdot(one[0], other[0]))) / size if size > 0 else 0.0


def same_probe(
    one: Complex64[np.ndarray, "mode n n"], other: Complex64[np.ndarray, "other_mode other_n other_n"]
) -> bool:
    """Return whether the strongest modes are the same but for a complex factor."""
    return likeness(one, other) >= _SAME
