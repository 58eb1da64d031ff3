"""Other places for frames: how badly an image explains each frame where it is moved to.

A place costs one transform of every frame, so it is made a small one. Every second row and column of a
pattern is the transform of the exit wave folded in half along both axes,

    (F_N psi)[2u] ~ (F_(N/2) psi_folded)[u]    with psi_folded[r] = psi[r] + psi[r + N/2],

which is exact and holds a quarter of the pixels. Where a frame has many counts, that quarter tells places
apart as well as all of them.
"""

from __future__ import annotations

import ctypes

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float32, Float64, Int64
from scipy import ndimage

from ptycho_core.arrays import ChunkThreads
from ptycho_core.cores import usable_cores
from ptycho_core.kernel import misfits_of_places, transforms
from ptycho_core.physics.canvas import frequencies
from ptycho_core.physics.forward import whole_and_rest
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan

__all__ = ["misfits_at", "places_within"]

#: Counts of a frame from which on a quarter of the pixels is enough, and the smallest frame for it.
_COUNTS_TO_FOLD, _PIXELS_TO_FOLD = 1e5, 64
#: Complex pixels that are looked at together: about what stays in a core's cache.
_PIXELS_AT_ONCE = 1 << 17


def places_within(reach: int, step: int) -> Int64[np.ndarray, "place 2"]:
    """Return the places (y, x) of a grid of this step around zero, in pixels, no farther than the reach."""
    along = np.arange(-reach, reach + 1, step)
    y, x = np.meshgrid(along, along, indexing="ij")
    inside = np.hypot(y, x) <= reach + 0.1
    return np.stack([y[inside], x[inside]], axis=1).astype(np.int64)


def misfits_at(
    scan: Scan,
    image: Reconstruction,
    offsets: Int64[np.ndarray, "place 2"],
    *,
    smoothing: float,
    threads: int | None = None,
    kernel: ctypes.CDLL | None = None,
) -> Float32[np.ndarray, "place frame"]:
    """Return the amplitude misfit of each frame, relative to its amplitude, moved by each offset.

    Args:
        scan: M frames at the places to look around. image: whose object and probe are held against them.
        offsets: (L, 2) whole pixels (y, x).
        smoothing: deviation in pixels of the Gaussian by which the object is smoothed first.
        threads: as many as there are cores by default.
        kernel: the compiled library, where it is to be used.

    Returns:
        (L, M) float32; each frame at its own best scale.
    """
    n, room = scan.frame_px, int(np.abs(offsets).max()) + 2
    obj = np.pad(_smoothed(image.object, smoothing), room, constant_values=1)
    obj = np.ascontiguousarray(obj, np.complex64)
    windows = np.lib.stride_tricks.sliding_window_view(obj, (n, n))
    corners, rests = whole_and_rest(scan.positions_px - image.origin_px - n // 2)
    corners, last = corners + room, np.array(obj.shape) - n
    folded = n % 2 == 0 and n >= _PIXELS_TO_FOLD and scan.mean_counts_per_frame() >= _COUNTS_TO_FOLD
    every = 2 if folded else 1
    compiled = kernel if n % every == 0 and transforms(n // every) else None
    misfits = np.empty((len(offsets), scan.n_frames), np.float32)
    step = max(1, _PIXELS_AT_ONCE // (n * n * len(image.probe)))

    def look_at(chunk: slice) -> None:
        for first in range(chunk.start, chunk.stop, step):
            frames = slice(first, min(first + step, chunk.stop))
            probes = _moved(image.probe, rests[frames])
            measured = _Measured(scan, frames, every=every)
            places = np.clip(corners[frames] + offsets[:, None], 0, last)
            if compiled is not None:
                given = {"amplitude": measured.amplitude, "good": measured.good}
                misfits[:, frames] = misfits_of_places(
                    compiled, probes=probes, obj=obj, corners=places, **given
                )
                continue
            for row, at in enumerate(places):
                waves = probes * windows[at[:, 0], at[:, 1]]
                misfits[row, frames] = measured.misfit(_folded(waves) if folded else waves)

    threads = threads or usable_cores()
    ChunkThreads(threads).map(look_at, scan.n_frames, n * n * len(offsets))
    return misfits


class _Measured:
    """What was measured of some frames on every so many-th row and column, zero frequency in the corner.

    Attributes:
        amplitude: (frame, m, m), 0 at bad pixels. good: (m, m) or (frame, m, m), 1 where a pixel is good.
    """

    def __init__(self, scan: Scan, frames: slice, *, every: int) -> None:
        seen = (..., slice(None, None, every), slice(None, None, every))
        good = scipy.fft.ifftshift(scan.good_pixels(frames), axes=(-2, -1))[seen].astype(np.float32)
        self.good = good
        self.amplitude = scipy.fft.ifftshift(scan.amplitude(frames), axes=(1, 2))[seen] * good
        self._total = np.maximum(self.amplitude.sum(axis=(1, 2)), 1e-30)

    def misfit(self, waves: Complex64[np.ndarray, "mode frame n n"]) -> Float32[np.ndarray, " frame"]:
        """Return the relative misfit of each frame, at its best scale, with these exit waves."""
        seen = scipy.fft.fft2(waves, norm="ortho", overwrite_x=True)
        modulus = np.sqrt((np.square(seen.real) + np.square(seen.imag)).sum(axis=0)) * self.good
        power = np.einsum("fij,fij->f", modulus, modulus)
        scale = np.einsum("fij,fij->f", modulus, self.amplitude) / np.maximum(power, 1e-30)
        modulus *= scale[:, None, None]
        modulus -= self.amplitude
        return np.abs(modulus, out=modulus).sum(axis=(1, 2)) / self._total


def _smoothed(
    obj: Complex64[np.ndarray, "height width"], smoothing: float
) -> Complex64[np.ndarray, "height width"]:
    real, imaginary = (ndimage.gaussian_filter(part, smoothing) for part in (np.real(obj), np.imag(obj)))
    return (real + 1j * imaginary).astype(np.complex64)


def _moved(
    probe: Complex64[np.ndarray, "mode n n"], rests_px: Float64[np.ndarray, "frame 2"]
) -> Complex64[np.ndarray, "mode frame n n"]:
    """Move the probe by the sub-pixel part of each position."""
    k = scipy.fft.ifftshift(frequencies(probe.shape[-1]))
    down, right = (np.exp(-2j * np.pi * k * rest[:, None]).astype(np.complex64) for rest in rests_px.T)
    ramp = down[:, :, None] * right[:, None]
    return scipy.fft.ifft2(scipy.fft.fft2(probe)[:, None] * ramp, overwrite_x=True).astype(np.complex64)


def _folded(waves: Complex64[np.ndarray, "mode frame n n"]) -> Complex64[np.ndarray, "mode frame h h"]:
    """Lay the four quarters of each wave upon each other."""
    half = waves.shape[-1] // 2
    rows = waves[..., :half, :] + waves[..., half:, :]
    return rows[..., :half] + rows[..., half:]
