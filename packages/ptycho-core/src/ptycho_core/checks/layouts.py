"""FORMAT-001: the frame axis is found by the positions, moved where it is last, and the move is announced."""

from __future__ import annotations

import warnings

import numpy as np

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import DataError, PolicyWarning
from ptycho_core.checks import samples
from ptycho_core.io import scan_from_arrays

__all__ = ["the_frame_axis_is_found_and_announced"]

FINDING = "FORMAT-001"


def the_frame_axis_is_found_and_announced() -> Evidence:
    """Open a stack frames-first, frames-last, one that fits both ways, and one that fits neither.

    Raises:
        CheckError: FORMAT-001 does not hold.
    """
    first = samples.counts(9)
    _opens(first, first, n_warnings=0, what="frames-first")
    said = _opens(np.moveaxis(first, 0, 2), first, n_warnings=1, what="frames-last")
    demand("last axis" in said, FINDING, f"frames-last: the warning says {said!r}", "which axis was taken")
    cube = samples.counts(samples.FRAME_PX)
    said = _opens(cube, cube, n_warnings=1, what="a cube")
    demand("fit both ways" in said, FINDING, f"a cube: the warning says {said!r}", "that it was a choice")
    what = "a stack that fits neither way"
    refused(FINDING, DataError, what, lambda: scan_from_arrays(first[:, :15], samples.positions_px(7)))
    return {
        "frames-first": "read as it is, without a word",
        "frames-last": "transposed, one warning",
        "fits both ways": "read frames-first, one warning that says so",
        "fits neither way": "refused",
    }


def _opens(stored: np.ndarray, frames: np.ndarray, *, n_warnings: int, what: str) -> str:
    positions = samples.positions_px(len(frames))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scan = scan_from_arrays(stored, positions, samples.probe(), measurement="counts", dc="center")
    said = [
        str(one.message)
        for one in caught
        if isinstance(one.message, PolicyWarning) and one.message.finding == FINDING
    ]
    demand(
        np.array_equal(scan.counts(), frames), FINDING, f"{what}: other frames came out", "the same frames"
    )
    demand(len(said) == n_warnings, FINDING, f"{what}: {len(said)} warnings", f"{n_warnings}")
    return said[0] if said else ""
