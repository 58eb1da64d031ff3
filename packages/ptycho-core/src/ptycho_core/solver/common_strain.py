"""What the moves of all frames have in common: is the scan stretched, turned or sheared, or is it chance?

Errors that are independent from frame to frame average out, so the positions given say how large the scan
is and how it is turned: of M errors of deviation s, each number of a strain is off by about s / sqrt(M) over
the spread of the positions. An image says less: it can hardly tell a strain of the scan from a defocus of the
probe. So what the moves have in common is kept only where it is more than chance.

Where errors are independent and normal, the sum of squares of the strained part over their variance has a
chi-square distribution of four degrees of freedom. Source: H. Scheffé, The Analysis of Variance (1959),
chapter 2.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

__all__ = ["without_chance_strain"]

#: Chance exceeds this value of a chi-square of four degrees of freedom once in a thousand times.
_BEYOND_CHANCE = 18.5
#: Frames that moved so many times farther than the median one say nothing about the others.
_ASTRAY = 3.0


def without_chance_strain(
    moves_px: Float64[np.ndarray, "frame 2"], positions_px: Float64[np.ndarray, "frame 2"]
) -> tuple[Float64[np.ndarray, "frame 2"], bool]:
    """Take the strain out of the moves where it is no more than chance.

    Args:
        moves_px: (M, 2) float64 (y, x), by how much each frame was moved. positions_px: (M, 2) before that.

    Returns:
        The moves (M, 2), and whether they still have a strain.
    """
    length = np.linalg.norm(moves_px, axis=1)
    near = length <= _ASTRAY * np.median(length)
    across = np.column_stack([positions_px - positions_px.mean(axis=0), np.ones(len(moves_px))])
    fit = np.linalg.lstsq(across[near], moves_px[near], rcond=None)[0]
    strain_px = across[:, :2] @ fit[:2]
    variance = np.square(moves_px - across @ fit)[near].mean()
    strained = float(np.square(strain_px[near]).sum()) > _BEYOND_CHANCE * float(variance)
    return (moves_px, True) if strained else (moves_px - strain_px, False)
