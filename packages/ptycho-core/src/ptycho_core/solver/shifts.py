"""Sub-pixel shifts of the probe by a few basis functions shared by a whole batch.

A shift by f pixels multiplies the spectrum by exp(-2 pi i k f). For |f| <= 1/2 this is a short Chebyshev
series in f, with coefficients that depend on the frequency k alone. So the probes of all frames of a batch
are sums of K = 10 functions which cost K transforms a batch instead of one a frame; the matrix of weights
is real, and the adjoint uses the same matrix and the conjugate filters. For N = 128 the largest error of a
shifted probe is below one part in a thousand.

Spectra have the zero frequency in the centre, index n/2, as everywhere in the solver.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex64, Float32, Float64
from numpy.polynomial import chebyshev

from ptycho_core.physics.canvas import frequencies

__all__ = ["DEGREE", "shift_filters", "shift_lines", "shift_slopes", "shift_weights"]

#: Highest total degree kept; 3 gives (3 + 1)(3 + 2)/2 = 10 basis functions.
DEGREE = 3
_NODES = 16


def _pairs(degree: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(degree + 1) for b in range(degree + 1) if a + b <= degree]


def shift_filters(size_px: int, degree: int = DEGREE) -> Complex64[np.ndarray, "basis n n"]:
    """Filters that turn the centred spectrum of a probe into those of the basis functions."""
    series = _series(size_px, degree)
    return np.stack([series[a][:, None] * series[b][None] for a, b in _pairs(degree)]).astype(np.complex64)


def shift_lines(size_px: int, degree: int = DEGREE) -> Float32[np.ndarray, "line n"]:
    """Lines r_a whose products are the filters: f_a = r_a for an even a, and i r_a for an odd one.

    A Chebyshev series of exp(-i x t) has the coefficients (-i)^a times real numbers.
    """
    series = _series(size_px, degree)
    return np.where(np.arange(degree + 1)[:, None] % 2, np.imag(series), np.real(series)).astype(np.float32)


def _series(size_px: int, degree: int) -> np.ndarray:
    """Coefficients (degree + 1, n) of the Chebyshev series of a shift by up to half a pixel."""
    nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES) / 2
    phases = np.exp(-2j * np.pi * nodes[:, None] * frequencies(size_px)[None])
    return np.linalg.lstsq(chebyshev.chebvander(2 * nodes, degree), phases, rcond=None)[0]


def shift_weights(
    remainders_px: Float64[np.ndarray, "frame 2"], degree: int = DEGREE
) -> Float32[np.ndarray, "frame basis"]:
    """Weights of the basis functions for shifts (y, x) within half a pixel."""
    rows = chebyshev.chebvander(2 * remainders_px[:, 0], degree)
    columns = chebyshev.chebvander(2 * remainders_px[:, 1], degree)
    return np.stack([rows[:, a] * columns[:, b] for a, b in _pairs(degree)], axis=1).astype(np.float32)


def shift_slopes(
    remainders_px: Float64[np.ndarray, "frame 2"], degree: int = DEGREE
) -> Float64[np.ndarray, "2 frame basis"]:
    """Derivatives of `shift_weights` by the shift along y and along x, per pixel."""
    series = chebyshev.chebder(np.eye(degree + 1))
    values = [chebyshev.chebvander(2 * along, degree) for along in remainders_px.T]
    slopes = [2 * chebyshev.chebvander(2 * along, degree - 1) @ series for along in remainders_px.T]
    pairs = _pairs(degree)
    along_y = np.stack([slopes[0][:, a] * values[1][:, b] for a, b in pairs], axis=1)
    along_x = np.stack([values[0][:, a] * slopes[1][:, b] for a, b in pairs], axis=1)
    return np.stack([along_y, along_x])
