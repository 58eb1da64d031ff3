"""What no linear estimator can do better: the object error that the photons of a scan allow.

The counts of a scan, linearised about the truth, carry Fisher information 4 A* u Re(u* A .) about the object, A from object
to the waves on the detector and u their phases. An oracle tells the estimator the true probe, the point of linearisation
and the power spectra of the object's real and imaginary part; its error is that of the posterior mean of a Gaussian
with these spectra, drawn once and solved by conjugate gradients. Edges are no Gaussian: an estimator that knows of them
can do better.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft

from ptycho_core.physics.canvas import coverage_of
from ptycho_core.physics.forward import shift_probe, whole_and_rest
from ptycho_core.simulate import SimulatedScan

__all__ = ["linear_bound"]

_STEPS, _RINGS = 60, 200
Field = np.ndarray


def linear_bound(made: SimulatedScan, *, seed: int = 1) -> float:
    """Return the object error of the best linear estimator of a scan with one probe mode."""
    n, shape = made.scan.frame_px, made.obj.shape
    corners, rest = whole_and_rest(made.scan.positions_px - n // 2)
    probes = np.stack([shift_probe(made.probe[0], one) for one in rest]).astype(np.complex64)
    rows = corners[:, 0, None, None] + np.arange(n)[:, None]
    columns = corners[:, 1, None, None] + np.arange(n)
    flat = (rows * shape[1] + columns).ravel()

    def waves(obj: Field) -> Field:
        return scipy.fft.fft2(probes * obj[rows, columns], norm="ortho", workers=2)

    def back(detector: Field) -> Field:
        values = (probes.conj() * scipy.fft.ifft2(detector, norm="ortho", workers=2)).ravel()
        real, imaginary = (np.bincount(flat, part, made.obj.size) for part in (values.real, values.imag))
        return (real + 1j * imaginary).reshape(shape)

    truth = made.obj.astype(np.complex128)
    wave = waves(truth)
    direction = wave / np.maximum(np.abs(wave), 1e-9)

    def information(x: Field) -> Field:
        return 4 * back(direction * np.real(direction.conj() * waves(x)))

    light = coverage_of(made.probe, corners, shape)
    illuminated = light > 0.1 * light.max()
    total = light * float(made.dose.sum() / light.sum())
    varying = np.where(illuminated, truth - truth[illuminated].mean(), 0)
    powers = [_spectrum(part, float(illuminated.mean())) for part in (varying.real, varying.imag)]
    random = np.random.default_rng(seed)
    drawn = [
        scipy.fft.ifft2(scipy.fft.fft2(random.normal(size=shape)) * np.sqrt(power)).real for power in powers
    ]
    x = drawn[0] + 1j * drawn[1]
    noise = random.normal(size=wave.shape)
    typical = 2 * float(total[illuminated].mean())

    def filtered(field: Field, factors: list[np.ndarray]) -> Field:
        real, imaginary = (
            scipy.fft.ifft2(scipy.fft.fft2(part) * factor).real
            for part, factor in zip((field.real, field.imag), factors, strict=True)
        )
        return real + 1j * imaginary

    inverse = [1 / power for power in powers]
    easier = [1 / (typical + one) for one in inverse]
    found = _conjugate_gradients(
        lambda field: information(field) + filtered(field, inverse),
        information(x) + 2 * back(direction * noise),
        lambda field: filtered(field, easier),
    )
    missed = (found - x)[illuminated]
    return float(np.sqrt(np.mean(np.abs(missed - missed.mean()) ** 2) / np.var(x[illuminated])))


def _spectrum(image: np.ndarray, share: float) -> np.ndarray:
    """Return the power of each frequency, a mean over its ring, of an image that is there in a part of the canvas."""
    height, width = image.shape
    radius = np.hypot(scipy.fft.fftfreq(height)[:, None], scipy.fft.fftfreq(width))
    ring = (radius * _RINGS).astype(int)
    power = np.abs(scipy.fft.fft2(image, norm="ortho")) ** 2 / share
    mean = np.bincount(ring.ravel(), power.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    return np.maximum(mean, 1e-6)[ring]


def _conjugate_gradients(
    matrix: Callable[[Field], Field], target: Field, easier: Callable[[Field], Field]
) -> Field:
    """Solve matrix(x) = target, preconditioned; fields are vectors of real and imaginary parts."""
    x = np.zeros_like(target)
    rest = target
    direction = easier(rest)
    size = np.real(np.vdot(rest, direction))
    for _ in range(_STEPS):
        image = matrix(direction)
        step = size / np.real(np.vdot(direction, image))
        x, rest = x + step * direction, rest - step * image
        improved = easier(rest)
        before, size = size, np.real(np.vdot(rest, improved))
        direction = improved + size / before * direction
    return x
