"""How counts change when positions and object are strained together, and with phases of the probe's spectrum.

If positions and object are stretched, turned or sheared together, a frame notices only that the object is
stretched under the probe, -P (M r) . grad O. This is for arrays alone; the compiled products (strain.h) are
held against it.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float32, Float64

__all__ = ["strain_products"]

_CHUNK_PIXELS = 1 << 17


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
    count: float,
) -> Float64[np.ndarray, "8 8"]:
    """Return the inner products of the derivatives of some frames' counts by a strain and by phases.

    The strain comes first (yy, yx, xy, xx), then the phases, and at the end half what the counts are off by;
    each over about their deviation.

    The misfit is that of the counts, which is unbiased, over about their deviation.

    Args:
        spectra: of the probe's modes, and behind each those of its variations.
        corners: (f, 2) of the frames' windows. weights: (f, K) of the basis functions, variations included.
        amplitude: (f, n, n). good: (n, n) or (f, n, n) weights of the pixels.
        offset: counts per pixel that are added to every prediction.
        count: added to the expected counts, whose deviation divides what they are off by.
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
        derivatives /= np.sqrt(expected + count)
        if good is not None:
            derivatives *= good if good.ndim == 2 else good[part]
        flat = derivatives.reshape(8, -1).astype(np.float64)
        products += flat @ flat.T
    return products


def _slope(obj: np.ndarray, axis: int) -> np.ndarray:
    """Derivative per pixel, to the fourth order; the rim of the canvas is empty."""
    near = np.roll(obj, -1, axis) - np.roll(obj, 1, axis)
    far = np.roll(obj, -2, axis) - np.roll(obj, 2, axis)
    return (8 * near - far) / 12
