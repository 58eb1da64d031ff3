"""A network is only as good as its probe: refine it by the solver before training."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptycho_core import Scan

__all__ = ["with_refined_probe"]

logger = logging.getLogger("ptycho")
#: More than this teach nothing new about the probe, and a long scan should not be solved to find it.
_MOST_FRAMES = 1000


def with_refined_probe(scan: Scan) -> Scan:
    """Return the scan with the probe that the solver finds in a few seconds."""
    from ptycho_core.probe_refinement import refine_probe

    result = refine_probe(scan, most_frames=_MOST_FRAMES)
    logger.info(
        "Probe refined by the solver in %.1f s (R %.4f); `--probe-refinement false` leaves it as given.",
        result.timings["total"],
        result.data_residual,
    )
    return replace(scan, probe=result.probe, probe_source="given")
