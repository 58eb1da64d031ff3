"""Lay the patches of a whole scan on one canvas.

`stitch` is ours: a rectangular canvas anchored to scan pixels, weights as one likes. `reassemble_centred` is
the older formula with its square canvas about the centre of mass, kept because other programs expect it.
Positions and origins are (y, x) in pixels. Source: docs/reference/physics.md, "Stitching".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Complex64, Complex128, Float64, Inexact

from ptycho_config.errors import ConfigError, DataError
from ptycho_core.physics.group_object import MERGE_THRESHOLD


class Stitched(NamedTuple):
    """A stitched object.

    Attributes:
        object: (H, W); 1 where no patch has weight.
        coverage: (H, W) sum of the weights.
        origin_px: (y, x) scan coordinate of canvas pixel [0, 0].
    """

    object: Complex128[np.ndarray, "h w"]
    coverage: Float64[np.ndarray, "h w"]
    origin_px: Float64[np.ndarray, "2"]


def stitch(
    patches: Complex[np.ndarray, "frame n n"],
    positions_px: Inexact[np.ndarray, "frame 2"],
    *,
    weights: Inexact[np.ndarray, "n n"] | None = None,
    crop_px: int | None = None,
    margin_px: int = 0,
) -> Stitched:
    """Average patches at their positions, weighted; whole-pixel positions are exact.

        origin = floor(min c) - M/2,    size = ceil(max c) - floor(min c) + M

    per axis, M the side of the patches. Positions between pixels share each value among four pixels
    (bilinear).

    Args:
        patches: index N/2 lies on the position.
        weights: trust in the pixels of a patch; ones by default.
        crop_px: only the central square of this side has weight. The canvas keeps its size.
        margin_px: pixels to add on every side of the canvas.

    Raises:
        ConfigError: the crop is odd or larger than a patch.
        DataError: there is no patch, or not one position each.
    """
    n = patches.shape[-1]
    positions_px = np.asarray(positions_px, np.float64)
    _check(patches, positions_px)
    weights = np.ones((n, n)) if weights is None else weights.astype(np.float64)
    if crop_px is not None:
        weights = weights * _central_square(n, crop_px)
    low = np.floor(positions_px.min(axis=0)).astype(int)
    high = np.ceil(positions_px.max(axis=0)).astype(int)
    origin = low - n // 2 - margin_px
    height, width = (high - low + n + 2 * margin_px).tolist()
    total, coverage = _accumulate(patches, positions_px - n // 2 - origin, weights, (height, width))
    covered = coverage >= MERGE_THRESHOLD
    obj = np.where(covered, total / np.where(covered, coverage, 1), 1)
    return Stitched(obj, np.where(covered, coverage, 0), origin.astype(np.float64))


def reassemble_centred(
    patches: Complex[np.ndarray, "frame n n"], positions_px: Inexact[np.ndarray, "frame 2"], crop_px: int = 10
) -> Complex64[np.ndarray, "s s"]:
    """Average the patches' central squares on a square canvas about the centre of mass.

    With a = position - mean and p = ceil(max |a|), plus 1 if odd, the side is crop + 2p, and position c
    lies at canvas index crop/2 + p + c - mean. Pixels that no patch covers are 0.

    Raises:
        ConfigError: the crop is odd or larger than a patch.
        DataError: there is no patch, or not one position each.
    """
    n = patches.shape[-1]
    positions_px = np.asarray(positions_px, np.float64)
    _check(patches, positions_px)
    _check_crop(n, crop_px)
    from_mean = positions_px - positions_px.mean(axis=0)
    pad = int(np.ceil(np.abs(from_mean).max()))
    pad += pad % 2
    side = crop_px + 2 * pad
    inner = slice(n // 2 - crop_px // 2, n // 2 + crop_px // 2)
    centres = patches[:, inner, inner]
    total, count = _accumulate(centres, from_mean + pad, np.ones((crop_px, crop_px)), (side, side))
    return (total / (count + 1e-9)).astype(np.complex64)


def _accumulate(
    patches: np.ndarray, corners_px: np.ndarray, weights: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Add weighted patches and weights into a canvas, one patch at a time: memory is that of the canvas."""
    total, coverage = np.zeros(shape, np.complex128), np.zeros(shape)
    n = weights.shape[-1]
    for patch, corner in zip(patches, corners_px, strict=True):
        weighted = weights * patch
        (y, x), (fy, fx) = np.floor(corner).astype(int).tolist(), (corner - np.floor(corner)).tolist()
        for dy, along_y in ((0, 1 - fy), (1, fy)):
            for dx, along_x in ((0, 1 - fx), (1, fx)):
                share = along_y * along_x
                if share:  # neighbours of weight 0 may lie outside
                    window = np.s_[y + dy : y + dy + n, x + dx : x + dx + n]
                    total[window] += share * weighted
                    coverage[window] += share * weights
    return total, coverage


def _central_square(n: int, crop_px: int) -> np.ndarray:
    _check_crop(n, crop_px)
    inside = np.abs(np.arange(n) - n // 2 + 0.5) < crop_px / 2
    return np.outer(inside, inside).astype(np.float64)


def _check_crop(n: int, crop_px: int) -> None:
    if crop_px % 2 or not 0 < crop_px <= n:
        raise ConfigError(f"the crop is {crop_px} px; use an even number from 2 to the patch's side, {n}")


def _check(patches: np.ndarray, positions_px: np.ndarray) -> None:
    if len(patches) == 0 or len(patches) != len(positions_px):
        raise DataError(
            f"{len(patches)} patches and {len(positions_px)} positions cannot be stitched; give one position "
            "(y, x) for each patch and at least one patch"
        )
