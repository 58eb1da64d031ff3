"""Call the compiled search of other places."""

from __future__ import annotations

import ctypes

import numpy as np
from jaxtyping import Complex64, Float32, Int64

from ptycho_core.kernel.structs import Places, address, aligned, plan_of

__all__ = ["misfits_of_places"]


def misfits_of_places(
    library: ctypes.CDLL,
    *,
    probes: Complex64[np.ndarray, "mode frame n n"],
    obj: Complex64[np.ndarray, "height width"],
    corners: Int64[np.ndarray, "place frame 2"],
    amplitude: Float32[np.ndarray, "frame m m"],
    good: Float32[np.ndarray, "*_ m m"] | None,
) -> Float32[np.ndarray, "place frame"]:
    """Return the relative amplitude misfit of each frame at each place, at its best scale; in this thread.

    Args:
        probes: of each frame, moved by what its position has beside whole pixels.
        corners: row and column of the windows, which lie on the canvas.
        amplitude: zero frequency in the corner, 0 at bad pixels; m is n, or n / 2 for every second pixel.
        good: weights of the pixels, (m, m) or (frame, m, m); None where all are good.
    """
    n_modes, n_frames, frame_px, _ = probes.shape
    plan, table = plan_of(amplitude.shape[-1])
    misfits = np.empty((len(corners), n_frames), np.float32)
    probes, obj = (np.ascontiguousarray(values, np.complex64) for values in (probes, obj))
    amplitude = np.ascontiguousarray(amplitude, np.float32)
    good = None if good is None else np.ascontiguousarray(good, np.float32)
    corners = np.ascontiguousarray(corners, np.int32)
    scratch = aligned(library.ptycho_places_floats(amplitude.shape[-1]))
    problem = Places(
        plan=plan,
        frame_px=frame_px,
        n_modes=n_modes,
        n_frames=n_frames,
        n_places=len(corners),
        probes=address(probes),
        object=address(obj),
        canvas_width=obj.shape[1],
        corners=address(corners),
        amplitude=address(amplitude),
        good=None if good is None else address(good),
        good_stride=0 if good is None or good.ndim == 2 else good[0].size,
        scratch=address(scratch),
        misfits=address(misfits),
    )
    library.ptycho_places(ctypes.byref(problem))
    del table  # the plan points to it
    return misfits
