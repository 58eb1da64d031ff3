"""What each frame may have of its own: where the probe stood, how bright it was, how it was bent.

All of it enters the model through the weights of the probe's basis functions (`_shifts`), so one matrix of
overlaps of the misfit with these functions, a row a frame, is the gradient of everything here. It costs one
product of matrices a batch and no further transform.

A frame moves by a Newton step, slope over curvature (see `Level`), with momentum. First all frames drift
together, linearly in time; then each one moves by itself, within a bound. At the full level the whole scan is
stretched, turned and sheared as well (`_strain`); the bound is about where that puts a frame.

Source: positions as unknowns of the misfit, M. Guizar-Sicairos and J. R. Fienup, Opt. Express 16 (2008) 7264,
10.1364/OE.16.007264. A probe that each frame varies in a few orthogonal functions, M. Odstrčil et al., Opt.
Express 24 (2016) 8360, 10.1364/OE.24.008360; real weights and their Newton step are ours
(docs/reference/physics.md, "Probe variations").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from ptycho_config.models import SolverConfig
from ptycho_core.solver.shifts import shift_slopes, shift_weights

__all__ = ["FrameFreedoms", "Freedoms", "reach_px"]

#: Epochs before anything moves, and then before each frame moves by itself.
_WAIT_EPOCHS = 3
_AFFINE_EPOCHS = 8
#: Longest move of a frame in one step, in pixels of the level.
_LONGEST_MOVE = 0.5
#: Largest relative change of the scan's size that is looked for.
_LARGEST_STRAIN = 0.06
_MOMENTUM, _STRAIN_MOMENTUM = 0.7, 0.85
#: Frames at the rim are seen by few others and may wander off with their part of the object.
_ALWAYS_ALLOWED_PX, _OUTLIER = 1.0, 4.0
#: After these epochs of the coarse level lost frames are looked for.
_SEARCH_EPOCHS = (18, 28, 38, 48)
#: Epochs of the full level for one fit of the strain, its largest step, and the frames that it looks at.
_STRAIN_EVERY = 2
_LARGEST_STEP = 0.004
_SAMPLED_FRAMES = 96
#: A variation's power is taken to be at least so large a part of the probe's.
_WEAK = 1e-3
_TINY = 1e-12


@dataclass(frozen=True)
class Freedoms:
    """Which freedoms the frames have.

    Attributes:
        position_bound_px: how far a frame may move by itself; None: positions are kept.
        intensity: each frame has a brightness.
        variations: number of probe functions that each frame adds with weights of its own.
    """

    position_bound_px: float | None = None
    intensity: bool = False
    variations: int = 0

    @classmethod
    def of(cls, config: SolverConfig) -> Freedoms:
        """Read the freedoms off the configuration."""
        return cls(
            position_bound_px=config.position_bound if config.refine_positions else None,
            intensity=config.frame_intensity,
            variations=config.probe_variations,
        )

    def describe(self) -> str:
        """Say in words which they are."""
        bound = self.position_bound_px
        parts = [] if bound is None else [f"its position, within {bound:g} px"]
        parts += ["its brightness"] if self.intensity else []
        parts += [f"its share in {self.variations} variations of the probe"] if self.variations else []
        return ", ".join(parts)

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
        counts: (m,) measured counts of each frame. variation_power: (L,) power of each variation.
    """

    remainders_px: np.ndarray
    overlaps: np.ndarray
    curvature: np.ndarray
    counts: np.ndarray
    variation_power: np.ndarray


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
        self.correction_px = np.zeros((n_frames, 2))  # all in all; `_free_px` is each frame's own part
        self.weights = np.zeros((n_frames, 1 + freedoms.variations))
        self.weights[:, 0] = 1.0
        # Random, so that the first variations are random mixtures of what the frames miss.
        self.weights[:, 1:] = random.standard_normal((n_frames, freedoms.variations))
        self.holding = False
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
        if self.epoch < _WAIT_EPOCHS or not step:
            return
        self._reweigh(frames, found, degree=degree, step=step)
        if not self.positions_move:
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

    @property
    def positions_move(self) -> bool:
        """Return whether positions are being corrected at present."""
        return self.freedoms.position_bound_px is not None and not self.holding

    def _reweigh(self, frames: slice, found: Found, *, degree: int, step: float) -> None:
        """Change brightness and weights of the variations; a Newton step for each of them."""
        base = shift_weights(found.remainders_px, degree).astype(np.float64)
        slopes = np.einsum("mlk,mk->ml", found.overlaps.reshape(len(base), -1, base.shape[1]), base)
        weights = self.weights[frames]
        if self.freedoms.intensity:
            change = slopes[:, 0] * weights[:, 0] / np.maximum(found.counts, _TINY)
            weights[:, 0] *= 1 + np.clip(step * change, -0.2, 0.2)
        if self.freedoms.variations:
            # Half its power, as the phase on the detector is free; and a floor while it is weak.
            power = found.variation_power / 2 + _WEAK * found.counts.mean()
            weights[:, 1:] += np.clip(step * slopes[:, 1:] / power, -0.5, 0.5)

    def unmix(self, probe: np.ndarray, variations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Make the variations (P, L, n, n) orthogonal, their weights of mean 0 and mean square 1.

        What all frames have in common goes to the probe (P, n, n).
        """
        weights = self.weights[:, 1:]
        probe = probe + np.tensordot(variations, weights.mean(axis=0), axes=(1, 0))
        weights = weights - weights.mean(axis=0)
        flat = np.moveaxis(variations, 1, 0).reshape(weights.shape[1], -1).astype(np.complex128)
        if not np.abs(flat).max() > 0:
            return probe, variations
        # Real weights: real and imaginary parts of a variation belong together.
        real = np.concatenate([flat.real, flat.imag], axis=1)
        left, sizes, right = np.linalg.svd(weights, full_matrices=False)
        inner, powers, shapes = np.linalg.svd(sizes[:, None] * (right @ real), full_matrices=False)
        root = np.sqrt(len(weights))
        self.weights[:, 1:] = left @ inner * root
        mixed = powers[:, None] * shapes / root
        half = mixed.shape[1] // 2
        mixed = mixed[:, :half] + 1j * mixed[:, half:]
        shape = (len(mixed), variations.shape[0], *variations.shape[2:])
        return probe, np.moveaxis(mixed.reshape(shape), 0, 1).astype(np.complex64)

    def _wander(self, frames: Any, move: np.ndarray) -> None:
        """Move frames by themselves, no farther than the bound, nor much farther than most of them."""
        free = self._free_px[frames] + move
        usual = np.median(np.linalg.norm(self._free_px, axis=1))
        bound = min(self.freedoms.position_bound_px or 0.0, max(_ALWAYS_ALLOWED_PX, _OUTLIER * usual))
        length = np.linalg.norm(free, axis=1, keepdims=True)
        free *= np.minimum(1.0, bound / np.maximum(length, _TINY))
        self.correction_px[frames] += free - self._free_px[frames]
        self._free_px[frames] = free

    def relocate(self, frames: np.ndarray, moves_px: np.ndarray) -> None:
        """Put frames elsewhere, at rest."""
        self._velocity[frames] = 0
        self._wander(frames, moves_px)

    def after_epoch(self, *, full: bool) -> Literal["", "strain", "search"]:
        """Let all frames drift while it is time for that; return what else is to be done now."""
        self.epoch += 1
        if self.freedoms.intensity:
            self.weights /= np.sqrt(np.square(self.weights[:, 0]).mean())
        if not self.positions_move or self.epoch <= _WAIT_EPOCHS:
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

    def strain(self, change: np.ndarray) -> np.ndarray:
        """Stretch, turn and shear all positions about their middle; return the strain, with momentum."""
        self._strain_velocity = _STRAIN_MOMENTUM * self._strain_velocity + change
        strain = np.clip(self._strain_velocity, -_LARGEST_STEP, _LARGEST_STEP)
        self.correction_px += (self._nominal_px + self.correction_px) @ strain.T
        return strain

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
