"""What a detector gives for one photon, from the mean and the variance of every pixel over the frames.

Photons have a variance equal to their mean, so values that are g times the photons have g times their mean.
Where the sample moves light about, the variance is larger, by a part that grows with the square of the mean;
so the dimmest pixels tell, where they agree with those that are less dim (J. R. Janesick, Photon Transfer,
SPIE Press 2007, for a detector under even light).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from ptycho_core.scan.survey import FrameSurvey

__all__ = ["Gain", "found_gain"]

#: Parts into which the pixels are divided by their mean; the first two have to agree.
_PARTS = 10
_AGREE = 0.12
_FEWEST_PIXELS, _FEWEST_FRAMES = 200, 30
#: Photons in a pixel over the whole scan, at least: with fewer, variance is that of single photons.
_LEAST_PHOTONS = 3.0


@dataclass(frozen=True)
class Gain:
    """What the detector gives for a photon.

    Attributes:
        counts_per_photon: the estimate.
        spread: by which part the dim pixels and those that are less dim disagree.
    """

    counts_per_photon: float
    spread: float


def found_gain(survey: FrameSurvey, bad_pixels: Bool[np.ndarray, "n n"] | None = None) -> Gain | None:
    """Estimate the gain of frames that were taken for counts; None where the frames do not tell.

    Args:
        bad_pixels: (N, N), as stored.
    """
    n_frames = survey.counts_per_frame.size
    if survey.measurement != "counts" or n_frames < _FEWEST_FRAMES:
        return None
    mean, variance = survey.pixel_sum / n_frames, survey.pixel_variance
    usable = (mean > 0) & (variance > 0) & np.isfinite(variance) & (survey.pixel_negatives == 0)
    if bad_pixels is not None:
        usable &= ~bad_pixels
    ratio: Float64[np.ndarray, " pixel"] = variance[usable] / mean[usable]
    enough = mean[usable] * n_frames > _LEAST_PHOTONS * ratio
    ratio, level = ratio[enough], mean[usable][enough]
    if ratio.size < _FEWEST_PIXELS:
        return None
    ranked = ratio[np.argsort(level)]
    dim, brighter = (float(np.median(part)) for part in np.array_split(ranked, _PARTS)[:2])
    spread = abs(brighter / dim - 1)
    return Gain((dim + brighter) / 2, spread) if spread <= _AGREE else None
