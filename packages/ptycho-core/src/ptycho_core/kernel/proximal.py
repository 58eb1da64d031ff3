"""Call the compiled proximal step."""

from __future__ import annotations

import ctypes

import numpy as np

from ptycho_core.kernel.structs import Proximal, address, threads_for

__all__ = ["proximal_step"]


def proximal_step(
    library: ctypes.CDLL,
    *,
    target: np.ndarray,
    weight: np.ndarray,
    strength: np.ndarray,
    smooth: float,
    image: np.ndarray,
    dual: np.ndarray,
    iterations: int,
    threads: int,
) -> None:
    """Go some iterations towards the least of sum w |x - z|^2 + sum s phi(|grad x|), in place.

    Args:
        target: z, (H, W) complex64. weight: w, (H, W) float32. strength: s, (H, W) float32, above 0.
        smooth: phi is the modulus; below this, the parabola that continues it.
        image: x, (H, W) complex64, changed. dual: (2, H, W) complex64, changed.
    """
    rows, columns = image.shape
    ahead = np.empty_like(image)
    problem = Proximal(
        rows=rows,
        columns=columns,
        iterations=iterations,
        n_threads=threads_for(threads, image.size, rows),
        smooth=smooth,
        weight=address(weight),
        strength=address(strength),
        target=address(target),
        image=address(image),
        dual=address(dual),
        ahead=address(ahead),
    )
    library.ptycho_proximal(ctypes.byref(problem))
