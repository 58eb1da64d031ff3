"""What a reconstruction leaves unexplained of its frames, beyond the noise of the photons."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32
from scipy.ndimage import gaussian_filter

from ptycho_core.physics.residual import PredictedAmplitude
from ptycho_core.result.measures import noise_of_amplitude
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import scan_statistics, whole_counts

__all__ = ["blurred", "left_beyond_noise", "of_the_mean_pattern", "predicted_counts", "unexplained_by"]

#: A flat background of more than this part of the counts has to be in what is predicted.
_MUCH_BACKGROUND = 0.02


def unexplained_by(result: Reconstruction, scan: Scan) -> float:
    """Return the residual over that of the mean pattern: 0 for a perfect fit, 1 as much as with no object.

    The residual of a result leaves a flat background out; where there is much, it is added to the prediction.

    Args:
        scan: the frames that were reconstructed, all of them.
    """
    background = scan_statistics(scan, estimate_background=True).background
    much = background * scan.frame_px**2 > _MUCH_BACKGROUND * scan.mean_counts_per_frame()
    residual = result.data_residual
    if much:
        residual = _residual(scan.amplitude(), predicted_counts(scan, result), scan.good_pixels())
    return residual / of_the_mean_pattern(scan)


def of_the_mean_pattern(scan: Scan) -> float:
    """Return the data residual of the mean pattern in the place of every frame."""
    mean = np.sqrt(np.maximum(scan.mean_pattern(), 0)).astype(np.float32)
    amplitude = scan.amplitude()
    cross, power = float((mean * amplitude).sum(dtype=np.float64)), float(np.square(mean).sum())
    scale = cross / (power * len(amplitude)) if power > 0 else 0.0
    distance = np.abs(amplitude - np.float32(scale) * mean).sum(dtype=np.float64)
    return max(float(distance / max(amplitude.sum(dtype=np.float64), 1e-30)), 1e-9)


def predicted_counts(
    scan: Scan, result: Reconstruction, *, blur_px: float = 0.0
) -> Float32[np.ndarray, "m n n"]:
    """Counts that object and probe predict for every frame, in the scale that fits the scan best.

    The flat background that the corners show is added, as the solver does.

    Args:
        blur_px: standard deviation of the Gaussian by which they are blurred then.
    """
    model = PredictedAmplitude(result.object, result.probe, result.positions_on_canvas_px())
    counts = np.square(model(slice(0, scan.n_frames)))
    if blur_px:
        counts = blurred(counts, blur_px)
    background = np.float32(scan_statistics(scan, estimate_background=True).background)
    net = np.sqrt(np.maximum(scan.counts() - background, 0))
    predicted = np.sqrt(counts) * scan.good_pixels()
    power = float(np.square(predicted).sum(dtype=np.float64))
    scale = float((net * predicted).sum(dtype=np.float64)) / max(power, 1e-30)
    return counts * np.float32(scale**2) + background


def left_beyond_noise(scan: Scan, predicted: Float32[np.ndarray, "m n n"]) -> float:
    """What a prediction leaves: 0 nothing but photon noise, 1 as much as the mean pattern.

    Where the values are no photon counts, their noise is not known and counts as unexplained.
    """
    amplitude, good = scan.amplitude(), scan.good_pixels()
    residual, noise = _residual(amplitude, predicted, good), 0.0
    if scan.counts_per_photon is not None or whole_counts(amplitude):
        total = max(float(amplitude.sum(dtype=np.float64)), 1e-30)
        noise = float((noise_of_amplitude(predicted, scan.read_noise) * good).sum(dtype=np.float64)) / total
    return (residual - noise) / max(of_the_mean_pattern(scan) - noise, 1e-6)


def _residual(
    amplitude: Float32[np.ndarray, "m n n"],
    predicted: Float32[np.ndarray, "m n n"],
    good: Bool[np.ndarray, "..."],
) -> float:
    away = float((np.abs(amplitude - np.sqrt(predicted)) * good).sum(dtype=np.float64))
    return away / max(float(amplitude.sum(dtype=np.float64)), 1e-30)


def blurred(frames: Float32[np.ndarray, "m n n"], blur_px: float) -> Float32[np.ndarray, "m n n"]:
    """Blur every frame by a Gaussian of this standard deviation; light that leaves the frame is lost."""
    return gaussian_filter(frames, (0.0, blur_px, blur_px), mode="constant")
