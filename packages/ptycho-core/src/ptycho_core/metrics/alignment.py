"""Lay one object over another: the freedoms of ptychography, found by least squares.

Frames fix an object only up to a complex factor, a linear phase ramp and a shift (the probe takes up the
opposite). `align` finds the three for which factor * ramp * shifted estimate comes nearest to the truth on
a region of the canvas. It starts from several candidate shifts, because the distance has many local
minima, takes the ramp from a Fourier peak, and refines all parameters together by Levenberg-Marquardt.

Everything is deterministic. Files, crops and scores live elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from jaxtyping import Bool, Complex, Complex128, Float64
from scipy.ndimage import distance_transform_edt, maximum_filter

CANDIDATES = 3
"""Peaks of the correlation that are tried, besides no shift at all."""

SCOUT_STEPS, FINAL_STEPS = 4, 40
MARGIN_PX = 16
"""Frame of padding in which the estimate fades to its mean, so that a Fourier shift has nothing to wrap."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """What has to be done to the estimate, in this order: shift, ramp, factor.

    Attributes:
        shift_px: (y, x) by which the content of the estimate moves.
        ramp_rad_per_px: (y, x) slope of the phase added, zero at index (H // 2, W // 2).
        factor: complex number that multiplies the result.
        aligned: (H, W) the estimate after all three; faded to its mean away from the region.
    """

    shift_px: Float64[np.ndarray, "2"]
    ramp_rad_per_px: Float64[np.ndarray, "2"]
    factor: complex
    aligned: Complex128[np.ndarray, "h w"]


def align(
    estimate: Complex[np.ndarray, "h w"],
    truth: Complex[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
) -> Alignment:
    """Find shift, ramp and factor that bring the estimate nearest to the truth on the region.

    An estimate that does not vary on the region has nothing to align: shift and ramp are then 0.

    Args:
        estimate: the object to move. Values that are not finite count as 0.
        truth: the object that stays.
        region: pixels that count; at least one.

    Source: docs/reference/physics.md, "Object error".
    """
    estimate = np.where(np.isfinite(estimate), estimate, 0).astype(np.complex128)
    truth = truth.astype(np.complex128)
    size = np.sqrt(np.mean(np.abs(estimate[region]) ** 2))
    if not size > 0:
        return Alignment(np.zeros(2), np.zeros(2), 0j, np.zeros_like(truth))
    normalised = estimate / size
    inside = normalised[region]
    if np.std(inside) < 1e-9:
        factor = complex(np.vdot(inside, truth[region]) / np.vdot(inside, inside).real)
        return Alignment(np.zeros(2), np.zeros(2), factor / size, factor * normalised)
    shifts = _candidate_shifts(normalised, truth, region)
    scouts = [_Fit(normalised, truth, region, shift) for shift in shifts]
    for scout in scouts:
        scout.refine(SCOUT_STEPS)
    best = min(scouts, key=lambda scout: scout.distance)
    best.refine(FINAL_STEPS)
    found = best.alignment()
    return Alignment(found.shift_px, found.ramp_rad_per_px, found.factor / size, found.aligned)


def _candidate_shifts(estimate: np.ndarray, truth: np.ndarray, region: np.ndarray) -> list[np.ndarray]:
    """Whole-pixel shifts worth a try: the highest peaks of the correlation, and zero.

    The correlated feature is the product of neighbouring pixels, o[r] conj(o[r - 1]): a ramp multiplies it
    by one constant, the global phase drops out. Amplitudes are compressed, so that outliers do not decide.
    """
    shape = [scipy.fft.next_fast_len(side + MARGIN_PX) for side in truth.shape]
    correlation = np.zeros(shape)
    for axis in (0, 1):
        spectra = [scipy.fft.fft2(_neighbour_product(o, region, axis), shape) for o in (truth, estimate)]
        correlation += np.abs(scipy.fft.ifft2(spectra[0] * spectra[1].conj()))
    lags = np.stack(np.meshgrid(*(scipy.fft.fftfreq(n, 1 / n) for n in shape), indexing="ij"))
    reach = [max(8, side // 4) for side in truth.shape]
    correlation[(np.abs(lags[0]) > reach[0]) | (np.abs(lags[1]) > reach[1])] = 0
    correlation[correlation < maximum_filter(correlation, 5, mode="wrap")] = 0
    highest = np.argsort(correlation, axis=None, kind="stable")[::-1][:CANDIDATES]
    peaks = [lags[:, *np.unravel_index(i, correlation.shape)] for i in highest]
    return [*peaks, *([] if any(not p.any() for p in peaks) else [np.zeros(2)])]


def _neighbour_product(o: np.ndarray, region: np.ndarray, axis: int) -> np.ndarray:
    magnitude = np.abs(o)
    compressed = o / (magnitude + 0.1 * np.median(magnitude[region]) + 1e-12)
    pair = region & np.roll(region, 1, axis)
    product = compressed * np.roll(compressed, 1, axis).conj()
    return np.where(pair, product - product[pair].mean() if pair.any() else 0, 0)


class _Fit:
    """One start of the search: the six real parameters and how to improve them.

    model(r) = c exp(i a (r - r0)) R(r - s), R the estimate with its first ramp already removed,
    so that what a Fourier shift moves is as smooth as it can be.
    """

    def __init__(self, estimate: np.ndarray, truth: np.ndarray, region: np.ndarray, shift: np.ndarray):
        self.shape, self.region = truth.shape, region
        self.target = truth[region]
        height, width = truth.shape
        self.y = np.arange(height)[:, None] - height // 2
        self.x = np.arange(width)[None] - width // 2
        here = np.nonzero(region)
        self.r = np.stack([self.y[here[0], 0], self.x[0, here[1]]]).astype(float)
        self.first_ramp = self._ramp_by_fourier_peak(estimate, truth, shift.astype(int))
        smooth = estimate * self._ramp(self.first_ramp)
        self.spectrum = scipy.fft.fft2(self._padded(smooth, shift))
        self.k = [2 * np.pi * scipy.fft.fftfreq(n) for n in self.spectrum.shape]
        self.shift, self.ramp, self.damping = shift.astype(float), np.zeros(2), 1e-3
        self._evaluate()

    def _ramp(self, slope: np.ndarray) -> np.ndarray:
        return np.exp(1j * slope[0] * self.y) * np.exp(1j * slope[1] * self.x)

    def _ramp_by_fourier_peak(self, estimate: np.ndarray, truth: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Slope that correlates truth and shifted estimate best, to half a Fourier bin."""
        moved = np.roll(estimate, tuple(shift), (0, 1))
        product = np.where(self.region, truth * moved.conj(), 0).astype(np.complex64)
        shape = [scipy.fft.next_fast_len(2 * side) for side in self.shape]
        peak = np.unravel_index(np.argmax(np.abs(scipy.fft.fft2(product, shape))), shape)
        return np.array([2 * np.pi * scipy.fft.fftfreq(n)[i] for n, i in zip(shape, peak, strict=True)])

    def _padded(self, estimate: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """The estimate near the region, fading to its mean over the margin.

        Far from the region there is nothing to compare, and what is there (an unlit border, the far
        edge of the canvas) must not ring into it.
        """
        margin = MARGIN_PX + int(np.abs(shift).max())
        used = np.roll(np.pad(self.region, margin), tuple(-shift.astype(int)), (0, 1))
        fade = np.clip((distance_transform_edt(~used) - 2) / (MARGIN_PX / 2), 0, 1)
        mean = estimate[self.region].mean()
        weight = 0.5 * (1 + np.cos(np.pi * fade))
        padded = mean + weight * (np.pad(estimate, margin, mode="edge") - mean)
        self.margin = margin
        shape = [scipy.fft.next_fast_len(n) for n in padded.shape]
        grow = [(0, n - m) for n, m in zip(shape, padded.shape, strict=True)]
        return np.pad(padded, grow, constant_values=mean)

    def _shifted(self, spectrum: np.ndarray) -> np.ndarray:
        ramps = (np.exp(-1j * k * s) for k, s in zip(self.k, self.shift, strict=True))
        along_y, along_x = ramps
        whole = scipy.fft.ifft2(spectrum * along_y[:, None] * along_x)
        height, width = self.shape
        return whole[self.margin : self.margin + height, self.margin : self.margin + width]

    def _evaluate(self) -> None:
        moved = self._shifted(self.spectrum)[self.region]
        moved *= np.exp(1j * (self.ramp @ self.r))
        self.factor = complex(np.vdot(moved, self.target) / max(np.vdot(moved, moved).real, 1e-300))
        self.model = self.factor * moved
        self.distance = float(np.sum(np.abs(self.target - self.model) ** 2))

    def _jacobian(self) -> Complex128[np.ndarray, "6 pixel"]:
        """Derivatives by log|c|, arg c, the two slopes and the two shifts."""
        phase = self.factor * np.exp(1j * (self.ramp @ self.r))
        slopes = [
            -phase * self._shifted(self.spectrum * (1j * k))[self.region]
            for k in (self.k[0][:, None], self.k[1][None])
        ]
        return np.stack([self.model, 1j * self.model, *(1j * self.model * self.r), *slopes])

    def refine(self, steps: int) -> None:
        """Levenberg-Marquardt: only steps that bring the model nearer are kept."""
        for _ in range(steps):
            jacobian = self._jacobian()
            normal = np.real(jacobian.conj() @ jacobian.T)
            downhill = np.real(jacobian.conj() @ (self.target - self.model))
            before = self.distance, self.shift, self.ramp
            for _ in range(4):
                damped = normal + np.diag(self.damping * np.diag(normal) + 1e-12 * np.trace(normal))
                step = np.linalg.solve(damped, downhill)
                self.shift = before[1] + np.clip(step[4:], -1, 1)
                self.ramp = before[2] + step[2:4]
                self._evaluate()
                if self.distance < before[0]:
                    self.damping *= 0.1
                    break
                self.damping *= 10
            else:
                self.shift, self.ramp = before[1:]
                self._evaluate()
                return
            moved = np.abs(self.shift - before[1]).max() + np.abs(self.ramp - before[2]).max() * max(
                self.shape
            )
            if moved < 1e-7:
                return

    def alignment(self) -> Alignment:
        aligned = self.factor * self._ramp(self.ramp) * self._shifted(self.spectrum)
        # The first ramp was applied before the shift; applied after it, it lags by ramp * shift.
        factor = self.factor * np.exp(-1j * (self.first_ramp @ self.shift))
        return Alignment(self.shift, self.first_ramp + self.ramp, complex(factor), aligned)
