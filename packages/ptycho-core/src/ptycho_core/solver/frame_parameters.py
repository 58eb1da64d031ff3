"""What is found for each frame besides object and probe: its position, its intensity, its OPR weights.

All of it enters the model through the weights of the probe's basis functions (`shifts`), so one matrix of
overlaps of the misfit with these functions, a row a frame, is the gradient of everything here. It costs one
product of matrices a batch and no further transform.

Position refinement: a frame moves by a Newton step, slope over curvature (`frame_updates`), with momentum;
where its object is nearly flat, springs hold it to where it was put.
First all frames drift together, linearly in time; then each one moves by itself, within a bound. At the full
level the whole scan is stretched, turned and sheared as well; the bound is about where that puts a frame.
Where a search has found the frames and saw nothing of the kind, each moves by itself only.

Frame intensity: a factor on the probe's amplitude in each frame, of mean square 1 over the scan.

OPR (orthogonal probe relaxation): the probe of frame m is P + sum over l of w_ml V_l. All frames share the
few functions V_l, the variations; the real weights w_ml belong to the frame. After every epoch the variations
are made orthogonal by a singular value decomposition, and what all frames have in common goes to the probe P.

Source: positions as unknowns of the misfit, M. Guizar-Sicairos and J. R. Fienup, Opt. Express 16 (2008) 7264,
10.1364/OE.16.007264. OPR, M. Odstrčil et al., Opt. Express 24 (2016) 8360, 10.1364/OE.24.008360; real weights
and their Newton step are ours (docs/reference/physics.md, "Orthogonal probe relaxation").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from ptycho_config.models import SolverConfig
from ptycho_core.solver.shifts import shift_slopes, shift_weights
from ptycho_core.solver.team import ON_ITS_OWN, Team

__all__ = ["FrameMeasurement", "FrameModel", "FrameParameters", "FrameValues", "reach_px"]

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
#: With so small a part of the usual curvature a position is as much what was given as what the misfit says;
#: at a coarse level, whose object lacks what is fine, it takes more.
_FAINT = 0.01
#: After these epochs of the coarse level lost frames are looked for.
_SEARCH_EPOCHS = (18, 28, 38, 48)
#: Epochs of the full level for one fit of the strain, its largest step, and the frames that it looks at.
_STRAIN_EVERY = 2
_LARGEST_STEP = 0.004
_SAMPLED_FRAMES = 96
#: A variation's power is taken to be at least so large a part of the probe's.
_WEAK = 1e-3
#: What a variation hands over to the intensity leaves each frame so large a part of its amplitude.
_DARKEST = 0.1
_TINY = 1e-12


@dataclass(frozen=True)
class FrameModel:
    """Which parameters each frame has.

    Attributes:
        position_bound_px: how far a frame may move by itself; None: positions are kept.
        common_moves: all frames together may drift, and be stretched, turned and sheared.
        intensity: each frame has an intensity.
        variations: number of OPR modes, which each frame adds to the probe with its weights.
    """

    position_bound_px: float | None = None
    intensity: bool = False
    variations: int = 0
    common_moves: bool = True

    @classmethod
    def of(cls, config: SolverConfig, *, common_moves: bool = True) -> FrameModel:
        """Read the model off the configuration."""
        return cls(
            position_bound_px=config.position_bound if config.refine_positions else None,
            intensity=config.frame_intensity,
            variations=config.probe_variations,
            common_moves=common_moves,
        )

    @property
    def changes_the_probe(self) -> bool:
        """Whether the frames have parameters besides their positions."""
        return self.intensity or self.variations > 0

    @property
    def empty(self) -> bool:
        """Whether frames have no parameters."""
        return self.position_bound_px is None and not self.changes_the_probe

    def describe(self) -> str:
        """Say in words which parameters there are."""
        bound = self.position_bound_px
        parts = [] if bound is None else [f"its position, within {bound:g} px"]
        parts += ["its intensity"] if self.intensity else []
        parts += [f"its weights of {self.variations} OPR modes of the probe"] if self.variations else []
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class FrameMeasurement:
    """What an epoch says about the parameters of the m frames.

    Attributes:
        remainders_px: (m, 2) sub-pixel part of the positions.
        by_weight: (m, 1 + L) slope of the misfit by the weight of the probe and of each variation.
        by_function: (m, K) slope by the weight of each basis function, the frame's mixture as it is.
        curvature: (m, 2, 2) of the misfit by the position, in pixels of the level.
        counts: (m,) measured counts of each frame.
        variation_power: (L,) power of each variation.
    """

    remainders_px: np.ndarray
    by_weight: np.ndarray
    by_function: np.ndarray
    curvature: np.ndarray
    counts: np.ndarray
    variation_power: np.ndarray


@dataclass(frozen=True, eq=False)
class FrameValues:
    """Copies of the parameters of all frames, to go back to.

    Attributes:
        correction_px: (m, 2), all in all. free_px: (m, 2), the part by which each frame moved by itself.
        weights: (m, 1 + L) of probe and variations.
    """

    correction_px: np.ndarray
    free_px: np.ndarray
    weights: np.ndarray


class FrameParameters:
    """The parameters of every frame, in the order of the batches.

    Attributes:
        correction_px: (m, 2) float64 (y, x), by which each position is corrected all in all.
        weights: (m, 1 + L) float64 of the probe, which is the root of the frame's intensity, and of the
            variations.
    """

    def __init__(
        self,
        model: FrameModel,
        positions_px: Float64[np.ndarray, "frame 2"],
        order: np.ndarray,
        *,
        team: Team = ON_ITS_OWN,
    ) -> None:
        """Begin with the positions as given, equal intensities, and weights of variations that change slowly.

        Args:
            order: number of each frame in the scan, which tells when it was measured.
            team: the ranks that have the other frames.
        """
        n_frames = len(positions_px)
        self.model, self._team = model, team
        self.correction_px = np.zeros((n_frames, 2))
        self.weights = np.zeros((n_frames, 1 + model.variations))
        self.weights[:, 0] = 1.0
        self._positions_held = False
        self._epoch = 0
        low_px, high_px = team.extremes(positions_px)
        self._nominal_px = positions_px - (low_px + high_px) / 2
        self._time = 2 * order / max(round(team.total(float(n_frames))) - 1, 1) - 1
        # A beam drifts: Legendre polynomials of time, of mean square 1. Random weights find a drift only when
        # object and probe have settled on a slope of the phase in its place, which then stays in the image.
        for degree in range(1, model.variations + 1):
            drift = np.polynomial.Legendre.basis(degree)(self._time)
            self.weights[:, degree] = np.sqrt(2 * degree + 1) * drift
        self._slope = np.zeros((n_frames, 2))
        self._curvature = np.zeros((n_frames, 2, 2))
        self._strain_velocity = np.zeros((2, 2))
        self._velocity = np.zeros((n_frames, 2))
        self._free_px = np.zeros((n_frames, 2))
        self._random = np.random.default_rng(n_frames)

    def begin_with_intensity(self, intensity: Float64[np.ndarray, " frame"]) -> None:
        """Start from these intensities, of mean 1, in the order of the batches."""
        self.weights[:, 0] = np.sqrt(intensity)

    def begin_with_variations(self, weights: Float64[np.ndarray, "frame variation"]) -> None:
        """Start from these weights, in the order of the batches; further variations keep their own.

        Args:
            weights: relative to the probe with the frame's intensity.
        """
        known = min(weights.shape[1], self.model.variations)
        self.weights[:, 1 : 1 + known] = weights[:, :known] * self.weights[:, :1]

    def basis_weights(self, frames: slice, remainders_px: np.ndarray, degree: int) -> np.ndarray:
        """Weights of the basis functions of some frames, those of the variations behind them."""
        base = shift_weights(remainders_px, degree)
        weights = self.weights[frames].astype(np.float32)
        return (weights[:, :, None] * base[:, None]).reshape(len(base), -1)

    def intensity(self) -> Float64[np.ndarray, " frame"]:
        """Intensity of each frame relative to the mean."""
        return np.square(self.weights[:, 0])

    def variation_weights(self) -> Float64[np.ndarray, "frame variation"]:
        """Weights of the variations in each frame, relative to the probe with the frame's intensity."""
        return self.weights[:, 1:] / self.weights[:, :1]

    # After an epoch

    def update(self, measured: FrameMeasurement, *, scale: float, degree: int, step: float) -> None:
        """Move the parameters of all frames down their gradient.

        Args:
            scale: canvas pixels per pixel of the full detector.
        """
        if self._epoch < _WAIT_EPOCHS or not step:
            return
        self._update_weights(measured, step=step)
        if not self.positions_move:
            return
        along = shift_slopes(measured.remainders_px, degree)
        self._slope = np.einsum("amk,mk->ma", along, measured.by_function) * scale
        self._curvature = measured.curvature * scale**2
        if self._epoch < _WAIT_EPOCHS + self._drift_epochs:
            return
        floor = _TINY + 1e-3 * np.trace(self._curvature, axis1=1, axis2=2)
        damped = self._curvature + floor[:, None, None] * np.eye(2)
        springs = self._springs(damped, _FAINT / scale**2)
        down = self._slope - np.einsum("mab,mb->ma", springs, self._free_px)
        move = step * np.linalg.solve(damped + springs, down[..., None])[..., 0]
        limit = _LONGEST_MOVE / scale
        length = np.linalg.norm(move, axis=1, keepdims=True)
        move *= np.minimum(1.0, limit / np.maximum(length, _TINY))
        self._velocity = _MOMENTUM * self._velocity + move
        self._move_within_bound(slice(None), self._velocity)

    def _springs(
        self, curvature: Float64[np.ndarray, "frame 2 2"], faint: float
    ) -> Float64[np.ndarray, "frame 2 2"]:
        """Return what holds frames to where they were put, along axes by which their object hardly changes.

        Such a frame fits at many places as well, and what its misfit says of them are the errors of probe
        and object. With c the curvature along an axis and u the usual one, the spring is f u (f u / c)^3: as
        strong as the misfit at c = f u, nothing for most frames, and all that counts on a flat object.

        Args:
            curvature: of the misfit by each position, positive definite.
            faint: f.
        """
        usual = self._team.middle(float(np.median(np.trace(curvature, axis1=1, axis2=2)))) / 2
        even = faint * max(usual, _TINY)
        return even * np.linalg.matrix_power(np.linalg.inv(curvature / even), 3)

    def _update_weights(self, measured: FrameMeasurement, *, step: float) -> None:
        """Change intensity and weights of the variations; a Newton step for each of them."""
        slopes = measured.by_weight
        if self.model.intensity:
            change = slopes[:, 0] * self.weights[:, 0] / np.maximum(measured.counts, _TINY)
            self.weights[:, 0] *= 1 + np.clip(step * change, -0.2, 0.2)
        if self.model.variations:
            # Half its power, as the phase on the detector is free; and a floor while it is weak.
            power = measured.variation_power / 2 + _WEAK * self._team.mean_of_each(measured.counts)
            self.weights[:, 1:] += np.clip(step * slopes[:, 1:] / power, -0.5, 0.5)

    def _move_within_bound(self, frames: Any, move: np.ndarray) -> None:
        """Move frames by themselves, no farther than the bound, nor much farther than most of them."""
        free = self._free_px[frames] + move
        usual = self._team.middle(float(np.median(np.linalg.norm(self._free_px, axis=1))))
        bound = min(self.model.position_bound_px or 0.0, max(_ALWAYS_ALLOWED_PX, _OUTLIER * usual))
        length = np.linalg.norm(free, axis=1, keepdims=True)
        free *= np.minimum(1.0, bound / np.maximum(length, _TINY))
        self.correction_px[frames] += free - self._free_px[frames]
        self._free_px[frames] = free

    def end_epoch(self) -> None:
        """Count an epoch, keep the mean intensity at 1, and let all frames drift while it is time."""
        self._epoch += 1
        if self.model.intensity:
            self.weights /= np.sqrt(self._team.mean_of_each(np.square(self.weights[:, 0])))
        if self.positions_move and _WAIT_EPOCHS < self._epoch <= _WAIT_EPOCHS + self._drift_epochs:
            self._drift()

    @property
    def free_px(self) -> Float64[np.ndarray, "frame 2"]:
        """By how much each frame has moved by itself (y, x), out of what `correction_px` is all in all."""
        return self._free_px

    @property
    def strain_is_due(self) -> bool:
        """Whether the strain of the scan is to be fitted now, at the full level."""
        moves = self.positions_move and self.model.common_moves
        return moves and self._epoch > _WAIT_EPOCHS and self._epoch % _STRAIN_EVERY == 0

    @property
    def search_is_due(self) -> bool:
        """Whether lost frames are to be looked for now, at a coarse level."""
        return self.positions_move and self._epoch in _SEARCH_EPOCHS

    @property
    def _drift_epochs(self) -> int:
        """For so many epochs all frames drift together before each one moves by itself."""
        return _AFFINE_EPOCHS if self.model.common_moves else 0

    def _drift(self) -> None:
        """Move all frames by a drift linear in time."""
        time = self._time - self._team.mean_of_each(self._time)
        normal = self._team.total(np.einsum("m,mab->ab", time**2, self._curvature))
        change = np.linalg.solve(normal + _TINY * np.eye(2), self._team.total(time @ self._slope))
        length = np.linalg.norm(change)
        self.correction_px += time[:, None] * change * min(1.0, 1.0 / max(length, _TINY))

    def orthogonalise(self, probe: np.ndarray, variations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Make the variations (P, L, n, n) orthogonal, their weights of mean 0 and mean square 1.

        What all frames have in common goes to the probe (P, n, n). No frame's probe changes.
        """
        weights = self.weights[:, 1:]
        mean = self._team.mean_of_each(weights) / self._team.mean_of_each(self.weights[:, 0])
        probe = probe + np.tensordot(variations, mean, axes=(1, 0))
        weights = weights - self.weights[:, :1] * mean
        if not np.abs(variations).max() > 0:
            return probe, variations
        # Real weights: real and imaginary parts of a variation belong together.
        flat = np.ascontiguousarray(np.moveaxis(variations, 1, 0), np.complex64)
        real = flat.reshape(len(flat), -1).view(np.float32).astype(np.float64)
        left, sizes, right = self._decomposed(weights)
        mixed = sizes[:, None] * (right @ real)
        # The few left vectors of so long rows are those of their products with each other.
        inner = np.linalg.eigh(mixed @ mixed.T)[1][:, ::-1]
        root = np.sqrt(self._team.total(float(len(weights))))
        self.weights[:, 1:] = left @ inner * root
        found = np.ascontiguousarray(inner.T @ mixed / root).view(np.complex128)
        shapes = np.moveaxis(found.reshape(flat.shape), 0, 1)
        if self.model.intensity:
            shapes = self._brighter_by_intensity(probe, shapes)
        return probe, shapes.astype(np.complex64)

    def _brighter_by_intensity(self, probe: np.ndarray, variations: np.ndarray) -> np.ndarray:
        """Hand what is the probe itself in the variations (P, L, n, n) over to the frames' intensity.

        It stays where a frame would have hardly any light of its own left.
        """
        power = float(np.square(np.abs(probe)).sum())
        share = np.einsum("plyx,pyx->l", variations, probe.conj()).real / max(power, _TINY)
        factor = 1 + self.variation_weights() @ share
        if self._team.largest(-float(factor.min())) > -_DARKEST:
            return variations
        self.weights[:, 0] *= factor
        return variations - share[:, None, None] * probe[:, None]

    def _decomposed(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the singular value decomposition of the weights of all ranks' frames, with our rows."""
        if not self._team.several:
            return np.linalg.svd(weights, full_matrices=False)
        # The few right vectors are those of a product that every rank adds its part to.
        powers, vectors = np.linalg.eigh(self._team.total(weights.T @ weights))
        sizes, right = np.sqrt(np.maximum(powers[::-1], 0.0)), vectors[:, ::-1].T
        return weights @ right.T / np.maximum(sizes, _TINY), sizes, right

    def sample(self, n_frames: int) -> np.ndarray:
        """Choose the frames that judge a strain; every rank has its share of them."""
        wanted = max(1, _SAMPLED_FRAMES // self._team.ranks.count)
        chosen = self._random.permutation(n_frames)[:wanted]
        return np.sort(chosen)

    def strain(self, change: np.ndarray) -> np.ndarray:
        """Stretch, turn and shear all positions about their middle; return the strain, with momentum."""
        self._strain_velocity = _STRAIN_MOMENTUM * self._strain_velocity + change
        strain = np.clip(self._strain_velocity, -_LARGEST_STEP, _LARGEST_STEP)
        self.correction_px += (self._nominal_px + self.correction_px) @ strain.T
        return strain

    def relocate(self, frames: np.ndarray, moves_px: np.ndarray) -> None:
        """Put frames elsewhere, at rest."""
        self._velocity[frames] = 0
        self._move_within_bound(frames, moves_px)

    # Between levels, and back

    @property
    def positions_move(self) -> bool:
        """Whether positions are being corrected at present."""
        return self.model.position_bound_px is not None and not self._positions_held

    def at_rest(self, px: float) -> bool:
        """Whether half of the frames move by no more than that in an epoch; not before the first search."""
        if not self.positions_move or self._epoch <= _SEARCH_EPOCHS[0]:
            return False
        return self._team.middle(float(np.median(np.linalg.norm(self._velocity, axis=1)))) <= px

    def hold_positions(self) -> None:
        """Leave the positions where they are from now on."""
        self._positions_held = True

    def values(self) -> FrameValues:
        """Return copies of what may change."""
        return FrameValues(self.correction_px.copy(), self._free_px.copy(), self.weights.copy())

    def restore(self, values: FrameValues) -> None:
        """Go back to copied values, at rest."""
        self.correction_px = values.correction_px.copy()
        self._free_px, self.weights = values.free_px.copy(), values.weights.copy()
        self._velocity[:] = 0
        self._strain_velocity[:] = 0


def reach_px(bound_px: float, positions_px: Float64[np.ndarray, "frame 2"]) -> int:
    """Canvas pixels that frames may come to need beyond their nominal windows."""
    return int(np.ceil(bound_px + _LARGEST_STRAIN * np.ptp(positions_px, axis=0).max() / 2))
