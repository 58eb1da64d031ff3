"""What looks suspicious in a scan: light, positions, beam, detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ptycho_core import Scan

__all__ = ["some_of", "survey", "suspicious"]

_LITTLE_OVERLAP = 0.5
_FEW_COUNTS = 1e3
#: A frame with less or more than this share of the median counts stands out.
_DIM, _BRIGHT = 0.2, 5.0
#: So many pixels at the very highest value of the whole scan are no accident.
_SATURATED_PIXELS = 20
#: Pixels between the beam and index N/2 that are no accident, as a share of N.
_OFF_CENTRE = 1 / 16
_FRAMES_AT_ONCE = 256


def survey(scan: Scan) -> tuple[np.ndarray, float, int]:
    """Read all frames once, a few at a time: counts of each, the highest pixel, how many pixels have it."""
    sums = np.empty(scan.n_frames)
    highest, n_highest = 0.0, 0
    for first in range(0, scan.n_frames, _FRAMES_AT_ONCE):
        chosen = slice(first, min(first + _FRAMES_AT_ONCE, scan.n_frames))
        counts = scan.counts(chosen)
        sums[chosen] = counts.sum(axis=(1, 2), dtype=np.float64)
        top = float(counts.max())
        if top >= highest:
            n_highest = int(np.count_nonzero(counts == top)) + (n_highest if top == highest else 0)
            highest = top
    return sums, highest, n_highest


def suspicious(scan: Scan, counts_per_frame: np.ndarray, highest: float, n_highest: int) -> list[str]:
    """Say in words what is unusual about a scan, given what `survey` found."""
    from ptycho_core.io.overlap import overlap_fraction

    found = []
    overlap = overlap_fraction(scan.positions_px, scan.probe)
    if scan.n_frames > 1 and overlap < _LITTLE_OVERLAP:
        found.append(f"neighbouring frames share little light ({overlap:.0%} overlap)")
    counts = scan.mean_counts_per_frame()
    if counts < _FEW_COUNTS:
        found.append(f"only {counts:.3g} counts per frame")
    empty = counts_per_frame == 0
    if empty.any():
        found.append(f"frames without any counts: {some_of(empty)}")
    median = float(np.median(counts_per_frame))
    dim = ~empty & (counts_per_frame < _DIM * median)
    if dim.any():
        found.append(f"frames with less than {_DIM:.0%} of the usual counts: {some_of(dim)}")
    bright = counts_per_frame > _BRIGHT * median
    if median > 0 and bright.any():
        found.append(f"frames with more than {_BRIGHT:g} times the usual counts: {some_of(bright)}")
    if highest > 255 and n_highest >= _SATURATED_PIXELS:
        found.append(f"{n_highest} pixels have the highest value {highest:g}: the detector may be saturated")
    found += _beam(scan)
    repeated = scan.n_frames - len(np.unique(scan.positions_px, axis=0))
    if repeated:
        found.append(f"{repeated} positions occur more than once")
    return found


def _beam(scan: Scan) -> list[str]:
    """Say where the beam is, if it is far from index N/2."""
    from ptycho_core.io.beam import beam_center_px

    y, x = beam_center_px(scan.mean_pattern(), np.broadcast_to(scan.good_pixels([0]), (scan.frame_px,) * 2))
    middle = scan.frame_px // 2
    off = max(abs(y - middle), abs(x - middle))
    if scan.dc == "corner" or off <= max(2, _OFF_CENTRE * scan.frame_px):
        return []
    return [f"the beam is at pixel ({y}, {x}), not at ({middle}, {middle}): crop with `--crop-px`"]


def some_of(chosen: np.ndarray) -> str:
    """Name the first of the frames that are chosen (bool)."""
    indices = np.flatnonzero(chosen)
    more = "" if len(indices) <= 5 else f" and {len(indices) - 5} more"
    return ", ".join(map(str, indices[:5])) + more
