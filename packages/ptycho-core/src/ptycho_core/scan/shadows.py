"""Parts of a detector that lie in shadow: beam stops with their arms, wires, dead pixels.

A shadow has a sharp edge with light on both sides of it; the dark outer part of a detector has light on one
side only, which fades before it ends.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy import ndimage

from ptycho_core.scan.zero_frequency import find_dc

__all__ = ["dark_amid_light"]

#: Photons over all frames: a pixel beside so many is zero throughout once in e^20.
BESIDE_PHOTONS = 20.0
#: Of the mean over all pixels: a shadow begins where there is so much light on both sides.
LIT_PART = 0.1
#: Light counts where it came in at least so many frames.
LIT_FRAMES = 5.0
#: Of the four directions through a pixel, so many have to show that; an arm shows three, a dark fringe one.
DIRECTIONS, DIRECTIONS_BESIDE_SHADOW = 3, 2
#: Longest way through a shadow, as a part of the frame.
WIDEST_PART = 1 / 3


def dark_amid_light(
    total: Float64[np.ndarray, "n n"],
    highest: Float64[np.ndarray, "n n"],
    taken: Bool[np.ndarray, "n n"],
) -> Bool[np.ndarray, "n n"]:
    """Find pixels without any light between pixels that have some.

    Args:
        total: photons over all frames. highest: in a single frame. taken: bad pixels, which tell nothing.
    """
    dark = (total <= 0) & ~taken
    if not dark.any() or taken.all():
        return np.zeros(dark.shape, dtype=bool)
    corner = find_dc(np.where(taken, 0.0, total))[0] == "corner"
    arrays = (dark, np.where(taken, 0.0, total), highest, taken)
    if corner:
        dark, total, highest, taken = (np.fft.fftshift(array) for array in arrays)
    else:
        dark, total, highest, taken = arrays
    often = total >= LIT_FRAMES * highest
    mean = float(total[~taken].mean())
    seeds = _between(dark, often & (total > max(BESIDE_PHOTONS, LIT_PART * mean)), taken) >= DIRECTIONS
    wide = _between(dark, often & (total > BESIDE_PHOTONS), taken) >= DIRECTIONS_BESIDE_SHADOW
    shadow = ndimage.binary_propagation(seeds, np.ones((3, 3), bool), mask=wide | seeds)
    return np.fft.ifftshift(shadow) if corner else shadow


def _between(
    dark: Bool[np.ndarray, "n n"], lit: Bool[np.ndarray, "n n"], taken: Bool[np.ndarray, "n n"]
) -> Int64[np.ndarray, "n n"]:
    """In how many of row, column and diagonals a dark pixel has a lit one at both ends of the dark."""
    reach = max(1, round(WIDEST_PART * max(dark.shape)))
    between = np.zeros(dark.shape, dtype=np.int64)
    through = dark | taken
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one = _distance_to_light(through, lit, (dy, dx), reach)
        other = _distance_to_light(through, lit, (-dy, -dx), reach)
        between += dark & (one + other - 1 <= reach)
    return between


def _distance_to_light(
    through: Bool[np.ndarray, "n n"], lit: Bool[np.ndarray, "n n"], step: tuple[int, int], reach: int
) -> Float64[np.ndarray, "n n"]:
    """Steps to the first pixel in this direction that is not dark, if it is lit; else infinite."""
    distance = np.full(through.shape, np.inf)
    still = through.copy()
    padded_through, padded_lit = (np.pad(array, reach, constant_values=False) for array in (through, lit))
    height, width = through.shape
    for k in range(1, reach + 1):
        y, x = reach + k * step[0], reach + k * step[1]
        ahead_lit = padded_lit[y : y + height, x : x + width]
        distance[still & ahead_lit & ~padded_through[y : y + height, x : x + width]] = k
        still &= padded_through[y : y + height, x : x + width]
        if not still.any():
            break
    return distance
