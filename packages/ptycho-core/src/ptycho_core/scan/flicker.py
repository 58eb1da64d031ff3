"""A beam whose intensity differs from frame to frame, told from a sample that absorbs.

What absorbs changes little from one position to the next, since the beam overlaps; what flickers changes from
frame to frame, wherever they lie.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

__all__ = ["flickers", "intensity_beside_neighbours"]

_NEAREST, _AROUND = 4, 12
#: Relative difference of neighbouring frames from which on it is the beam: samples were at .01 to .04.
_FLICKER = 0.1


def _log_counts(counts: Float64[np.ndarray, " frame"]) -> Float64[np.ndarray, " frame"]:
    return np.log(np.maximum(counts, max(float(np.median(counts)), 1e-30) * 1e-3))


def flickers(positions_px: Float64[np.ndarray, "frame 2"], counts: Float64[np.ndarray, " frame"]) -> bool:
    """Whether the counts of neighbouring frames differ by more than a sample and photon noise do."""
    from scipy.spatial import cKDTree

    n_frames = len(counts)
    if n_frames < 2 * _AROUND:
        return False
    level = _log_counts(counts)
    _, near = cKDTree(positions_px).query(positions_px, k=_NEAREST + 1)
    apart = float(np.median(np.abs(level[:, None] - level[np.asarray(near)[:, 1:]])))
    noise = 1 / np.sqrt(max(float(np.median(counts)), 1.0))
    return bool(apart > max(_FLICKER, 4 * noise))


def intensity_beside_neighbours(
    positions_px: Float64[np.ndarray, "frame 2"], counts: Float64[np.ndarray, " frame"]
) -> Float64[np.ndarray, " frame"]:
    """Intensity of each frame over that of the frames around it, of mean 1."""
    from scipy.spatial import cKDTree

    level = _log_counts(counts)
    _, near = cKDTree(positions_px).query(positions_px, k=min(_AROUND, len(counts)))
    around = level[np.asarray(near).reshape(len(counts), -1)].mean(axis=1)
    intensity = np.exp(level - around)
    return intensity / intensity.mean()
