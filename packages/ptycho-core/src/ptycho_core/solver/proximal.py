"""The proximal step of the prior, on arrays of any library or in compiled code, in bands of a large canvas.

    minimise over x:  sum w |x - z|^2 + sum s phi(|grad x|)

Some iterations of A. Chambolle and T. Pock, J. Math. Imaging Vis. 40 (2011) 120, 10.1007/s10851-010-0251-1,
with steps of each pixel's own; the dual variable is kept from call to call, so that few are enough.
Formulas: docs/reference/physics.md, "The prior".
"""

from __future__ import annotations

from ptycho_core.arrays import Array, Arrays
from ptycho_core.kernel import proximal_step
from ptycho_core.physics.canvas import row_bands

__all__ = ["proximal_image"]

ITERATIONS = 10


def proximal_image(
    arrays: Arrays,
    *,
    target: Array,
    weight: Array,
    strength: Array,
    bend: float,
    image: Array,
    dual: Array,
    iterations: int = ITERATIONS,
) -> Array:
    """Return x after some iterations from `image`; `dual` goes on with it.

    Args:
        target: z, (H, W) complex64. weight: w, (H, W) float32, above 0. strength: s, (H, W) float32, above 0.
        bend: phi is the modulus; below this, the parabola that continues it.
        image: (H, W) complex64 to begin with; not changed.
        dual: (2, H, W) complex64, changed. It is 0 along y in the last row, along x in the last column.
    """
    found = arrays.copy(image)
    reach = iterations + 1
    above: Array = None
    for band in row_bands(tuple(image.shape), multiple=reach):
        # An iteration looks one row up and down: with so many rows around it, a band comes out as it would
        # without the cut. The rows above have moved on already, so what they were before is kept.
        first, last = max(0, band.start - reach), min(image.shape[0], band.stop + reach)
        rows, inside = slice(first, last), slice(band.start - first, band.stop - first)
        part, dual_part = arrays.copy(image[rows]), arrays.copy(dual[:, rows])
        if above is not None:
            dual_part[:, :reach] = above
        above = arrays.copy(dual[:, band.stop - reach : band.stop])
        _iterate(
            arrays, target[rows], weight[rows], strength[rows], bend, part, dual_part, iterations=iterations
        )
        found[band] = part[inside]
        dual[:, band] = dual_part[:, inside]
    return found


def _iterate(
    arrays: Arrays,
    target: Array,
    weight: Array,
    strength: Array,
    bend: float,
    image: Array,
    dual: Array,
    *,
    iterations: int,
) -> None:
    """Iterate in place."""
    if arrays.kernel is not None:
        view = arrays.host_view
        proximal_step(
            arrays.kernel,
            target=view(target),
            weight=view(weight),
            strength=view(strength),
            smooth=bend,
            image=view(image),
            dual=view(dual),
            iterations=iterations,
            threads=arrays.threads,
        )
        return
    least = arrays.copy(weight)
    least[:-1] = _smaller(least[:-1], weight[1:])
    least[:, :-1] = _smaller(least[:, :-1], weight[:, 1:])
    climb = least / 4
    shrink = 1 / (1 + climb * bend / strength)
    step, ahead = 0.5 / weight, arrays.copy(image)
    down, right = dual[0], dual[1]
    for _ in range(iterations):
        down[:-1] += (ahead[1:] - ahead[:-1]) * climb[:-1]
        right[:, :-1] += (ahead[:, 1:] - ahead[:, :-1]) * climb[:, :-1]
        modulus = (abs(down) ** 2 + abs(right) ** 2) ** 0.5 * shrink
        factor = shrink * strength / ((modulus + strength + abs(modulus - strength)) / 2)
        down *= factor
        right *= factor
        sources = down + right
        sources[1:] -= down[:-1]
        sources[:, 1:] -= right[:, :-1]
        moved = (image + sources * step + target) / 2
        ahead = 2 * moved - image
        image[...] = moved


def _smaller(one: Array, other: Array) -> Array:
    return (one + other - abs(one - other)) / 2
