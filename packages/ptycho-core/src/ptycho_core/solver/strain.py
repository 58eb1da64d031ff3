"""A strain of the whole scan, told apart from a defocus of the probe.

If positions and object are stretched, turned or sheared together, a frame notices only that the object is
stretched under the probe, -P (M r) . grad O. A curved probe P = |P| exp(i b r^2) makes the same change,
nearly, when it is defocused. So the two are fitted together: four numbers of a strain, three of a quadratic
phase of the probe's spectrum, by one Gauss-Newton step with the true curvature of the amplitudes on the
detector.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft
import scipy.ndimage
from jaxtyping import Complex64, Float32, Float64

from ptycho_core.physics.canvas import frequencies

__all__ = ["STRAIN_COUNT", "quadratic_phases", "strain_products", "strain_step", "stretched"]

_CHUNK_PIXELS = 1 << 17
_DAMPING = 1e-4
#: Added to the expected counts, whose deviation divides what they are off by.
STRAIN_COUNT = 0.6


def quadratic_phases(size_px: int) -> Float32[np.ndarray, "3 n n"]:
    """Return the phases k_y^2, k_x^2 and k_y k_x of a centred spectrum, in units that are of order one."""
    k = frequencies(size_px) * np.sqrt(size_px)
    y, x = np.broadcast_arrays(k[:, None], k[None])
    return np.stack([y * y, x * x, y * x]).astype(np.float32)


def strain_products(
    obj: Complex64[np.ndarray, "height width"],
    spectra: Complex64[np.ndarray, "mode part n n"],
    filters: Complex64[np.ndarray, "basis n n"],
    phases: Float32[np.ndarray, "3 n n"],
    *,
    corners: np.ndarray,
    weights: np.ndarray,
    amplitude: np.ndarray,
    good: np.ndarray | None,
    offset: float,
) -> Float64[np.ndarray, "8 8"]:
    """Return the inner products of the derivatives of some frames' counts, as `FusedStep.strain` does.

    The misfit is that of the counts, which is unbiased, over about their deviation.

    Args:
        spectra: of the probe's modes, and behind each those of its variations.
        corners: (f, 2) of the frames' windows. weights: (f, K) of the basis functions, variations included.
        amplitude: (f, n, n). good: (n, n) or (f, n, n) weights of the pixels.
        offset: counts per pixel that are added to every prediction.
    """
    n, n_modes = spectra.shape[-1], len(spectra)
    factors = np.concatenate([np.ones((1, n, n), np.complex64), 1j * phases])
    turned = spectra[:, None] * factors[:, None]  # (P, 4, 1 + L, n, n)
    basis = scipy.fft.ifft2(turned[:, :, :, None] * filters, norm="ortho").astype(np.complex64)
    basis = basis.reshape(n_modes, 4, -1, n, n)
    slopes = [_slope(obj, axis) for axis in (0, 1)]
    along = np.arange(n) - n // 2
    products = np.zeros((8, 8))
    step = max(1, _CHUNK_PIXELS // n**2)
    pixel = np.arange(n)
    for first in range(0, len(corners), step):
        part = slice(first, first + step)
        rows, columns = corners[part, 0, None, None] + pixel[:, None], corners[part, 1, None, None] + pixel
        patch, *gradients = (image[rows, columns] for image in (obj, *slopes))
        probes = np.einsum("fk,pqkyx->pqfyx", weights[part], basis)
        expected = np.full(patch.shape, offset, np.float32)
        derivatives = np.zeros((8, *patch.shape), np.float32)
        for probe, *changed in probes:
            wave = scipy.fft.fft2(probe * patch, norm="ortho")
            expected += np.square(np.abs(wave))
            changes = [-probe * g * r for g in gradients for r in (along[:, None], along[None])]
            changes += [change * patch for change in changed]
            for row, change in zip(derivatives, changes, strict=False):
                row += (wave.conj() * scipy.fft.fft2(change.astype(np.complex64), norm="ortho")).real
        derivatives[7] = (np.square(amplitude[part]) - expected) / 2
        derivatives /= np.sqrt(expected + STRAIN_COUNT)
        if good is not None:
            derivatives *= good if good.ndim == 2 else good[part]
        flat = derivatives.reshape(8, -1).astype(np.float64)
        products += flat @ flat.T
    return products


def strain_step(
    products: Float64[np.ndarray, "8 8"], phases: Float32[np.ndarray, "3 n n"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the strain (2, 2) of positions and object and the phase (n, n) of the probe's spectrum to apply.

    Args:
        products: of seven derivatives and the misfit.
    """
    normal, right = products[:7, :7], products[:7, 7]
    size = np.sqrt(np.maximum(np.diag(normal), 1e-30))
    scaled = normal / size[:, None] / size
    change = np.linalg.solve(scaled + _DAMPING * np.eye(7), right / size) / size
    return change[:4].reshape(2, 2), np.tensordot(change[4:], phases, axes=1)


def stretched(
    obj: Complex64[np.ndarray, "height width"],
    strain: np.ndarray,
    middle_px: np.ndarray,
    *,
    threads: int = 1,
) -> Complex64[np.ndarray, "height width"]:
    """Let an object go along with a strain (2, 2) of the positions about their middle (y, x)."""
    back = np.linalg.inv(np.eye(2) + strain)
    offset = middle_px - back @ middle_px
    moved = np.empty_like(obj)

    def move(part: str) -> None:
        values = np.ascontiguousarray(getattr(obj, part))
        setattr(moved, part, scipy.ndimage.affine_transform(values, back, offset, order=3, mode="nearest"))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(move, ("real", "imag")))
    return moved


def _slope(obj: np.ndarray, axis: int) -> np.ndarray:
    """Derivative per pixel, to the fourth order; the rim of the canvas is empty."""
    near = np.roll(obj, -1, axis) - np.roll(obj, 1, axis)
    far = np.roll(obj, -2, axis) - np.roll(obj, 2, axis)
    return (8 * near - far) / 12
