"""The canvas on which an object lies: bands of rows, coverage, and the change to other pixels.

What is worked out of a large canvas goes through it in bands of rows and so does without copies of it. An
object is carried to another resolution level or canvas (`resample_object`, `paste`), or onto whole scan
pixels (`on_whole_pixels`), which are those of other programs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft
import scipy.sparse
from jaxtyping import Complex64, Float32, Float64
from scipy import ndimage

__all__ = [
    "coverage_of",
    "frequencies",
    "light_on",
    "on_whole_pixels",
    "paste",
    "resample_object",
    "row_bands",
]

#: Pixels of a band. Most canvases are a single one; a complex128 temporary of it takes 32 MiB.
_BAND_PIXELS = 1 << 21


def row_bands(shape: tuple[int, ...], *, multiple: int = 1, pixels: int = _BAND_PIXELS) -> Iterator[slice]:
    """Cut the rows of an image (H, W) into bands of about so many pixels.

    Args:
        multiple: every band but the last has a multiple of so many rows.
    """
    rows = max(1, pixels // max(1, shape[1] * multiple)) * multiple
    for first in range(0, shape[0], rows):
        yield slice(first, min(first + rows, shape[0]))


#: Of the spline; 5 moves a sharp object by half a pixel with a tenth of the blur of bilinear interpolation.
_ORDER = 5
#: Shifts below it, in pixels, change nothing that a frame could show.
_NOTHING = 1e-6


def on_whole_pixels(
    obj: Complex64[np.ndarray, "h w"], origin_px: Float64[np.ndarray, " 2"]
) -> tuple[Complex64[np.ndarray, "h w"], Float64[np.ndarray, " 2"]]:
    """Return the object resampled so that its pixels are whole scan coordinates, and its new origin.

    Args:
        origin_px: scan coordinate (y, x) of pixel [0, 0]; the nearest whole one is the new origin.
    """
    whole = np.floor(origin_px + 0.5)
    shift = origin_px - whole
    if np.abs(shift).max() < _NOTHING:
        return obj, whole
    moved = ndimage.shift(obj.astype(np.complex128), shift, order=_ORDER, mode="nearest")
    return moved.astype(np.complex64), whole


_LOBES = 3


def resample_object(
    obj: Complex64[np.ndarray, "rows columns"],
    shape: tuple[int, int],
    *,
    margin_px: int,
    old_scale: float,
    new_scale: float,
    old_corner: tuple[int, int] = (0, 0),
    new_corner: tuple[int, int] = (0, 0),
) -> Complex64[np.ndarray, "new_rows new_columns"]:
    """Interpolate O - 1 with a Lanczos-3 kernel onto a canvas of another pixel size.

    Args:
        margin_px: width of the margin around the scan, in pixels of either canvas.
        old_scale, new_scale: canvas pixels per pixel of the full detector.
        old_corner, new_corner: (y, x) pixel of either canvas at which its part begins, where it is a tile.
    """
    rows, columns = (
        (np.arange(at, at + length) - margin_px) / new_scale * old_scale + margin_px - begun
        for length, at, begun in zip(shape, new_corner, old_corner, strict=True)
    )
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


def frequencies(size_px: int) -> Float64[np.ndarray, " n"]:
    """Frequencies of a centred spectrum in cycles per pixel, from -1/2 up."""
    return (np.arange(size_px) - size_px // 2) / size_px


def coverage_of(
    probe: Complex64[np.ndarray, "mode n n"],
    corners: np.ndarray,
    shape: tuple[int, int],
) -> Float32[np.ndarray, "rows columns"]:
    """Light that each canvas pixel got, from whole-pixel windows, relative to the largest."""
    covered = light_on(corners, np.square(np.abs(probe), dtype=np.float64).sum(axis=0), shape)
    return np.divide(covered, covered.max(), out=covered)


def light_on(
    corners: np.ndarray, light: np.ndarray, shape: tuple[int, int], *, weight: np.ndarray | None = None
) -> Float32[np.ndarray, "rows columns"]:
    """Sum the light (n, n) of windows at whole pixels on a canvas.

    Args:
        corners: (m, 2), top-left pixel (y, x) of each window. weight: (m,) of each window; 1 by default.
    """
    size = light.shape[-1]
    order = np.argsort(corners[:, 0], kind="stable")
    by_row, weights = corners[order], np.ones(len(order)) if weight is None else weight[order]
    covered = np.empty(shape, np.float32)
    for band in row_bands(shape):
        # Windows that reach into the band begin in it, or fewer rows than a window above it.
        above = band.start - size + 1
        first, last = np.searchsorted(by_row[:, 0], (above, band.stop))
        hits = np.zeros((band.stop - above, shape[1] - size + 1))
        np.add.at(hits, (by_row[first:last, 0] - above, by_row[first:last, 1]), weights[first:last])
        covered[band] = _light(hits, light)[size - 1 : len(hits)]
    return covered


def _light(hits: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Light of windows (n, n) whose corners are hit so often; 0 where no window lies."""
    size = len(light)
    shape = (hits.shape[0] + size - 1, hits.shape[1] + size - 1)
    full = (scipy.fft.next_fast_len(shape[0], real=True), scipy.fft.next_fast_len(shape[1], real=True))
    product = scipy.fft.rfft2(hits, full)
    product *= scipy.fft.rfft2(light, full)
    covered = scipy.fft.irfft2(product, full, overwrite_x=True)[: shape[0], : shape[1]]
    return np.where(_seen(hits > 0, size), np.maximum(covered, 0), 0)


def _seen(hits: np.ndarray, size: int) -> np.ndarray:
    """Canvas pixels inside at least one window, by counting windows with cumulative sums."""
    counts = np.zeros((hits.shape[0] + 2 * size - 1, hits.shape[1] + 2 * size - 1), np.int32)
    counts[size:, size:][: hits.shape[0], : hits.shape[1]] = hits
    sums = counts.cumsum(axis=0, out=counts).cumsum(axis=1, out=counts)
    windows = sums[size:, size:] - sums[:-size, size:]
    windows -= sums[size:, :-size]
    windows += sums[:-size, :-size]
    return windows > 0
