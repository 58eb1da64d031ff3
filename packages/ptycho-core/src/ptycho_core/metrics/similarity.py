"""Pixel by pixel scores of two real images: MAE, MSE, PSNR, SSIM, MS-SSIM."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy.ndimage import gaussian_filter, uniform_filter

from ptycho_config.errors import DataError

SSIM_WINDOW_PX = 7
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
LEGACY_PEAK = 255.0
"""The peak that PSNR assumes whatever the data's range: 48.13 dB above the value for range 1."""


def mean_absolute_error(image: Float[np.ndarray, "..."], truth: Float[np.ndarray, "..."]) -> float:
    """Return the mean of |image - truth|."""
    return float(np.mean(np.abs(image.astype(np.float64) - truth)))


def mean_squared_error(image: Float[np.ndarray, "..."], truth: Float[np.ndarray, "..."]) -> float:
    """Return the mean of (image - truth)^2."""
    return float(np.mean((image.astype(np.float64) - truth) ** 2))


def psnr(mse: float, peak: float = LEGACY_PEAK) -> float:
    """Return the peak signal-to-noise ratio in dB, 10 log10(peak^2 / mse); infinite without error.

    >>> round(psnr(1e-3), 2), round(psnr(1e-3, peak=1.0), 2)
    (78.13, 30.0)
    """
    if mse == 0:
        return float("inf")
    return float(10 * np.log10(peak**2 / mse)) if peak > 0 else float("-inf")


def ssim(
    image: Float[np.ndarray, "h w"],
    truth: Float[np.ndarray, "h w"],
    data_range: float,
    region: Bool[np.ndarray, "h w"] | None = None,
) -> float:
    """Return the mean structural similarity, 7x7 uniform windows.

    The mean runs over the pixels of the region whose window lies inside the image.

    Source: Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, IEEE Trans. Image Process. 13 (2004) 600,
    10.1109/TIP.2003.819861, as in scikit-image with its defaults.
    """
    # Imported here: few programs that measure an image need this score, and the import takes a while.
    from skimage.metrics import structural_similarity

    _require_windows(image)
    # Where both images are constant and the range is 0 the two agree: a range above 0 keeps that from 0/0.
    data_range = max(data_range, 1e-6)
    scores: Any = structural_similarity(  # Any: how many they are depends on `full`
        truth.astype(np.float64),
        image.astype(np.float64),
        win_size=SSIM_WINDOW_PX,
        data_range=data_range,
        full=True,
    )
    mean, local = scores
    if region is None:
        return float(mean)
    border = SSIM_WINDOW_PX // 2
    inside = np.zeros(region.shape, bool)
    inside[border:-border, border:-border] = region[border:-border, border:-border]
    return float(local[inside].mean()) if inside.any() else float(mean)


def ms_ssim(
    image: Float[np.ndarray, "h w"],
    truth: Float[np.ndarray, "h w"],
    data_range: float,
    *,
    blur_px: float = 0.0,
    region: Bool[np.ndarray, "h w"] | None = None,
) -> float:
    """Return the multi-scale structural similarity over up to five octaves.

    Octaves are averages of 2x2 pixels, so that halving does not alias. Images too small for five octaves
    use those there are, with the weights scaled to the same sum.

    Args:
        blur_px: Gaussian blur of both images before all else; 1 for amplitudes.

    Source: Z. Wang, E. P. Simoncelli and A. C. Bovik, Asilomar Conf. (2003) 1398,
    10.1109/ACSSC.2003.1292216; docs/reference/physics.md, "Structural similarity".
    """
    if blur_px > 0:
        image, truth = (gaussian_filter(a.astype(np.float64), blur_px) for a in (image, truth))
    scores = []
    for octave in range(len(MS_SSIM_WEIGHTS)):
        scores.append(_ssim(image, truth, data_range, region))
        too_small = min(image.shape) // 2 < SSIM_WINDOW_PX
        if too_small or octave == len(MS_SSIM_WEIGHTS) - 1:
            break
        image, truth = _halved(image), _halved(truth)
        region = None if region is None else _halved(region.astype(np.float64)) > 0.5
    weights = np.array(MS_SSIM_WEIGHTS[: len(scores)])
    weights *= sum(MS_SSIM_WEIGHTS) / weights.sum()
    # Contrast and structure at every octave, the mean brightness only at the coarsest.
    parts = [contrast for _, contrast in scores[:-1]] + [scores[-1][0]]
    return float(np.prod(np.maximum(parts, 0.0) ** weights))


def _ssim(
    image: np.ndarray, truth: np.ndarray, data_range: float, region: np.ndarray | None
) -> tuple[float, float]:
    """SSIM and its factor for contrast and structure, averaged."""
    _require_windows(image)
    x, y = image.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = _windows_mean(x), _windows_mean(y)
    unbiased = SSIM_WINDOW_PX**2 / (SSIM_WINDOW_PX**2 - 1)
    variance_x = unbiased * (_windows_mean(x * x) - mean_x**2)
    variance_y = unbiased * (_windows_mean(y * y) - mean_y**2)
    covariance = unbiased * (_windows_mean(x * y) - mean_x * mean_y)
    _require_windows(image)
    # Where both images are constant and the range is 0 the two agree: 0/0 counts as 1.
    tiny = np.finfo(float).tiny
    c1, c2 = (0.01 * data_range) ** 2 + tiny, (0.03 * data_range) ** 2 + tiny
    brightness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * covariance + c2) / (variance_x + variance_y + c2)
    edge = SSIM_WINDOW_PX // 2
    inner = np.s_[edge : image.shape[0] - edge, edge : image.shape[1] - edge]
    counted = np.ones(contrast[inner].shape, bool) if region is None else region[inner]
    if not counted.any():
        return float("nan"), float("nan")
    return float(np.mean((brightness * contrast)[inner][counted])), float(np.mean(contrast[inner][counted]))


def _require_windows(image: np.ndarray) -> None:
    if min(image.shape) < SSIM_WINDOW_PX:
        raise DataError(
            f"images of {image.shape} pixels are too small for SSIM's windows of {SSIM_WINDOW_PX}"
        )


def _windows_mean(image: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, "h w"]:
    return uniform_filter(image, SSIM_WINDOW_PX)


def _halved(image: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in image.shape)
    even = image[:height, :width]
    return 0.25 * (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2])
