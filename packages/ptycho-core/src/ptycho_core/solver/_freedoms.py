"""What each frame may have of its own: where the probe stood, how bright it was, how it was bent.

All of it enters the model through the weights of the probe's basis functions (`_shifts`), so one matrix of
overlaps of the misfit with these functions, a row a frame, is the gradient of everything here. It costs one
product of matrices a batch and no further transform.

A frame moves by a Newton step: slope over curvature, the curvature from the products of the basis functions
(half of it, since the phase of the wave on the detector is free). First all frames move together, by an affine
map and a drift in time; then each one by itself, within a bound about that map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from ptycho_core.solver._shifts import shift_slopes, shift_weights

__all__ = ["FrameFreedoms", "Freedoms", "reach_px"]

#: Epochs before anything moves, and after which each frame moves by itself.
_WAIT_EPOCHS = 3
_AFFINE_EPOCHS = 8
#: Longest move of a frame in one step, in pixels of the level.
_LONGEST_MOVE = 0.5
#: Largest relative change of the scan's size that is looked for.
_LARGEST_STRAIN = 0.06
_MOMENTUM = 0.7
_SEARCH_EPOCHS = (18, 28, 38, 48)
_STRAIN_MOMENTUM = 0.85
_STRAIN_EVERY = 2
_LARGEST_STEP = 0.004
_SAMPLED_FRAMES = 96
VERBOSE=False
_TINY = 1e-12


@dataclass(frozen=True)
class Freedoms:
    """Which freedoms the frames have.

    Attributes:
        position_bound_px: how far a frame may move from where the affine map puts it; None: positions are kept.
        intensity: each frame has a brightness.
        variations: number of probe functions that each frame adds with weights of its own.
    """

    position_bound_px: float | None = None
    intensity: bool = False
    variations: int = 0

    @property
    def any(self) -> bool:
        """Return whether frames have anything of their own."""
        return self.position_bound_px is not None or self.intensity or self.variations > 0


@dataclass(frozen=True)
class Found:
    """What a batch says about its frames.

    Attributes:
        remainders_px: (m, 2) sub-pixel part of the positions.
        overlaps: (m, (1 + L) K) of the pulled-back misfit with the basis functions.
        curvature: (m, 2, 2) of the misfit by the position, in pixels of the level.
    """

    remainders_px: np.ndarray
    overlaps: np.ndarray
    curvature: np.ndarray


class FrameFreedoms:
    """Corrections, brightness and probe weights of every frame, in the order of the batches."""

    def __init__(
        self,
        freedoms: Freedoms,
        positions_px: Float64[np.ndarray, "frame 2"],
        order: np.ndarray,
        random: np.random.Generator,
    ) -> None:
        n_frames = len(positions_px)
        self.freedoms = freedoms
        self.epoch = 0
        self.correction_px = np.zeros((n_frames, 2))
        self.weights = np.zeros((n_frames, 1 + freedoms.variations))
        self.weights[:, 0] = 1.0
        self.weights[:, 1:] = 0.1 * random.standard_normal((n_frames, freedoms.variations))
        self._nominal_px = positions_px - (positions_px.min(axis=0) + positions_px.max(axis=0)) / 2
        self._time = 2 * order / max(n_frames - 1, 1) - 1
        self._slope = np.zeros((n_frames, 2))
        self._curvature = np.zeros((n_frames, 2, 2))
        self._strain_velocity = np.zeros((2, 2))
        self._velocity = np.zeros((n_frames, 2))
        self._free_px = np.zeros((n_frames, 2))
        self._random = np.random.default_rng(n_frames)

    def rows(self, frames: slice, remainders_px: np.ndarray, degree: int) -> np.ndarray:
        """Weights of the basis functions of some frames, those of the variations behind them."""
        base = shift_weights(remainders_px, degree)
        weights = self.weights[frames].astype(np.float32)
        return (weights[:, :, None] * base[:, None]).reshape(len(base), -1)

    def move(self, frames: slice, found: Found, *, scale: float, degree: int, step: float) -> None:
        """Move some frames down their gradient.

        Args:
            scale: canvas pixels per pixel of the full detector.
        """
        if self.epoch < _WAIT_EPOCHS or not step or self.freedoms.position_bound_px is None:
            return
        slopes = shift_slopes(found.remainders_px, degree)
        weights = self.weights[frames]
        along = (weights[None, :, :, None] * slopes[:, :, None]).reshape(2, len(weights), -1) * scale
        slope = np.einsum("amk,mk->ma", along, found.overlaps)
        curvature = found.curvature * scale**2
        self._slope[frames], self._curvature[frames] = slope, curvature
        if self.epoch < _WAIT_EPOCHS + _AFFINE_EPOCHS:
            return
        floor = _TINY + 1e-3 * np.trace(curvature, axis1=1, axis2=2)
        damped = curvature + floor[:, None, None] * np.eye(2)
        move = step * np.linalg.solve(damped, slope[..., None])[..., 0]
        limit = _LONGEST_MOVE / scale
        length = np.linalg.norm(move, axis=1, keepdims=True)
        move *= np.minimum(1.0, limit / np.maximum(length, _TINY))
        self._velocity[frames] = _MOMENTUM * self._velocity[frames] + move
        self._wander(frames, self._velocity[frames])

    def _wander(self, frames: Any, move: np.ndarray) -> None:
        """Move frames by themselves, no farther than the bound."""
        free = self._free_px[frames] + move
        length = np.linalg.norm(free, axis=1, keepdims=True)
        free *= np.minimum(1.0, self.freedoms.position_bound_px / np.maximum(length, _TINY))
        self.correction_px[frames] += free - self._free_px[frames]
        self._free_px[frames] = free

    def relocate(self, frames: np.ndarray, moves_px: np.ndarray) -> None:
        """Put frames elsewhere, at rest."""
        self._velocity[frames] = 0
        self._wander(frames, moves_px)

    def after_epoch(self, *, full: bool) -> Literal["", "strain", "search"]:
        """Let all frames drift while it is time for that; return what else is to be done now."""
        self.epoch += 1
        if self.freedoms.position_bound_px is None or self.epoch <= _WAIT_EPOCHS:
            return ""
        if self.epoch <= _WAIT_EPOCHS + _AFFINE_EPOCHS:
            self._drift()
        if full:
            return "strain" if self.epoch % _STRAIN_EVERY == 0 else ""
        return "search" if self.epoch in _SEARCH_EPOCHS else ""

    def _drift(self) -> None:
        """Move all frames by a drift linear in time."""
        time = self._time - self._time.mean()
        normal = np.einsum("m,mab->ab", time**2, self._curvature)
        change = np.linalg.solve(normal + _TINY * np.eye(2), time @ self._slope)
        length = np.linalg.norm(change)
        self.correction_px += time[:, None] * change * min(1.0, 1.0 / max(length, _TINY))

    def sample(self, n_frames: int) -> np.ndarray:
        """Choose the frames that judge a strain."""
        chosen = self._random.permutation(n_frames)[:_SAMPLED_FRAMES]
        return np.sort(chosen)

    def strain(self, change: np.ndarray) -> tuple[np.ndarray, float]:
        """Stretch, turn and shear all positions about their middle; return the strain and the share taken."""
        self._strain_velocity = _STRAIN_MOMENTUM * self._strain_velocity + change
        strain = np.clip(self._strain_velocity, -_LARGEST_STEP, _LARGEST_STEP)
        self.correction_px += (self._nominal_px + self.correction_px) @ strain.T
        if VERBOSE: print(self.epoch, (100*change).round(3).ravel(), (100*strain.ravel()).round(3))
        return strain, 1.0

    def state(self) -> tuple[np.ndarray, ...]:
        """Return copies of what may change."""
        return self.correction_px.copy(), self._free_px.copy(), self.weights.copy()

    def restore(self, state: tuple[np.ndarray, ...]) -> None:
        """Go back to a copied state, at rest."""
        self.correction_px, self._free_px, self.weights = (part.copy() for part in state)
        self._velocity[:] = 0
        self._strain_velocity[:] = 0


def reach_px(bound_px: float, positions_px: Float64[np.ndarray, "frame 2"]) -> int:
    """Canvas pixels that frames may come to need beyond their nominal windows."""
    return int(np.ceil(bound_px + _LARGEST_STRAIN * np.ptp(positions_px, axis=0).max() / 2))
