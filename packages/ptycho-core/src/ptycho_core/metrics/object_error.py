"""The object error: how much of the truth's variation a reconstruction misses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Complex64, Float64, Real

from ptycho_config.errors import DataError

from .alignment import align

ILLUMINATED_FRACTION = 0.1
"""Share of the greatest coverage above which a pixel belongs to the region that is judged."""


@dataclass(frozen=True, eq=False)
class ObjectError:
    """The object error and the alignment it was found with.

    Attributes:
        value: 0 for the truth, 1 for a transparent object, above 1 for worse than nothing.
        shift_px: (y, x) by which the estimate was moved.
        ramp: (y, x) slope in rad per pixel of the phase added after the shift, 0 at index (H//2, W//2).
        factor: complex number that multiplied the result.
        aligned: (H, W) the estimate so treated.
        region: (H, W) the pixels judged.
    """

    value: float
    shift_px: Float64[np.ndarray, "2"]
    ramp: Float64[np.ndarray, "2"]
    factor: complex
    aligned: Complex64[np.ndarray, "h w"]
    region: Bool[np.ndarray, "h w"]


def illuminated_region(coverage: Real[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels that got more than a tenth of the greatest coverage."""
    greatest = coverage.max(initial=0)
    if not greatest > 0:
        raise DataError("no pixel of `coverage` is above 0; pass the light that each object pixel received")
    return coverage > ILLUMINATED_FRACTION * greatest


def object_error(
    estimate: Complex[np.ndarray, "_ _"],
    truth: Complex[np.ndarray, "h w"],
    coverage: Real[np.ndarray, "_ _"] | None = None,
) -> ObjectError:
    """Score a reconstructed object against the truth, freed of what frames cannot fix.

        e = sqrt( mean |c E - O|^2 / mean |O - mean O|^2 )

    over the pixels with more than 10 % of the greatest coverage, E the estimate after the best sub-pixel
    shift and linear phase ramp, c the best complex factor. A transparent object scores 1.

    Args:
        estimate: the reconstructed object.
        truth: the true object on the same canvas; may be shifted by some pixels.
        coverage: light that each pixel of the truth received, any unit; None judges every pixel.

    Raises:
        DataError: shapes differ, no pixel is covered, or the truth does not vary where it is covered.

    Source: an error that is blind to what the frames cannot fix is that of J. R. Fienup, Appl. Opt. 36 (1997)
    8352, 10.1364/AO.36.008352; docs/reference/physics.md, "Object error".
    """
    if not (estimate.shape == truth.shape == (truth.shape if coverage is None else coverage.shape)):
        raise DataError(
            f"the shapes of estimate {estimate.shape}, truth {truth.shape} and coverage "
            f"{getattr(coverage, 'shape', None)} differ; `compare` brings them to one canvas"
        )
    region = np.ones(truth.shape, bool) if coverage is None else illuminated_region(coverage)
    inside = truth[region].astype(np.complex128)
    variation = np.mean(np.abs(inside - inside.mean()) ** 2)
    if not variation > 1e-20 * np.mean(np.abs(inside) ** 2):
        raise DataError(
            "the truth does not vary where it is covered, so there is nothing to miss; use another object"
        )
    found = align(estimate, truth, region)
    missed = np.mean(np.abs(found.aligned[region] - inside) ** 2)
    return ObjectError(
        value=float(np.sqrt(missed / variation)),
        shift_px=found.shift_px,
        ramp=found.ramp_rad_per_px,
        factor=found.factor,
        aligned=found.aligned.astype(np.complex64),
        region=region,
    )
