"""Positions that are wrong by many pixels: searched for in an image that other frames made.

An image that a frame took part in fits that frame where it was put, wrong or not: seen from there, every
other place is worse. So the frames are split into two halves, each of which covers the scan. Each half makes
an image; the frames of the other half are moved over it, and take the place that explains them best. Errors
blur the image, so it is smoothed as far as they reach, and ever less as they shrink. A place far from where a
frame was put is the less likely the farther it is, by what most frames were found to be off.

Source: to try other places, A. M. Maiden et al., Ultramicroscopy 120 (2012) 64,
10.1016/j.ultramic.2012.06.001, there at random and in the image of all frames; halves and smoothing are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float32, Float64, Int64
from scipy import ndimage

from ptycho_config.models import SolverConfig
from ptycho_core.physics.canvas import frequencies
from ptycho_core.physics.forward import whole_and_rest
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.split import split_frames

__all__ = ["Registration", "best_moves", "searched_positions"]

#: Reach and step of each search and the smoothing of its image, in pixels of the object.
_ROUNDS = ((16, 4, 3.0), (16, 4, 3.0), (12, 3, 3.0), (8, 2, 2.0), (6, 2, 1.5), (4, 1, 1.0))
#: Places are weighed by their misfit, over so many of its spreads.
_SHARP = 0.15
_FEWEST_FRAMES = 32
#: Deviation of the places that are likely, over the median distance of those found so far.
_LOOSE = 1.2
_FRAMES_AT_ONCE = 64
#: In these rounds the frames that are explained worst are looked for far away; another place has to be so
#: much better.
_LOST_IN, _WORST_PERCENT, _FOUND = (2, 3, 4), 90.0, 0.9
_LOST_REACH, _LOST_STEP, _LOST_SMOOTHING = 1.5, 4, 2.0


@dataclass(frozen=True, eq=False)
class Registration:
    """What the search found.

    Attributes:
        positions_px: (M, 2), of the frames of the scan. probe: as the last image had it.
        moved_px: (M,) by how much each frame was moved.
    """

    positions_px: Float64[np.ndarray, "frame 2"]
    probe: Complex64[np.ndarray, "mode n n"]
    moved_px: Float64[np.ndarray, " frame"]

    def event(self) -> RunEvent:
        """Say how far the frames were from where they were put."""
        text = (
            "Searched the position of every frame in images of the others: moved by "
            f"{self.moved_px.mean():.2g} px on average, at most {self.moved_px.max():.2g} px."
        )
        return RunEvent("positions", text, {"moved_px": float(self.moved_px.mean())})


def searched_positions(
    scan: Scan,
    solve: Callable[[Scan, SolverConfig], Reconstruction],
    *,
    bound_px: float,
    probe_modes: int,
    should_stop: Callable[[], bool],
) -> Registration | None:
    """Search the position of every frame; None where there are too few, or a stop was asked for.

    Args:
        solve: makes an image, without refining positions.
        bound_px: how far a frame may come from where it was put.
        should_stop: asked after each half.
    """
    if scan.n_frames < _FEWEST_FRAMES:
        return None
    config = SolverConfig(effort="fast", probe_search=False, probe_modes=probe_modes, leave_out_frames=False)
    given_px, positions_px = scan.positions_px, scan.positions_px.copy()
    usual_px = np.inf
    for done, (reach, step, smoothing) in enumerate(_ROUNDS):
        moves = np.zeros_like(given_px)
        parts = split_frames(positions_px)
        for ours, others in (parts, parts[::-1]):
            image = solve(scan.moved_to(positions_px).select(ours), config)
            scan = replace(scan, probe=image.probe, probe_source="given")
            if done in _LOST_IN:
                far = int(_LOST_REACH * bound_px)
                placed = scan.moved_to(positions_px).select(others)
                positions_px[others] += _lost_moves(placed, image, reach=far)
            moves[others] = best_moves(
                scan.moved_to(positions_px).select(others),
                image,
                reach=reach,
                step=step,
                smoothing=smoothing,
                away_px=(positions_px - given_px)[others],
                usual_px=usual_px,
            )
            if should_stop():
                return None
        moved = positions_px + moves - np.median(moves, axis=0) - given_px
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        farthest = bound_px * (1.0 if done < _LOST_IN[0] else _LOST_REACH)
        positions_px = given_px + moved * np.minimum(1.0, farthest / np.maximum(length, 1e-9))
        usual_px = _LOOSE * float(np.median(np.linalg.norm(positions_px - given_px, axis=1)))
    return Registration(positions_px, scan.probe, np.linalg.norm(positions_px - given_px, axis=1))


def best_moves(
    scan: Scan,
    image: Reconstruction,
    *,
    reach: int,
    step: int,
    smoothing: float,
    away_px: Float64[np.ndarray, "frame 2"],
    usual_px: float,
) -> Float64[np.ndarray, "frame 2"]:
    """Move each frame over an image that it had no part in; return where it is explained best.

    Args:
        away_px: by how much it was moved so far. usual_px: deviation of such moves along each axis.
    """
    offsets = _places(reach, step)
    misfits = _misfits_at(scan, image, offsets, smoothing)
    relative = misfits / np.median(misfits, axis=0)
    spread = np.maximum(relative.std(axis=0), 1e-9)
    away = np.square(away_px[None] + offsets[:, None]).sum(axis=2) / (2 * usual_px**2)
    cost = (relative - relative.min(axis=0)) / (_SHARP * spread) + away
    weights = np.exp(-(cost - cost.min(axis=0)))
    return np.einsum("of,oa->fa", weights / weights.sum(axis=0), offsets.astype(np.float64))


def _misfits_at(
    scan: Scan,
    image: Reconstruction,
    offsets: Int64[np.ndarray, "offset 2"],
    smoothing: float,
    modes: int | None = 1,
) -> Float32[np.ndarray, "offset frame"]:
    """Misfit of each frame, relative to its amplitude, moved by each offset over the smoothed image.

    Args:
        modes: of the probe, the strongest first, that are looked at; all where None.
    """
    reach = int(np.abs(offsets).max())
    real, imaginary = (
        ndimage.gaussian_filter(part, smoothing) for part in (np.real(image.object), np.imag(image.object))
    )
    smooth = real + 1j * imaginary
    n = scan.frame_px
    room = reach + 2
    obj = np.pad(smooth.astype(np.complex64), room, constant_values=1)
    corners, rests = whole_and_rest(scan.positions_px - image.origin_px - n // 2)
    misfits = np.empty((len(offsets), scan.n_frames), np.float32)
    for first in range(0, scan.n_frames, _FRAMES_AT_ONCE):
        part = slice(first, first + _FRAMES_AT_ONCE)
        amplitude = scipy.fft.ifftshift(scan.amplitude(part), axes=(1, 2))
        good = scipy.fft.ifftshift(scan.good_pixels(part), axes=(-2, -1))
        probes = np.stack([_moved(mode, rests[part]) for mode in image.probe[:modes]])
        misfits[:, part] = _misfits(obj, probes, corners[part] + room, offsets, amplitude, good)
    return misfits


def _lost_moves(scan: Scan, image: Reconstruction, *, reach: int) -> Float64[np.ndarray, "frame 2"]:
    """Look far away for the frames that are explained worst where they are; the others stay."""
    moves = np.zeros((scan.n_frames, 2))
    here = _misfits_at(scan, image, np.zeros((1, 2), np.int64), _LOST_SMOOTHING, modes=None)[0]
    lost = np.flatnonzero(here > np.percentile(here, _WORST_PERCENT))
    if not lost.size:
        return moves
    offsets = _places(reach, _LOST_STEP)
    there = _misfits_at(scan.select(lost), image, offsets, _LOST_SMOOTHING, modes=None)
    best = there.argmin(axis=0)
    found = there[best, np.arange(lost.size)] < _FOUND * here[lost]
    moves[lost[found]] = offsets[best[found]]
    return moves


def _places(reach: int, step: int) -> Int64[np.ndarray, "offset 2"]:
    along = np.arange(-reach, reach + 1, step)
    return np.array([(y, x) for y in along for x in along if np.hypot(y, x) <= reach + 0.1], np.int64)


def _moved(
    probe: Complex64[np.ndarray, "n n"], rests_px: Float64[np.ndarray, "frame 2"]
) -> Complex64[np.ndarray, "frame n n"]:
    """Move a mode by the sub-pixel part of each position."""
    k = scipy.fft.ifftshift(frequencies(len(probe)))
    ramp = np.exp(
        -2j * np.pi * (k[:, None] * rests_px[:, 0, None, None] + k[None] * rests_px[:, 1, None, None])
    )
    return scipy.fft.ifft2(scipy.fft.fft2(probe) * ramp).astype(np.complex64)


def _misfits(
    obj: Complex64[np.ndarray, "height width"],
    probes: Complex64[np.ndarray, "mode frame n n"],
    corners: Int64[np.ndarray, "frame 2"],
    offsets: Int64[np.ndarray, "offset 2"],
    amplitude: Float32[np.ndarray, "frame n n"],
    good: np.ndarray,
) -> Float32[np.ndarray, "offset frame"]:
    """Amplitude misfit of each frame at each offset, each at its best scale; zero frequency in the corner."""
    n = amplitude.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(obj, (n, n))
    last = np.array(obj.shape) - n
    found = np.empty((len(offsets), len(corners)), np.float32)
    amplitude = amplitude * good
    total = np.maximum(amplitude.sum(axis=(1, 2)), 1e-30)
    for row, offset in enumerate(offsets):
        at = np.clip(corners + offset, 0, last)
        waves = scipy.fft.fft2(probes * windows[at[:, 0], at[:, 1]], norm="ortho")
        modulus = np.sqrt(np.square(np.abs(waves)).sum(axis=0)) * good
        scale = np.einsum("fij,fij->f", modulus, amplitude) / np.maximum(
            np.einsum("fij,fij->f", modulus, modulus), 1e-30
        )
        found[row] = np.abs(scale[:, None, None] * modulus - amplitude).sum(axis=(1, 2)) / total
    return found
