"""Turn an object and a probe on a canvas, whoever found them, into a judged `Reconstruction`."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float32, Float64

from ptycho_core.bands import row_bands
from ptycho_core.gauge import hand_over_ramp, orthogonal_modes
from ptycho_core.reconstruction import Reconstruction
from ptycho_core.residual import AmplitudeSource, data_residual
from ptycho_core.scan import Scan

__all__ = ["coverage_of", "make_reconstruction"]


def coverage_of(
    probe: Complex64[np.ndarray, "mode n n"],
    corners: np.ndarray,
    shape: tuple[int, int],
) -> Float32[np.ndarray, "rows columns"]:
    """Light that each canvas pixel got, from whole-pixel windows, relative to the largest."""
    light = np.square(np.abs(probe), dtype=np.float64).sum(axis=0)
    size = light.shape[-1]
    by_row = corners[np.argsort(corners[:, 0], kind="stable")]
    covered = np.empty(shape, np.float32)
    for band in row_bands(shape):
        # Windows that reach into the band begin in it, or fewer rows than a window above it.
        above = band.start - size + 1
        first, last = np.searchsorted(by_row[:, 0], (above, band.stop))
        hits = np.zeros((band.stop - above, shape[1] - size + 1))
        np.add.at(hits, (by_row[first:last, 0] - above, by_row[first:last, 1]), 1.0)
        covered[band] = _light(hits, light)[size - 1 : len(hits)]
    return np.divide(covered, covered.max(), out=covered)


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


def make_reconstruction(
    scan: Scan,
    *,
    obj: Complex64[np.ndarray, "rows columns"],
    probe: Complex64[np.ndarray, "mode n n"],
    origin_px: Float64[np.ndarray, " 2"],
    method: str,
    overwrite_obj: bool = False,
    frames: AmplitudeSource | None = None,
    **record: Any,
) -> Reconstruction:
    """Fix the gauge, judge by the data residual, and put everything into one record.

    Args:
        obj: (rows, columns) on a canvas that holds the window of every frame and a pixel more on each side.
        probe: (P, N, N) such that the orthonormal transform of probe x object has the counts as its square.
        origin_px: scan coordinate (y, x) of canvas pixel [0, 0].
        method: `solver` or `network`.
        overwrite_obj: let the result take the place of `obj`, which spares a copy of the canvas.
        frames: the amplitudes of the scan where they are at hand; by default it is read again.
        record: further fields of `Reconstruction`.
    """
    on_canvas = scan.positions_px - origin_px
    corners = np.floor(on_canvas - scan.frame_px // 2 + 0.5).astype(np.int64)
    coverage = coverage_of(probe, corners, obj.shape)
    flat, lit = hand_over_ramp(obj, orthogonal_modes(probe), coverage, overwrite_obj=overwrite_obj)
    flat[coverage == 0] = 1
    residual = data_residual(flat, lit, on_canvas, scan if frames is None else frames)
    return Reconstruction(
        object=flat,
        probe=lit,
        origin_px=origin_px,
        positions_px=scan.positions_px,
        coverage=coverage,
        residual_per_frame=residual.per_frame,
        data_residual=residual.value,
        method=method,
        scan_name=scan.name,
        pixel_size_m=scan.pixel_size_m,
        energy_ev=scan.energy_ev,
        distance_m=scan.distance_m,
        **record,
    )
