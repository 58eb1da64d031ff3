"""Whether two thin slices explain the frames better than one: then the sample is too thick for one.

A wave that has passed the first slice spreads before it meets the second; one object cannot say that, and
the wider an angle the worse. Two slices are fitted twice, once in contact, where they are one slice, and once
apart. Both fits have the same unknowns and the same steps, so that what the distance gains is the thickness.

Source of the model: A. M. Maiden, M. J. Humphry and J. M. Rodenburg, J. Opt. Soc. Am. A 29 (2012) 1606,
10.1364/JOSAA.29.001606.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
from jaxtyping import Complex64

from ptycho_core.physics import whole_and_rest
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import central, scan_statistics

__all__ = ["TwoSlices", "two_slices"]

#: Distances that are tried, wavelength x distance in squares of a pixel; about 5 is one depth of field.
_DISTANCES = (10.0, 40.0, 80.0)
_FIRST_DISTANCE = 20.0
#: Only if the first distance gains so much are the others tried.
_WORTH_ANOTHER = 0.985
_LARGEST_PX = 96
_EPOCHS, _FRAMES_PER_STEP = 24, 12
_OBJECT_STEP, _PROBE_STEP, _MOMENTUM = 0.5, 0.2, 0.5
#: Share of the brightest light that is added when dividing by it; the last step over the first.
_FLOOR, _LAST_STEP = 0.1, 0.03


@dataclass(frozen=True)
class TwoSlices:
    """Two slices that are apart, against the same two in contact.

    Attributes:
        distance_px2: wavelength x distance of the slices, in squares of an object pixel.
        gain: data residual with the slices apart over that in contact; 1 where thickness explains nothing.
    """

    distance_px2: float
    gain: float


def two_slices(scan: Scan, result: Reconstruction, time_left: Callable[[], bool]) -> TwoSlices | None:
    """Fit two slices, in contact and apart.

    Args:
        result: of that scan; its probe and positions are started from.
        time_left: asked before each distance but the first.
    Returns:
        The best distance; None where there was no time even for one.
    """
    fit = _Fit(scan, result)
    if not time_left():
        return None
    contact = fit.residual(0.0)
    gains = {}
    for distance in (_FIRST_DISTANCE, *_DISTANCES):
        if not time_left():
            break
        gains[distance] = fit.residual(distance) / max(contact, 1e-9)
        if gains[_FIRST_DISTANCE] > _WORTH_ANOTHER:
            break
    if not gains:
        return None
    best = min(gains, key=gains.__getitem__)
    return TwoSlices(best * fit.pixel**2, gains[best])


class _Fit:
    """The frames that two slices are fitted to."""

    def __init__(self, scan: Scan, result: Reconstruction) -> None:
        used, n = result.frames_used, scan.frame_px
        side = min(n, _LARGEST_PX)
        middle = central(side, n)
        self.pixel = n / side  # of this fit, in pixels of the scan
        self.amplitude = _cornered(scan.amplitude()[used][:, middle, middle])
        good = np.broadcast_to(scan.good_pixels(), scan.frames.shape)[used][:, middle, middle]
        self.good = _cornered(good.astype(np.float32))
        self.background = np.float32(scan_statistics(scan, estimate_background=True).background)
        corner, self.rest = whole_and_rest(result.positions_px[used] / self.pixel - side // 2)
        self.corner = corner - corner.min(axis=0)
        self.shape = tuple((self.corner.max(axis=0) + side).tolist())
        wave = scipy.fft.fftshift(scipy.fft.fft2(result.probe[0], norm="ortho"))[middle, middle]
        power = float(np.square(self.amplitude).sum(axis=(1, 2), dtype=np.float64).mean())
        wave = wave * np.sqrt(power / max(float(np.square(np.abs(wave)).sum()), 1e-30))
        self.spectrum = _cornered(wave).astype(np.complex64)
        self.k = scipy.fft.fftfreq(side)

    def residual(self, distance: float) -> float:
        """Fit two slices at this distance and return the data residual of the last pass.

        Args:
            distance: wavelength x distance, in squares of a pixel of this fit.
        """
        random = np.random.default_rng(0)
        k_squared = self.k[:, None] ** 2 + self.k**2
        way = np.exp(-1j * np.pi * distance * k_squared).astype(np.complex64)
        slices = [np.ones(self.shape, np.complex64) for _ in range(2)]
        moves = [np.zeros(self.shape, np.complex64) for _ in range(2)]
        spectrum, probe_move = self.spectrum, np.zeros_like(self.spectrum)
        n_frames, left = len(self.amplitude), 0.0
        for epoch in range(_EPOCHS):
            late = max(0.0, 2 * epoch / _EPOCHS - 1)
            step, left = np.float32(_LAST_STEP**late), 0.0
            order = random.permutation(n_frames)
            for frames in np.array_split(order, max(1, n_frames // _FRAMES_PER_STEP)):
                ramp = self._ramp(frames)
                first = scipy.fft.ifft2(spectrum * ramp, norm="ortho")
                patches = [self._cut(one, frames) for one in slices]
                second = scipy.fft.ifft2(scipy.fft.fft2(first * patches[0]) * way)
                wave = scipy.fft.fft2(second * patches[1], norm="ortho")
                wave, distance_left = self._misfit(wave, frames)
                left += distance_left
                pull = scipy.fft.ifft2(wave, norm="ortho")
                onto_second = np.conj(second) * pull
                pull = scipy.fft.ifft2(scipy.fft.fft2(np.conj(patches[1]) * pull) * np.conj(way))
                onto_first = np.conj(first) * pull
                for which, onto, light in ((0, onto_first, first), (1, onto_second, second)):
                    push, seen = self._place(onto, frames), self._place(np.square(np.abs(light)), frames)
                    push /= seen + np.float32(_FLOOR) * seen.max()
                    moves[which] = _MOMENTUM * moves[which] + step * np.float32(_OBJECT_STEP) * push
                    slices[which] = slices[which] + moves[which]
                if epoch:
                    pull = scipy.fft.fft2(np.conj(patches[0]) * pull, norm="ortho") * np.conj(ramp)
                    probe_move = _MOMENTUM * probe_move + step * pull.mean(axis=0)
                    spectrum = spectrum + np.float32(_PROBE_STEP) * probe_move
        return left / max(float(self.amplitude.sum(dtype=np.float64)), 1e-30)

    def _misfit(
        self, wave: Complex64[np.ndarray, "frame n n"], frames: np.ndarray
    ) -> tuple[Complex64[np.ndarray, "frame n n"], float]:
        """Return what the wave lacks of the measured modulus, and how far its own modulus is from it.

        The background is fitted, but not judged: where it is all there is, zeros are its commonest counts.
        """
        measured, good, modulus = self.amplitude[frames], self.good[frames], np.abs(wave)
        predicted = np.sqrt(np.square(modulus) + self.background)
        lack = (measured - predicted) * good / np.maximum(predicted, np.float32(1e-6))
        return wave * lack, float((np.abs(measured - modulus) * good).sum(dtype=np.float64))

    def _ramp(self, frames: np.ndarray) -> Complex64[np.ndarray, "frame n n"]:
        along_y, along_x = (np.exp(-2j * np.pi * self.k * self.rest[frames, axis, None]) for axis in (0, 1))
        return (along_y[:, :, None] * along_x[:, None, :]).astype(np.complex64)

    def _cut(self, image: np.ndarray, frames: np.ndarray) -> np.ndarray:
        side = len(self.k)
        return np.stack([image[y : y + side, x : x + side] for y, x in self.corner[frames]])

    def _place(self, patches: np.ndarray, frames: np.ndarray) -> np.ndarray:
        side, canvas = len(self.k), np.zeros(self.shape, patches.dtype)
        for patch, (y, x) in zip(patches, self.corner[frames], strict=True):
            canvas[y : y + side, x : x + side] += patch
        return canvas


def _cornered(frames: np.ndarray) -> np.ndarray:
    return scipy.fft.ifftshift(frames, axes=(-2, -1))
