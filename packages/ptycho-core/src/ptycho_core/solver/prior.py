"""What is expected of an object before anything is measured: it is smooth but for edges, and not opaque.

    O = B u,    strength * sum phi(|grad u|)  +  pull * sum (|u| - A)^2  +  to_mean * sum |O - m|^2

No lens shows an edge as a staircase of pixels: the object O is a sharp image u after a little blur B
(`softened`), and what is judged is u. That is a sieve (D. L. Snyder and M. I. Miller, IEEE Trans. Nucl. Sci.
32 (1985) 3864, 10.1109/TNS.1985.4334521). The gradient takes forward differences of the complex image, both
directions and both parts together. A is the mean modulus where the light is, m an image that is expected, if
there is one (`prior_mean.py`). Three shapes of phi:

    tv      |grad O|; L. I. Rudin, S. Osher and E. Fatemi, Physica D 60 (1992) 259,
            10.1016/0167-2789(92)90242-F
    huber   a parabola below `_BEND`, for objects that vary slowly; P. J. Huber, Ann. Math. Stat. 35
            (1964) 73, 10.1214/aoms/1177703732
    log     tv with strengths that fall where an edge is; E. J. Candes, M. B. Wakin and S. P. Boyd,
            J. Fourier Anal. Appl. 14 (2008) 877, 10.1007/s00041-008-9045-x

Formulas: docs/reference/physics.md, "The prior".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Complex64, Float32
from scipy import ndimage

from ptycho_core.arrays import Array, Arrays
from ptycho_core.physics.canvas import row_bands

__all__ = ["SHAPES", "Prior", "Shape", "softened"]

Shape = Literal["tv", "huber", "log"]
SHAPES: tuple[Shape, ...] = ("tv", "huber", "log")

#: Where the parabola ends.
_BEND = 0.1
#: What a strength is multiplied by, so that one number serves all shapes about equally.
_FACTOR: dict[Shape, float] = {"tv": 1.0, "huber": 1.5, "log": 0.75}
#: The log shape: twice the strength where the object is flat, half of that at a gradient of `_EDGE`, of the
#: object smoothed over `_SMOOTHING_PX`.
_FLAT_FACTOR, _EDGE, _SMOOTHING_PX = 2.0, 0.2, 0.7
#: A pass of the blur takes so much of each neighbour, which is a standard deviation of so many pixels.
_NEIGHBOUR, _PASS_PX = 0.125, 0.5


@dataclass(frozen=True)
class Prior:
    """The shape of the prior and how strong it is.

    Attributes:
        strength: counts that an edge of height 1 and length 1 px costs.
        pull: counts by which a pixel pays for a modulus that is not the mean one; of frames in an unknown
            unit, what one count of noise is there.
        to_mean: counts by which a pixel pays for the square of its distance from an image that is expected;
            0 where there is none.
        passes: of `softened` between what is judged and the object.
    """

    shape: Shape
    strength: float
    pull: float = 1.0
    to_mean: float = 0.0
    passes: int = 0

    @property
    def edge_px(self) -> float:
        """Standard deviation of the blur of an edge, in pixels of the canvas."""
        return _PASS_PX * math.sqrt(self.passes)

    @property
    def bend(self) -> float:
        """Below this gradient phi is a parabola; 0 where it has none."""
        return _BEND if self.shape == "huber" else 0.0

    @property
    def follows_edges(self) -> bool:
        """Whether the strengths depend on the object, and have to be worked out anew on the way."""
        return self.shape == "log"

    def times(self, factor: float) -> Prior:
        """Return the same prior with another strength."""
        return replace(self, strength=self.strength * factor)

    def pulled(self, to_mean: float) -> Prior:
        """Return the same prior with a pull towards the image that is expected."""
        return replace(self, to_mean=to_mean)

    def with_edges(self, passes: int) -> Prior:
        """Return the same prior with edges of another width."""
        return replace(self, passes=passes)

    def strengths(self, obj: Complex64[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
        """Return the strength at each pixel, for an object that is about known."""
        flat = self.strength * _FACTOR[self.shape]
        if not self.follows_edges:
            return np.full(obj.shape, flat, np.float32)
        found = np.empty(obj.shape, np.float32)
        reach = 4  # of the filter, and a row for the difference
        for band in row_bands(obj.shape):
            first, last = max(0, band.start - reach), min(len(obj), band.stop + reach)
            part = obj[first:last]
            smooth = ndimage.gaussian_filter(part, _SMOOTHING_PX)
            edges = np.zeros(part.shape, np.float32)
            edges[:-1] += np.square(np.abs(np.diff(smooth, axis=0)))
            edges[:, :-1] += np.square(np.abs(np.diff(smooth, axis=1)))
            found[band] = (_FLAT_FACTOR * flat / (1 + np.sqrt(edges) / _EDGE))[band.start - first :][
                : band.stop - band.start
            ]
        return found

    def energy(self, obj: Array, strengths: Array) -> float:
        """Return the first of the sums above, for arrays (H, W) on any device."""
        total = 0.0
        for band in row_bands(tuple(obj.shape)):
            stop = min(band.stop, obj.shape[0] - 1)
            here = obj[band]
            square = abs(here) ** 2 * 0
            square[: stop - band.start] += (
                abs(obj[band.start + 1 : stop + 1] - here[: stop - band.start]) ** 2
            )
            square[:, :-1] += abs(here[:, 1:] - here[:, :-1]) ** 2
            modulus = square**0.5
            if self.bend:
                low = modulus < self.bend
                modulus = low * (square / (2 * self.bend)) + ~low * (modulus - self.bend / 2)
            total += float((modulus * strengths[band]).sum())
        return total


def softened(arrays: Arrays, image: Array, passes: int) -> Array:
    """Return an image (H, W) after so many passes of (1, 6, 1)/8 along both axes; it ends as in a mirror.

    The blur is its own adjoint, and leaves all frequencies: half of the highest along an axis with each pass.
    """
    height = image.shape[0]
    for _ in range(passes):
        found = arrays.copy(image)
        for band in row_bands(tuple(image.shape)):
            first, last = max(0, band.start - 1), min(height, band.stop + 1)
            part = image[first:last]
            down = part * (1 - 2 * _NEIGHBOUR)
            down[1:] += part[:-1] * _NEIGHBOUR
            down[:-1] += part[1:] * _NEIGHBOUR
            # Where the image goes on, these two rows lie outside the band.
            down[0] += part[0] * _NEIGHBOUR
            down[-1] += part[-1] * _NEIGHBOUR
            down = down[band.start - first : band.stop - first]
            across = down * (1 - 2 * _NEIGHBOUR)
            across[:, 1:] += down[:, :-1] * _NEIGHBOUR
            across[:, :-1] += down[:, 1:] * _NEIGHBOUR
            across[:, 0] += down[:, 0] * _NEIGHBOUR
            across[:, -1] += down[:, -1] * _NEIGHBOUR
            found[band] = across
        image = found
    return image
