"""The steps of what each frame has of its own, at one level: after every batch, and after every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ptycho_core.arrays import Array, Arrays
from ptycho_core.solver._canvas import Window, Windows
from ptycho_core.solver._comparison import Comparison
from ptycho_core.solver._freedoms import Found, FrameFreedoms
from ptycho_core.solver._object_state import ObjectState
from ptycho_core.solver._places import better_places, position_curvature
from ptycho_core.solver._probe_state import ProbeState
from ptycho_core.solver._strain import strain_step, stretched

__all__ = ["FrameSteps"]


class FrameSteps:
    """Moves the frames, their windows, and what has to go along with them."""

    def __init__(
        self,
        own: FrameFreedoms,
        arrays: Arrays,
        windows: Windows,
        comparison: Comparison,
        counts: np.ndarray,
        *,
        degree: int,
    ) -> None:
        """Take the level's frames.

        Args:
            counts: (m,) measured counts of each frame.
            degree: of the series for sub-pixel shifts.
        """
        self._own, self._xp, self._degree = own, arrays, degree
        self._windows, self._comparison, self._counts = windows, comparison, counts

    def after_batch(
        self,
        frames: slice,
        window: Window,
        probe: ProbeState,
        obj: ObjectState,
        *,
        overlaps: np.ndarray,
        light: Array,
        step: float,
    ) -> None:
        """Correct what the frames of a batch have of their own.

        Args:
            window: of the batch.
            overlaps: (f, K) of the pulled-back misfit with the basis functions.
            light: (n, n) of the probe before its step.
        """
        own, windows, curvature = self._own, self._windows, np.empty(0)
        if own.positions_move:
            corners = windows.corners[frames] - (window[0].start, window[1].start)
            curvature = position_curvature(self._xp, obj.canvas[window], corners, light)
        variations = self._xp.to_numpy(probe.variations)
        found = Found(
            windows.remainders_px(own, frames),
            overlaps,
            curvature,
            counts=self._counts[frames],
            variation_power=np.square(np.abs(variations)).sum(axis=(0, 2, 3)),
        )
        own.move(frames, found, scale=windows.scale, degree=self._degree, step=step)
        windows.place(own, frames)

    def after_epoch(self, probe: ProbeState, obj: ObjectState) -> None:
        """Do for all frames what is to be done after an epoch."""
        xp, own = self._xp, self._own
        if own.freedoms.variations:
            spectrum, variations = own.unmix(xp.to_numpy(probe.spectrum), xp.to_numpy(probe.variations))
            probe.spectrum = xp.asarray(spectrum.astype(np.complex64))
            probe.variations = xp.asarray(np.ascontiguousarray(variations))
        wanted = own.after_epoch(full=self._windows.scale == 1)
        if wanted == "strain":
            self._strain(probe, obj)
        elif wanted == "search":
            self._search(probe, obj)
        self._windows.place(own)

    def _search(self, probe: ProbeState, obj: ObjectState) -> None:
        """Look for a better place of the frames that are explained badly."""
        windows, canvas, basis = self._windows, obj.canvas, probe.basis()
        last = np.array(windows.shape) - basis.shape[-1]

        def misfits(frames: Any, offset: np.ndarray) -> np.ndarray:
            corners = np.clip(windows.corners[frames] + offset, 0, last)
            return self._comparison.misfits(frames, canvas, corners, basis, windows.weights[frames])

        reach = (self._own.freedoms.position_bound_px or 0.0) * windows.scale
        frames, moves = better_places(misfits, reach)
        self._own.relocate(frames, moves / windows.scale)

    def _strain(self, probe: ProbeState, obj: ObjectState) -> None:
        """Fit a strain of positions and object together with a quadratic phase of the probe's spectrum."""
        xp, own, windows = self._xp, self._own, self._windows
        frames = own.sample(len(windows))
        amplitude, good = self._comparison.seen(frames)
        canvas = xp.to_numpy(obj.canvas)
        strain, phase = strain_step(
            canvas,
            xp.to_numpy(probe.spectrum),
            windows.corners[frames],
            windows.remainders_px(own, frames),
            amplitude,
            good,
            offset=self._comparison.offset,
        )
        probe.spectrum *= xp.asarray(np.exp(1j * phase).astype(np.complex64))
        obj.canvas = xp.asarray(stretched(canvas, own.strain(strain), windows.middle_px))
