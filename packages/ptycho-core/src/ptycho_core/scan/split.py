"""Split the frames of a scan into two halves that both cover it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["split_frames"]


def split_frames(
    positions_px: Float64[np.ndarray, "frame 2"], random: np.random.Generator | None = None
) -> tuple[Int64[np.ndarray, " half"], Int64[np.ndarray, " other_half"]]:
    """Split frames so that neighbours come into different halves, each of which covers the whole scan.

    The scan is halved along its longer side again and again; the two frames of each last piece part ways.

    Args:
        random: turns the scan by any angle first, and draws which of two frames comes into which half;
            without it, the same scan is always split alike.
    """
    if random is not None:
        angle = random.uniform(0, 2 * np.pi)
        turn_by = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        positions_px = positions_px @ turn_by
    pieces = [np.arange(len(positions_px))]
    halves: tuple[list[int], list[int]] = ([], [])
    while pieces:
        piece = pieces.pop()
        if len(piece) <= 2:
            turn = len(halves[0]) > len(halves[1])  # an odd one out goes to the smaller half
            if random is not None and len(piece) == 2:
                turn = random.random() < 0.5
            for place, frame in enumerate(piece.tolist()):
                halves[(place + turn) % 2].append(frame)
            continue
        spread = np.ptp(positions_px[piece], axis=0)
        ranked = piece[np.argsort(positions_px[piece, int(np.argmax(spread))], kind="stable")]
        middle = len(ranked) // 4 * 2 if len(ranked) > 3 else 2
        pieces += [ranked[:middle], ranked[middle:]]
    return np.sort(np.array(halves[0])), np.sort(np.array(halves[1]))
