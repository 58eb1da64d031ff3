"""The amplitude misfit of a level's frames: predict, compare with the measurement, pull the difference back.

    I = sum over modes |F (probe x patch)|^2
    what is made small:  sum (sqrt(I + offset) - A)^2,  what is reported:  sum |sqrt(I + offset) - A|

A is the measured amplitude; the root of a Poisson count has nearly the same variance whatever the count. The
gradient needs one transform back; prediction and gradient come out of one pass over the frames.

Source: P. Thibault and M. Guizar-Sicairos, New J. Phys. 14 (2012) 063004, 10.1088/1367-2630/14/6/063004.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptycho_core.arrays import Array, Arrays
from ptycho_core.coded_frames import CodedFrames, frame_sums
from ptycho_core.kernel import Misfit

__all__ = ["AmplitudeMisfit", "Gradients"]


@dataclass(frozen=True)
class Gradients:
    """The misfit of some frames and where it leads.

    Attributes:
        object_gradient: (f, n, n), a patch for each frame.
        basis_gradient: (P, K, n, n), by the basis functions of the probe.
        misfit: sum of the moduli of the amplitude misfits.
        overlaps: (f, K) of the pulled-back misfit with the basis functions, where they were asked for.
    """

    object_gradient: Array
    basis_gradient: Array
    misfit: float
    overlaps: np.ndarray | None = None


class AmplitudeMisfit:
    """The measured amplitudes on the device, and the distance of a prediction from them.

    Attributes:
        offset: counts per pixel that are added to every prediction.
    """

    def __init__(
        self,
        arrays: Arrays,
        amplitude: np.ndarray | CodedFrames,
        good: np.ndarray | None,
        *,
        offset: float,
        kind: Misfit = "moduli",
        softening: float = 0.0,
    ) -> None:
        """Take amplitudes (m, n, n) and weights (n, n) or (m, n, n), None where all pixels are good.

        Coded frames stay coded in the host's memory, and are widened when some are looked at.

        Args:
            kind: what is summed up, see `Misfit`.
            softening: counts added to those measured; not for `moduli`.
        """
        self._xp, self.offset, self._kind, self._softening = arrays, offset, kind, softening
        self._amplitude = amplitude
        if not isinstance(amplitude, CodedFrames):
            self._amplitude = arrays.asarray(amplitude)
        elif arrays.device != "cpu":
            self._amplitude = _moved(amplitude, arrays)
        self._good = None if good is None else arrays.asarray(good)

    def gradients(
        self, frames: slice, patches: Array, basis: Array, weights: Array, *, with_overlaps: bool
    ) -> Gradients:
        """Predict some frames, compare with the measured amplitude, and pull the difference back.

        Done block by block, so that what lies between the two transforms stays in the core's cache; the
        results take the place of the patches and the probes.

        Args:
            patches: (f, n, n) of the object; overwritten.
            basis: (P, K, n, n) functions whose sums by weights (f, K) are the probes.
        """
        xp = self._xp
        probes = xp.combine(weights, basis)
        misfit, overlaps = 0.0, []
        for block in self._blocks(len(patches)):
            probe, patch = probes[:, block], patches[block]
            waves = xp.fft2(probe * patch[None])
            measured = slice(frames.start + block.start, frames.start + block.stop)
            correction, block_misfit = self._compare(xp.intensity(waves), measured)
            misfit += block_misfit
            exit_change = xp.ifft2(xp.scale(waves, correction))
            pulled_to_object = probe.conj() * exit_change
            exit_change *= patch.conj()[None]
            if with_overlaps:
                overlaps.append(xp.overlaps(basis, exit_change))
            probes[:, block] = exit_change
            patches[block] = pulled_to_object[0] if len(probes) == 1 else pulled_to_object.sum(0)
        all_overlaps = np.concatenate(overlaps) if overlaps else None
        return Gradients(patches, xp.project(weights, probes), misfit, all_overlaps)

    def _compare(self, intensity: Array, measured: slice) -> tuple[Array, float]:
        amplitude, good = self._seen(self._amplitude, measured), self._good_of(measured)
        if self._kind == "moduli":
            return self._xp.modulus_correction(intensity, amplitude, self.offset, good)
        return self._xp.count_correction(
            intensity, amplitude, self.offset, self._softening, good, roots=self._kind == "roots"
        )

    def misfits(
        self, frames: Any, canvas: Array, corners: np.ndarray, basis: Array, weights: Array
    ) -> np.ndarray:
        """Return the relative amplitude misfit of each of some frames, their corners (f, 2) as given."""
        xp, all_frames = self._xp, self._amplitude
        amplitude: Any  # on the device, or coded
        amplitude = all_frames.select(frames) if isinstance(all_frames, CodedFrames) else all_frames[frames]
        good, misfits = self._good_of(frames), np.empty(len(corners))

        def compare(chunk: slice) -> None:
            for block in self._blocks(chunk.stop - chunk.start):
                part = slice(chunk.start + block.start, chunk.start + block.stop)
                modulus = (self._intensity(canvas, corners[part], basis, weights[part]) + self.offset) ** 0.5
                distance = abs(self._seen(amplitude, part) - modulus)
                if good is not None:
                    distance = distance * (good if len(good.shape) == 2 else good[part])
                misfits[part] = xp.to_numpy(distance.sum((1, 2)))

        xp.map_chunks(compare, len(corners), basis.shape[0] * basis.shape[-1] ** 2)
        if isinstance(amplitude, CodedFrames):
            total = frame_sums(amplitude)[0]
        else:
            total = xp.to_numpy(amplitude.sum((1, 2)))
        return misfits / np.maximum(total, 1e-9)

    def predicted(
        self, frames: np.ndarray, canvas: Array, corners: np.ndarray, basis: Array, weights: Array
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the amplitudes and predicted counts (no offset) of the good pixels of some frames."""
        predicted = self._xp.to_numpy(self._intensity(canvas, corners, basis, weights))
        amplitude, good = self.seen(frames)
        if good is None:
            return amplitude, predicted
        counted = np.broadcast_to(good, amplitude.shape) > 0
        return amplitude[counted], predicted[counted]

    def seen(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return amplitudes and weights of some frames as NumPy arrays."""
        good = self._good_of(frames)
        amplitude = self._xp.to_numpy(self._seen(self._amplitude, frames))
        return amplitude, None if good is None else self._xp.to_numpy(good)

    def _seen(self, amplitude: Any, frames: Any) -> Array:
        """Return some of these amplitudes on the device."""
        some = amplitude[frames]
        return self._xp.asarray(some) if isinstance(amplitude, CodedFrames) else some

    def _intensity(self, canvas: Array, corners: np.ndarray, basis: Array, weights: Array) -> Array:
        xp = self._xp
        probes = xp.combine(weights, basis)
        return xp.intensity(xp.fft2(probes * xp.cut(canvas, corners, basis.shape[-1])[None]))

    def _good_of(self, frames: Any) -> Array | None:
        return self._good if self._good is None or len(self._good.shape) == 2 else self._good[frames]

    def _blocks(self, n_frames: int) -> Iterator[slice]:
        """Runs of so many frames that fill about the cache of a core."""
        step = max(1, self._xp.block_pixels // self._amplitude.shape[-1] ** 2)
        for first in range(0, n_frames, step):
            yield slice(first, min(first + step, n_frames))


def _moved(coded: CodedFrames, arrays: Arrays) -> Array:
    """Return all frames as amplitudes on the device, without a copy of them as such on the host."""
    moved = arrays.zeros(coded.shape)
    for block in coded.blocks():
        moved[block] = arrays.asarray(coded[block])
    return moved
