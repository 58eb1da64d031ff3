"""A small scan for checks, as arrays, so that each of them can spoil one thing in it."""

from __future__ import annotations

import numpy as np

__all__ = ["FRAME_PX", "counts", "positions_px", "probe"]

FRAME_PX = 16


def counts(n_frames: int = 9) -> np.ndarray:
    """Return frames (n_frames, 16, 16) uint16 of counts, bright in the centre, no two alike."""
    at = np.arange(FRAME_PX) - FRAME_PX // 2
    spot = 300 * np.exp(-(at[:, None] ** 2 + at**2) / 8)
    return np.stack([spot + 3 * frame + at + FRAME_PX for frame in range(n_frames)]).astype(np.uint16)


def positions_px(n_frames: int = 9) -> np.ndarray:
    """Return (n_frames, 2) positions on a grid of 2 px steps, rows of three."""
    frame = np.arange(n_frames)
    return np.stack([2.0 * (frame // 3), 2.0 * (frame % 3)], axis=1)


def probe() -> np.ndarray:
    """Return a (16, 16) complex64 probe."""
    at = np.arange(FRAME_PX) - FRAME_PX // 2
    return np.exp(-(at[:, None] ** 2 + at**2) / 20).astype(np.complex64)
