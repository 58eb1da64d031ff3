"""Whether the frames are blurred, as by a detector whose light or charge spreads to the pixels beside.

A blur cannot be seen in the frames alone: it only washes out speckle. So the frames are sharpened, a short
reconstruction is made of them, and what that predicts is blurred again and held against what was measured.
The prediction then says how to sharpen better, and the same is done twice more. The blur with which least
stays unexplained is the answer, if that is much less than without any.

Source of the sharpening: W. H. Richardson, J. Opt. Soc. Am. 62 (1972) 55, 10.1364/JOSA.62.000055; L. B. Lucy,
Astron. J. 79 (1974) 745, 10.1086/111605.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from ptycho_core.doctor.left_over import blurred, left_beyond_noise, predicted_counts
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan

__all__ = ["Blur", "find_blur"]

#: Standard deviations that are tried, in this order, until one is worse than the one before.
_BLURS_PX = (0.5, 0.75, 1.0, 1.5, 2.0)
#: Less than this gain with the first of them, and no other is tried.
_WORTH_ANOTHER = 0.92
_ROUNDS, _RECONSTRUCTIONS = 15, 3


@dataclass(frozen=True)
class Blur:
    """A blur that explains the frames better than none.

    Attributes:
        sigma_px: its standard deviation in pixels of the detector.
        left: what stays unexplained beyond the noise with it, 0 to 1.
    """

    sigma_px: float
    left: float


def find_blur(
    scan: Scan,
    left: float,
    reconstruct: Callable[[Scan], Reconstruction],
    time_left: Callable[[], bool],
) -> Blur | None:
    """Find the blur of the frames that explains them best.

    Args:
        left: what stays unexplained beyond the noise without any.
        reconstruct: makes a short reconstruction of all frames of a scan.
        time_left: asked before each blur is tried.
    Returns:
        The best blur that was tried; None where none explains the frames better.
    """
    found: list[Blur] = []
    for sigma_px in _BLURS_PX:
        if not time_left():
            break
        found.append(Blur(sigma_px, _left_with(scan, sigma_px, reconstruct)))
        if found[0].left > _WORTH_ANOTHER * left or found[-1].left > min(found, key=_left).left:
            break
    best = min(found, key=_left, default=None)
    return None if best is None or best.left >= left else best


def _left(blur: Blur) -> float:
    return blur.left


def _left_with(scan: Scan, sigma_px: float, reconstruct: Callable[[Scan], Reconstruction]) -> float:
    counts, good = scan.counts(), np.broadcast_to(scan.good_pixels(), scan.frames.shape).astype(np.float32)
    reach = np.maximum(blurred(good, sigma_px), 1e-3)
    sharp = blurred(counts, sigma_px) / reach
    for _ in range(_ROUNDS):
        sharp = _sharper(sharp, counts, good, reach, sigma_px)
    for _ in range(_RECONSTRUCTIONS - 1):
        result = reconstruct(replace(scan, frames=sharp, measurement="counts", dc="center"))
        sharp = _sharper(predicted_counts(scan, result), counts, good, reach, sigma_px)
    result = reconstruct(replace(scan, frames=sharp, measurement="counts", dc="center"))
    return left_beyond_noise(scan, predicted_counts(scan, result, blur_px=sigma_px))


def _sharper(
    sharp: Float32[np.ndarray, "m n n"],
    counts: Float32[np.ndarray, "m n n"],
    good: Float32[np.ndarray, "m n n"],
    reach: Float32[np.ndarray, "m n n"],
    sigma_px: float,
) -> Float32[np.ndarray, "m n n"]:
    """Move sharp frames so that, blurred, they come closer to the counts."""
    ratio = good * counts / np.maximum(blurred(sharp, sigma_px), np.float32(1e-6))
    return sharp * blurred(ratio, sigma_px) / reach
