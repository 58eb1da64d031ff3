"""Carry an object from one resolution level, or one canvas, to the next."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from jaxtyping import Complex64, Float64

from ptycho_core.bands import row_bands

__all__ = ["paste", "resample_object"]

_LOBES = 3


def resample_object(
    obj: Complex64[np.ndarray, "rows columns"],
    shape: tuple[int, int],
    *,
    margin_px: int,
    old_scale: float,
    new_scale: float,
) -> Complex64[np.ndarray, "new_rows new_columns"]:
    """Interpolate O - 1 with a Lanczos-3 kernel onto a canvas of another pixel size.

    Args:
        margin_px: width of the margin around the scan, in pixels of either canvas.
        old_scale, new_scale: canvas pixels per pixel of the full detector.
    """
    rows, columns = ((np.arange(length) - margin_px) / new_scale * old_scale + margin_px for length in shape)
    along_rows, along_columns = _lanczos(rows, obj.shape[0]), _lanczos(columns, obj.shape[1])
    contrast, resampled = obj - 1, np.empty(shape, np.complex64)
    for band in row_bands(shape):
        rows_done = np.ascontiguousarray((along_rows[band] @ contrast).T)
        np.add((along_columns @ rows_done).T, 1, out=resampled[band])
    return resampled


def _lanczos(targets: Float64[np.ndarray, " target"], length: int) -> scipy.sparse.csr_matrix:
    """Sparse matrix that interpolates samples 0 .. length-1 at `targets`; rows sum to one inside."""
    first = np.floor(targets).astype(int) - _LOBES + 1
    columns = first[:, None] + np.arange(2 * _LOBES)
    distance = targets[:, None] - columns
    weights = np.sinc(distance) * np.sinc(distance / _LOBES)
    weights[(columns < 0) | (columns >= length)] = 0
    sums = weights.sum(axis=1, keepdims=True)
    inside = np.abs(sums) > 0.5
    weights = np.where(inside, weights / np.where(inside, sums, 1), 0).astype(np.float32)
    rows = np.repeat(np.arange(len(targets)), 2 * _LOBES)
    entries = (rows, np.clip(columns, 0, length - 1).ravel())
    return scipy.sparse.csr_matrix((weights.ravel(), entries), shape=(len(targets), length))


def paste(target: np.ndarray, source: np.ndarray, offset: np.ndarray) -> None:
    """Copy `source` into `target` where target[i] lies on source[i + offset]."""
    here, there = [], []
    for axis in (0, 1):
        first = max(0, -int(offset[axis]))
        last = min(target.shape[axis], source.shape[axis] - int(offset[axis]))
        here.append(slice(first, max(first, last)))
        there.append(slice(first + int(offset[axis]), max(first, last) + int(offset[axis])))
    target[tuple(here)] = source[tuple(there)]
