"""An image that is expected before anything is fitted, as that of a network: asked for, laid on the canvas.

    prior(O)  +  pull * sum |O - m|^2        over the illuminated pixels

m is made of the photons that are kept, so that those held out can say whether it is wanted and how strong the
pull has to be (`selection.py`). With O Gaussian about m, the pull is one over the mean of |O - m|^2.
Frames fix an object up to a complex factor, a phase ramp and a shift, and m may have others than the
solver's image: it is moved to that before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Complex64, Float32, Float64
from scipy import ndimage

from ptycho_core.given import expect
from ptycho_core.metrics import align
from ptycho_core.physics.canvas import paste, resample_object
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.start import Look
from ptycho_core.solver.state import Solution

__all__ = ["GivenImage", "PriorMean", "asked_for", "illuminated", "laid_over", "of_photons"]

#: Given a scan, the image that is expected of it: a result, or an object (H, W) complex and the scan
#: coordinate (y, x) of its pixel [0, 0].
PriorMean = Callable[[Scan], Reconstruction | tuple[np.ndarray, np.ndarray]]

#: Pixels with more than this part of the most light are aligned and pulled.
_ILLUMINATED = 0.05
_EXPECTED = "solve, of what `prior_mean` returns,"


def of_photons(part: OrderedFrames, look: Look) -> Scan:
    """Return the scan with some of its photons alone; of its truth and its file it knows nothing."""
    counts = part.as_measured().amplitude(slice(None))
    np.square(counts, out=counts)
    np.rint(counts, out=counts)
    return replace(
        look.scan,
        frames=counts,
        measurement="counts",
        dc="center",
        nphotons=None,
        ground_truth=None,
        patch_truth=None,
        source=None,
        known_sha256=None,
        origin=None,
    )


@dataclass(frozen=True, eq=False)
class GivenImage:
    """An image of a scan as it was given.

    Attributes:
        object: (H, W) complex64.
        origin_px: scan coordinate (y, x) of its pixel [0, 0].
    """

    object: Complex64[np.ndarray, "h w"]
    origin_px: Float64[np.ndarray, " 2"]

    def on_canvas(
        self, look: Look, solution: Solution, *, shape: tuple[int, int], scale: float
    ) -> Complex64[np.ndarray, "h w"]:
        """Return the image on the canvas of a level, 1 where it does not reach.

        Args:
            solution: whose positions are moved on the canvas by its `shift_px`.
            shape, scale: of the canvas, and its pixels for each of the full detector.
        """
        full_shape, origin_px = look.full_canvas(solution.shift_px)
        offset = origin_px - self.origin_px
        whole = np.floor(offset + 0.5)
        moved = self.object
        if np.abs(offset - whole).max() > 1e-6:
            # Pixel i of the canvas lies at i + offset of the image.
            moved = ndimage.shift(moved.astype(np.complex128), whole - offset, order=5, mode="nearest")
        placed = np.ones(full_shape, np.complex64)
        paste(placed, moved.astype(np.complex64), whole.astype(np.int64))
        if (scale, full_shape) == (1.0, shape):
            return placed
        return resample_object(placed, shape, margin_px=look.margin_px, old_scale=1.0, new_scale=scale)


def asked_for(prior_mean: PriorMean, scan: Scan) -> GivenImage:
    """Ask for the image of a scan.

    Raises:
        TypeError: what comes is no image with a place; says what was expected.
    """
    made = prior_mean(scan)
    if isinstance(made, Reconstruction):
        return GivenImage(made.object, made.origin_px)
    expect(made, tuple, _EXPECTED, "a Reconstruction, or an object (H, W) and its origin (y, x) in pixels")
    parts = tuple(np.asarray(part) for part in made)
    if len(parts) != 2 or parts[0].ndim != 2 or parts[1].shape != (2,):
        shapes = " and ".join(str(part.shape) for part in parts)
        raise TypeError(f"{_EXPECTED} expects an object (H, W) and its origin (2,), and has got {shapes}.")
    obj, origin_px = parts[0].astype(np.complex64), parts[1].astype(np.float64)
    if not (np.isfinite(obj).all() and np.isfinite(origin_px).all()):
        raise TypeError(f"{_EXPECTED} expects finite values, and has got NaN or infinity.")
    return GivenImage(obj, origin_px)


def illuminated(light: Float32[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Mark the pixels that have light enough for an image to be compared there."""
    return light > _ILLUMINATED * light.max()


def laid_over(
    image: Complex64[np.ndarray, "h w"],
    target: Complex64[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
    *,
    moved: bool,
) -> Complex64[np.ndarray, "h w"]:
    """Return the image with the complex factor of the target and, if `moved`, its ramp and place too."""
    if moved:
        return align(image, target, region).aligned.astype(np.complex64)
    here = image[region]
    factor = np.vdot(here, target[region]) / max(float(np.vdot(here, here).real), 1e-30)
    return (image * factor).astype(np.complex64)
