"""Frames held against an image of which every rank has its own part.

Each rank looks at the frames in its part of the plane; what it finds is added up, so that all of them know it
of all frames.
"""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

import numpy as np

from ptycho_core.ranks import Ranks
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver.places import misfits_at
from ptycho_core.solver.team import Team
from ptycho_core.solver.unseen_frames import residuals_of_unseen

__all__ = ["Onlookers"]


class Onlookers:
    """The ranks, each with its part of any image of a scan."""

    def __init__(self, ranks: Ranks, scan: Scan, *, kernel: ctypes.CDLL | None = None) -> None:
        """Cut the plane as the frames of the scan lie.

        Args:
            kernel: the compiled library, where it is to be used.
        """
        self._team = Team.of(ranks, scan.positions_px)
        self._misfits_at = partial(misfits_at, kernel=kernel)

    def misfits_at(self, scan: Scan, image: Reconstruction, offsets: np.ndarray, **how: Any) -> np.ndarray:
        """Do what `places.misfits_at` does, with this rank's part of the image."""
        if not self._team.several:
            return self._misfits_at(scan, image, offsets, **how)
        found, here = np.zeros((len(offsets), scan.n_frames), np.float32), self._team.here(scan.positions_px)
        if here.size:
            found[:, here] = self._misfits_at(scan.select(here), image, offsets, **how)
        return self._team.total(found)

    def residuals(self, scan: Scan, image: Reconstruction) -> np.ndarray:
        """Do what `residuals_of_unseen` does, with this rank's part of the image."""
        if not self._team.several:
            return residuals_of_unseen(scan, image)
        found, here = np.zeros(scan.n_frames), self._team.here(scan.positions_px)
        if here.size:
            found[here] = residuals_of_unseen(scan.select(here), image)
        return self._team.total(found)
