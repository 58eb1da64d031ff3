"""How likely measured counts are under an expected rate: Poisson's, in its two usual forms.

With T measured and lambda expected counts in a pixel:

    nll       lambda - T log(lambda)                  constant terms left out
    deviance  lambda - T + T log(T / lambda)          0 at lambda = T, else positive

Both have the same gradient, 1 - T / lambda. All counts are physical (NORMALIZATION-001).
Source: P. Thibault and M. Guizar-Sicairos, New J. Phys. 14 (2012) 063004, 10.1088/1367-2630/14/6/063004;
docs/reference/physics.md, "Likelihoods and losses".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Real
from scipy.special import xlogy

SMALLEST_RATE_COUNTS = 1e-8
"""Expected counts below this are raised to it before a logarithm."""


def poisson_nll(
    *, expected_counts: Real[np.ndarray, "*pixels"], measured_counts: Real[np.ndarray, "*pixels"]
) -> Float64[np.ndarray, "*pixels"]:
    """Return lambda - T log(lambda) of every pixel, without log T!.

    >>> round(float(poisson_nll(expected_counts=np.array(8.0), measured_counts=np.array(9.0))), 3)
    -10.715
    """
    rate, measured = _rates(expected_counts, measured_counts)
    return np.asarray(rate - measured * np.log(rate))


def poisson_deviance(
    *, expected_counts: Real[np.ndarray, "*pixels"], measured_counts: Real[np.ndarray, "*pixels"]
) -> Float64[np.ndarray, "*pixels"]:
    """Return lambda - T + T log(T / lambda) of every pixel: 0 where both agree, never negative."""
    rate, measured = _rates(expected_counts, measured_counts)
    # A ratio of counts near the smallest number there is would fall to 0, and its logarithm to -infinity.
    ratio = np.maximum(measured / rate, np.finfo(np.float64).tiny)
    return np.asarray(rate - measured + xlogy(measured, ratio))


def poisson_gradient(
    *, expected_counts: Real[np.ndarray, "*pixels"], measured_counts: Real[np.ndarray, "*pixels"]
) -> Float64[np.ndarray, "*pixels"]:
    """Return the derivative of either form by the expected counts, 1 - T / lambda."""
    rate, measured = _rates(expected_counts, measured_counts)
    return np.asarray(1 - measured / rate)


def _rates(expected_counts: np.ndarray, measured_counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rate = np.maximum(expected_counts.astype(np.float64), SMALLEST_RATE_COUNTS)
    return np.asarray(rate), np.asarray(measured_counts.astype(np.float64))
