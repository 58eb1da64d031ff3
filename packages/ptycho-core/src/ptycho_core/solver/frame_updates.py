"""How the parameters of the frames are updated at one level, after every epoch.

Positions follow the curvature of the misfit or are searched for elsewhere; a strain of the whole scan is
found together with a defocus of the probe (`strain`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from ptycho_core.arrays import Array, Arrays
from ptycho_core.kernel import FusedStep
from ptycho_core.kernel.strain import strain_products
from ptycho_core.solver.frame_parameters import FrameMeasurement, FrameParameters
from ptycho_core.solver.misfit import AmplitudeMisfit
from ptycho_core.solver.shifts import shift_weights
from ptycho_core.solver.state import ObjectState, ProbeState
from ptycho_core.solver.strain import (
    STRAIN_COUNT,
    quadratic_phases,
    strain_step,
    stretched,
)
from ptycho_core.solver.windows import Windows

__all__ = ["FrameUpdates", "better_places", "position_curvature"]


class FrameUpdates:
    """Updates the frames' parameters and windows, and what has to go along with them."""

    def __init__(
        self,
        parameters: FrameParameters,
        arrays: Arrays,
        windows: Windows,
        misfit: AmplitudeMisfit,
        counts: np.ndarray,
        *,
        degree: int,
        fused: FusedStep | None,
    ) -> None:
        """Take the level's frames.

        Args:
            counts: (m,) measured counts of each frame.
            fused: the compiled step, where there is one.
            degree: of the series for sub-pixel shifts.
        """
        self._parameters, self._xp, self._degree = parameters, arrays, degree
        self._windows, self._misfit, self._counts, self._fused = windows, misfit, counts, fused
        self._overlaps = np.zeros((len(windows), 0), np.float32)
        self._curvature = np.zeros((len(windows), 2, 2))
        self._seen, self._step = np.zeros(len(windows), bool), 0.0

    def after_batch(
        self, frames: slice, *, overlaps: np.ndarray, curvature: np.ndarray | None, step: float
    ) -> None:
        """Note what a batch says of its frames; they are moved after the epoch, all at once.

        Args:
            overlaps: as in `kernel.BatchResult`.
            curvature: (f, 2, 2) of the misfit by each position; None where positions do not move.
        """
        if self._overlaps.shape[1] != overlaps.shape[1]:
            self._overlaps = np.zeros((len(self._windows), overlaps.shape[1]), np.float32)
        self._overlaps[frames], self._seen[frames], self._step = overlaps, True, step
        if curvature is not None:
            self._curvature[frames] = curvature

    @property
    def positions_move(self) -> bool:
        """Whether positions are being corrected at present."""
        return self._parameters.positions_move

    def after_epoch(self, probe: ProbeState, obj: ObjectState) -> None:
        """Do for all frames what is to be done after an epoch."""
        team = self._windows.tiles.team
        if team.total(float(np.count_nonzero(~self._seen))) == 0:
            self._update(probe)
        self._seen[:] = False
        parameters, full = self._parameters, self._windows.scale == 1
        if parameters.model.variations:
            self._orthogonalise(probe)
        parameters.end_epoch()
        if full and parameters.strain_is_due:
            self._strain(probe, obj)
        elif not full and parameters.search_is_due:
            self._search(probe, obj)
        self._windows.place(parameters)

    def _update(self, probe: ProbeState) -> None:
        """Move the parameters of all frames by what their batches said."""
        parameters, windows = self._parameters, self._windows
        variations = self._xp.to_numpy(probe.variations)
        remainders_px = windows.remainders_px(parameters, slice(None))
        by_weight, by_function = self._slopes(remainders_px)
        measured = FrameMeasurement(
            remainders_px,
            by_weight,
            by_function,
            self._curvature,
            counts=self._counts,
            variation_power=np.square(np.abs(variations)).sum(axis=(0, 2, 3)),
        )
        parameters.update(measured, scale=windows.scale, degree=self._degree, step=self._step)

    def _slopes(self, remainders_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the slopes by the weights of the spectra, and by those of the functions of their mixture."""
        mix = self._parameters.weights
        if self._overlaps.shape[1] != self._windows.weights.shape[1]:  # the compiled step has mixed them
            return self._overlaps[:, : mix.shape[1]], self._overlaps[:, mix.shape[1] :]
        overlaps = self._overlaps.reshape(*mix.shape, -1)
        base = shift_weights(remainders_px, self._degree).astype(np.float64)
        return np.einsum("mlk,mk->ml", overlaps, base), np.einsum("mlk,ml->mk", overlaps, mix)

    def _orthogonalise(self, probe: ProbeState) -> None:
        """Make the variations of the probe orthogonal, as OPR asks for."""
        xp = self._xp
        spectrum, variations = self._parameters.orthogonalise(
            xp.to_numpy(probe.spectrum), xp.to_numpy(probe.variations)
        )
        probe.spectrum = xp.asarray(spectrum.astype(np.complex64))
        probe.variations = xp.asarray(np.ascontiguousarray(variations))

    def _search(self, probe: ProbeState, obj: ObjectState) -> None:
        """Look for a better place of the frames that are explained badly."""
        windows, canvas, basis = self._windows, obj.canvas, probe.basis()
        last = np.array(windows.shape) - basis.shape[-1]

        def misfits(frames: Any, offset: np.ndarray) -> np.ndarray:
            corners = np.clip(windows.corners[frames] + offset, 0, last)
            return self._misfit.misfits(frames, canvas, corners, basis, windows.weights[frames])

        reach = (self._parameters.model.position_bound_px or 0.0) * windows.scale
        frames, moves = better_places(misfits, reach)
        self._parameters.relocate(frames, moves / windows.scale)

    def _strain(self, probe: ProbeState, obj: ObjectState) -> None:
        """Fit a strain of positions and object together with a quadratic phase of the probe's spectrum."""
        xp, parameters, windows = self._xp, self._parameters, self._windows
        frames = parameters.sample(len(windows))
        spectrum, canvas = xp.to_numpy(probe.spectrum), xp.to_numpy(obj.canvas)
        variations = xp.to_numpy(probe.variations)
        phases = quadratic_phases(spectrum.shape[-1])
        placed = {"corners": windows.corners[frames], "weights": xp.to_numpy(windows.weights)[frames]}
        if self._fused is not None:
            normal = self._fused.strain(
                frames,
                phases,
                **placed,
                spectrum=spectrum,
                variations=variations,
                obj=canvas,
                count=STRAIN_COUNT,
            )
        else:
            amplitude, good = self._misfit.seen(frames)
            spectra = np.concatenate([spectrum[:, None], variations], axis=1)
            normal = strain_products(
                canvas,
                spectra,
                xp.to_numpy(probe.filters),
                phases,
                **placed,
                amplitude=amplitude,
                good=good,
                offset=self._misfit.offset,
                count=STRAIN_COUNT,
            )
        strain, phase = strain_step(windows.tiles.team.total(normal), phases)
        turned = xp.asarray(np.exp(1j * phase).astype(np.complex64))
        probe.spectrum *= turned
        probe.variations *= turned
        moved = stretched(canvas, parameters.strain(strain), windows.middle_px, threads=xp.threads)
        windows.tiles.as_owned(xp, (moved,))
        obj.canvas = xp.asarray(moved)


#: A frame is explained badly above this ratio to the median; a place is better below this ratio to the old.
_BADLY, _BETTER = 1.2, 0.9
_SEARCH_STEP_PX = 2


def position_curvature(
    xp: Arrays, canvas: Array, corners: np.ndarray, light: Array
) -> Float64[np.ndarray, "frame 2 2"]:
    """Return the curvature of the misfit by each position, in pixels of the canvas.

    Moving the probe over the object changes the wave on the detector by a ramp of phase, which no
    count shows, and by the probe times the object's slope. So that slope counts, where there is light (n, n).
    """
    down, right = (xp.zeros(tuple(canvas.shape), complex_values=True) for _ in (0, 1))
    down[1:-1] = (canvas[2:] - canvas[:-2]) / 2
    right[:, 1:-1] = (canvas[:, 2:] - canvas[:, :-2]) / 2
    slopes = [xp.cut(image, corners, light.shape[-1]) for image in (down, right)]
    curvature = np.empty((len(corners), 2, 2))
    for a, b in ((0, 0), (0, 1), (1, 1)):
        product = (slopes[a].conj() * slopes[b]).real
        curvature[:, a, b] = curvature[:, b, a] = xp.to_numpy((product * light).sum((1, 2))) / 2
    return curvature


def better_places(
    misfits: Callable[[Any, np.ndarray], np.ndarray], reach_px: float
) -> tuple[Int[np.ndarray, " moved"], Int[np.ndarray, "moved 2"]]:
    """Find better places for the frames that are explained badly, all over their bound.

    Args:
        misfits: of some frames, moved by whole pixels (y, x).
        reach_px: the bound, in the same pixels.
    Returns:
        Which frames have one, and the moves there.

    Source: to try other places and keep those that explain a frame better, A. M. Maiden et al.,
    Ultramicroscopy 120 (2012) 64, 10.1016/j.ultramic.2012.06.001; there the trials are random and shrink,
    here they are a grid.
    """
    along = np.arange(-int(reach_px), int(reach_px) + 1, _SEARCH_STEP_PX)
    here = misfits(slice(None), np.zeros(2, np.int64))
    bad = np.flatnonzero(here > _BADLY * np.median(here))
    offsets = np.array([(y, x) for y in along for x in along if np.hypot(y, x) <= reach_px], np.int64)
    if not len(bad) or not len(offsets):  # all is well, or the bound lies between two steps
        return bad[:0], np.empty((0, 2), np.int64)
    there = np.stack([misfits(bad, offset) for offset in offsets])
    best = there.argmin(axis=0)
    better = there[best, np.arange(len(bad))] < _BETTER * here[bad]
    return bad[better], offsets[best[better]]
