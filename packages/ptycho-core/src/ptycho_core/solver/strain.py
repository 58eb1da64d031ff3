"""A strain of the whole scan, told apart from a defocus of the probe.

If positions and object are stretched, turned or sheared together, a frame notices only that the object is
stretched under the probe, -P (M r) . grad O. A curved probe P = |P| exp(i b r^2) makes the same change,
nearly, when it is defocused. So the two are fitted together: four numbers of a strain, three of a quadratic
phase of the probe's spectrum, by one Gauss-Newton step with the true curvature of the amplitudes on the
detector.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.ndimage
from jaxtyping import Complex64, Float32, Float64

from ptycho_core.physics.canvas import frequencies

__all__ = ["STRAIN_COUNT", "quadratic_phases", "strain_step", "stretched"]

_DAMPING = 1e-4
#: Added to the expected counts, whose deviation divides what they are off by.
STRAIN_COUNT = 0.6


def quadratic_phases(size_px: int) -> Float32[np.ndarray, "3 n n"]:
    """Return the phases k_y^2, k_x^2 and k_y k_x of a centred spectrum, in units that are of order one."""
    k = frequencies(size_px) * np.sqrt(size_px)
    y, x = np.broadcast_arrays(k[:, None], k[None])
    return np.stack([y * y, x * x, y * x]).astype(np.float32)


def strain_step(
    products: Float64[np.ndarray, "8 8"], phases: Float32[np.ndarray, "3 n n"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the strain (2, 2) of positions and object and the phase (n, n) of the probe's spectrum to apply.

    Args:
        products: of seven derivatives and the misfit.
    """
    normal, right = products[:7, :7], products[:7, 7]
    size = np.sqrt(np.maximum(np.diag(normal), 1e-30))
    scaled = normal / size[:, None] / size
    change = np.linalg.solve(scaled + _DAMPING * np.eye(7), right / size) / size
    return change[:4].reshape(2, 2), np.tensordot(change[4:], phases, axes=1)


def stretched(
    obj: Complex64[np.ndarray, "height width"],
    strain: np.ndarray,
    middle_px: np.ndarray,
    *,
    threads: int = 1,
) -> Complex64[np.ndarray, "height width"]:
    """Let an object go along with a strain (2, 2) of the positions about their middle (y, x)."""
    back = np.linalg.inv(np.eye(2) + strain)
    offset = middle_px - back @ middle_px
    moved = np.empty_like(obj)

    def move(part: str) -> None:
        values = np.ascontiguousarray(getattr(obj, part))
        setattr(moved, part, scipy.ndimage.affine_transform(values, back, offset, order=3, mode="nearest"))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(move, ("real", "imag")))
    return moved
