"""Whether the whole scan is stretched, turned or sheared, told apart from a defocus of the probe.

If positions and object are stretched together, a frame notices only that the object is stretched under the
probe: -P (M r) . grad O. A curved probe P = |P| exp(i b r^2) makes the same change, nearly, when it is
defocused. So the two are fitted together: four numbers of a strain, three of a quadratic phase of the
probe's spectrum, by one Gauss-Newton step with the true curvature of the amplitudes on the detector.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.ndimage
from jaxtyping import Complex64

from ptycho_core.solver._shifts import frequencies

__all__ = ["strain_step", "stretched"]

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
