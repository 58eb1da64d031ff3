"""How the parameters of the frames are updated at one level, after every epoch.

Positions follow the curvature of the misfit or are searched for elsewhere. Whether the whole scan is
stretched, turned or sheared must be told apart from a defocus of the probe: if positions and object are
stretched together, a frame notices only that the object is stretched under the probe, -P (M r) . grad O. A
curved probe P = |P| exp(i b r^2) makes the same change, nearly, when it is defocused. So the two are fitted
together: four numbers of a strain, three of a quadratic phase of the probe's spectrum, by one Gauss-Newton
step with the true curvature of the amplitudes on the detector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
import scipy.ndimage
from jaxtyping import Complex64, Float64, Int

from ptycho_core.arrays import Array, Arrays
from ptycho_core.physics.canvas import frequencies
from ptycho_core.solver.frame_parameters import FrameMeasurement, FrameParameters
from ptycho_core.solver.misfit import AmplitudeMisfit
from ptycho_core.solver.state import ObjectState, ProbeState
from ptycho_core.solver.windows import Windows

__all__ = ["FrameUpdates", "better_places", "position_curvature", "strain_step", "stretched"]


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
    ) -> None:
        """Take the level's frames.

        Args:
            counts: (m,) measured counts of each frame.
            degree: of the series for sub-pixel shifts.
        """
        self._parameters, self._xp, self._degree = parameters, arrays, degree
        self._windows, self._misfit, self._counts = windows, misfit, counts
        self._overlaps = np.zeros((len(windows), windows.weights.shape[1]), np.float32)
        self._curvature = np.zeros((len(windows), 2, 2))
        self._seen, self._step = np.zeros(len(windows), bool), 0.0

    def after_batch(
        self, frames: slice, *, overlaps: np.ndarray, curvature: np.ndarray | None, step: float
    ) -> None:
        """Note what a batch says of its frames; they are moved after the epoch, all at once.

        Args:
            overlaps: (f, K) of the pulled-back misfit with the basis functions.
            curvature: (f, 2, 2) of the misfit by each position; None where positions do not move.
        """
        self._overlaps[frames], self._seen[frames], self._step = overlaps, True, step
        if curvature is not None:
            self._curvature[frames] = curvature

    @property
    def positions_move(self) -> bool:
        """Whether positions are being corrected at present."""
        return self._parameters.positions_move

    def after_epoch(self, probe: ProbeState, obj: ObjectState) -> None:
        """Do for all frames what is to be done after an epoch."""
        if self._seen.all():
            self._update(probe)
        self._seen[:] = False
        parameters, full = self._parameters, self._windows.scale > 0.7
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
        measured = FrameMeasurement(
            windows.remainders_px(parameters, slice(None)),
            self._overlaps,
            self._curvature,
            counts=self._counts,
            variation_power=np.square(np.abs(variations)).sum(axis=(0, 2, 3)),
        )
        parameters.update(measured, scale=windows.scale, degree=self._degree, step=self._step)

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
        amplitude, good = self._misfit.seen(frames)
        canvas = xp.to_numpy(obj.canvas)
        strain, phase = strain_step(
            canvas,
            xp.to_numpy(probe.spectrum),
            windows.corners[frames],
            windows.remainders_px(parameters, frames),
            amplitude,
            good,
            offset=self._misfit.offset,
        )
        probe.spectrum *= xp.asarray(np.exp(1j * phase).astype(np.complex64))
        obj.canvas = xp.asarray(stretched(canvas, parameters.strain(strain), windows.middle_px))


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


_CHUNK_PIXELS = 1 << 17
_DAMPING = 1e-4
_COUNT = 0.6


def strain_step(
    obj: np.ndarray,
    spectrum: np.ndarray,
    corners: np.ndarray,
    remainders_px: np.ndarray,
    amplitude: np.ndarray,
    good: np.ndarray | None,
    *,
    offset: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the strain (2, 2) of positions and object and the phase (n, n) of the probe's spectrum to apply.

    The misfit is that of the counts, which is unbiased, over about their deviation.
    """
    n = spectrum.shape[-1]
    k, r = frequencies(n), np.arange(n) - n // 2
    y, x = k[:, None] * np.sqrt(n), k[None] * np.sqrt(n)
    phases = np.stack([y * y + 0 * x, x * x + 0 * y, y * x]).astype(np.float32)
    slopes = [_slope(obj, axis) for axis in (0, 1)]
    normal, right = np.zeros((7, 7)), np.zeros(7)
    step = max(1, _CHUNK_PIXELS // n**2)
    pixel = np.arange(n)
    for first in range(0, len(corners), step):
        part = slice(first, first + step)
        rows, columns = corners[part, 0, None, None] + pixel[:, None], corners[part, 1, None, None] + pixel
        patch, *gradients = (image[rows, columns] for image in (obj, *slopes))
        rest = remainders_px[part]
        ramp = np.exp(-2j * np.pi * (k[:, None] * rest[:, 0, None, None] + k * rest[:, 1, None, None]))
        intensity = np.full(patch.shape, offset, np.float32)
        jacobian = np.zeros((7, *patch.shape), np.float32)
        for mode in spectrum:
            moved = (mode * ramp).astype(np.complex64)
            probe = scipy.fft.ifft2(moved, norm="ortho")
            wave = scipy.fft.fft2(probe * patch, norm="ortho")
            intensity += np.square(np.abs(wave))
            changes = [-probe * g * along for g in gradients for along in (r[:, None], r[None])]
            changes += [scipy.fft.ifft2(1j * phase * moved, norm="ortho") * patch for phase in phases]
            for row, change in zip(jacobian, changes, strict=True):
                row += (wave.conj() * scipy.fft.fft2(change.astype(np.complex64), norm="ortho")).real
        spread = np.sqrt(intensity + _COUNT)
        jacobian /= spread
        misfit = (np.square(amplitude[part]) - intensity) / (2 * spread)
        if good is not None:
            weight = good if good.ndim == 2 else good[part]
            jacobian *= weight
            misfit = misfit * weight
        flat = jacobian.reshape(7, -1).astype(np.float64)
        normal += flat @ flat.T
        right += flat @ misfit.ravel()
    size = np.sqrt(np.maximum(np.diag(normal), 1e-30))
    scaled = normal / size[:, None] / size
    change = np.linalg.solve(scaled + _DAMPING * np.eye(7), right / size) / size
    return change[:4].reshape(2, 2), np.tensordot(change[4:], phases, axes=1)


def stretched(
    obj: Complex64[np.ndarray, "height width"], strain: np.ndarray, middle_px: np.ndarray
) -> Complex64[np.ndarray, "height width"]:
    """Let an object go along with a strain (2, 2) of the positions about their middle (y, x)."""
    back = np.linalg.inv(np.eye(2) + strain)
    offset = middle_px - back @ middle_px
    parts = [
        scipy.ndimage.affine_transform(part, back, offset, order=3, mode="nearest")
        for part in (np.real(obj), np.imag(obj))
    ]
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def _slope(obj: np.ndarray, axis: int) -> np.ndarray:
    """Derivative per pixel, to the fourth order; the rim of the canvas is empty."""
    near = np.roll(obj, -1, axis) - np.roll(obj, 1, axis)
    far = np.roll(obj, -2, axis) - np.roll(obj, 2, axis)
    return (8 * near - far) / 12
