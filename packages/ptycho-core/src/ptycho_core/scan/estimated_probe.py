"""A start probe for scans that bring none.

Its spectrum comes from the mean pattern, its size from the speckle, and the sign of its defocus from the
shadows that the object throws on the detector.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex64, Float64
from scipy import ndimage

from ptycho_core.scan.overlap import typical_step_px
from ptycho_core.scan.scan import Scan

SAMPLED_FRAMES = 64
STRONGEST_PARTS = 1e-3  # of the fluctuation's peak: below it lie a probe's faint tails, which mislead
STANDARD_DEVIATIONS = 4
SMALLEST_RADIUS_IN_STEPS = 1.25  # neighbours that overlap by 60 % are 0.8 radii apart


def estimate_probe(scan: Scan) -> tuple[Complex64[np.ndarray, "1 n n"], str]:
    """Estimate one probe mode from the diffraction alone.

    The modulus of its spectrum is the square root of the mean pattern, in which the object averages out. The
    phase is a defocus: as strong as it takes to spread the probe to the width that the speckle of the single
    patterns shows, with the sign that their shadows tell. A mean pattern alone knows neither.

    Returns:
        The probe, scaled so that its energy is the mean counts per frame, and a sentence for the notes.

    Source:
        A defocus phase a k^2 / <k^2> adds (a N / (pi k_rms))^2 to the mean square radius of a field whose
        spectrum is real: the position operator is i d/dk.
    """
    n = scan.frame_px
    pattern = _completed(scan.mean_pattern(), scan)
    radius_px = probe_radius_px(scan)
    k = np.arange(n, dtype=np.float64) - n // 2
    k_squared = k[:, np.newaxis] ** 2 + k**2
    mean_k_squared = max(float((pattern * k_squared).sum() / pattern.sum()), 1.0)
    flat = _to_real_space(np.sqrt(pattern).astype(np.complex128))
    missing = max(radius_px**2 / 2 - _mean_square_radius(flat), 0.0)  # a disc's mean square radius is r^2 / 2
    defocus = defocus_sign(scan) * np.sqrt(missing * mean_k_squared) * np.pi / n
    probe = _to_real_space(np.sqrt(pattern) * np.exp(1j * defocus * k_squared / mean_k_squared))
    note = (
        f"No probe was given; it was estimated from the mean pattern, {2 * radius_px:.0f} px wide as the "
        f"speckle shows."
    )
    return probe.astype(np.complex64)[np.newaxis], note


def _completed(pattern: Float64[np.ndarray, "n n"], scan: Scan) -> Float64[np.ndarray, "n n"]:
    """Give the pixels that are bad in all frames the light of the nearest good ones, softened.

    A stop or a gap through the beam would otherwise be taken for a part of the probe.
    """
    bad = scan.bad_pixels
    if bad is None:
        return pattern
    bad = np.asarray(bad if bad.ndim == 2 else bad.all(axis=0))
    if not bad.any() or bad.all():
        return pattern
    nearest = ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
    filled = pattern[tuple(np.asarray(nearest))]
    return np.where(bad, ndimage.gaussian_filter(filled, 1.0), pattern)


def probe_radius_px(scan: Scan) -> float:
    """Estimate the radius of the illuminated disc from how fine the speckle of single patterns is.

    A pattern's Fourier transform is the autocorrelation of its exit wave, which ends at the probe's diameter.
    Averaged over frames it shrinks to the correlation length of the object; the variance between frames keeps
    the full width. Shot noise adds a constant, the counts per frame, which is subtracted.

    Returns:
        Between the radius at which neighbours overlap and a quarter of the window.
    """
    n = scan.frame_px
    least = max(1.0, SMALLEST_RADIUS_IN_STEPS * min(typical_step_px(scan.positions_px), n))
    sample = np.unique(np.linspace(0, scan.n_frames - 1, min(scan.n_frames, SAMPLED_FRAMES)).astype(int))
    counts = scan.counts(sample)
    variance = np.zeros((n, n))
    mean = counts.mean(axis=0, dtype=np.float64)
    for frame in counts:
        variance += np.abs(np.fft.fft2(np.fft.ifftshift(frame - mean))) ** 2 / sample.size
    profile, n_pixels = _radial_mean(np.fft.fftshift(variance))
    shot_noise = float(counts.sum(dtype=np.float64)) / sample.size
    if scan.measurement == "amplitude":  # in unknown units
        shot_noise = float(profile.min())
    excess = profile - shot_noise
    noise = shot_noise / np.sqrt(sample.size * n_pixels / 2)
    threshold = np.maximum(STANDARD_DEVIATIONS * noise, STRONGEST_PARTS * max(excess[1:].max(), 0.0))
    dark = np.flatnonzero(~(excess[2:] > threshold[2:]))
    diameter_px = float(dark[0] + 2) if dark.size else float(n // 2)
    return float(np.clip(diameter_px / 2, min(least, n / 4), n / 4))


def _radial_mean(
    image: Float64[np.ndarray, "n n"],
) -> tuple[Float64[np.ndarray, " radius"], Float64[np.ndarray, " radius"]]:
    """Average over rings of one pixel around index N/2, and count the pixels of each, up to N/2."""
    n = image.shape[0]
    axis = np.arange(n) - n // 2
    ring = np.rint(np.hypot(axis[:, np.newaxis], axis)).astype(np.int64).ravel()
    n_pixels = np.bincount(ring)[: n // 2].astype(np.float64)
    return np.bincount(ring, image.ravel())[: n // 2] / n_pixels, n_pixels


def _to_real_space(spectrum: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(spectrum), norm="ortho"))


def _mean_square_radius(field: np.ndarray) -> float:
    intensity = np.abs(field) ** 2
    axis = np.arange(field.shape[0], dtype=np.float64) - field.shape[0] // 2
    return float((intensity * (axis[:, np.newaxis] ** 2 + axis**2)).sum() / intensity.sum())


SAMPLED_PAIRS = 64
STEEPEST_SLOPE = 4.0  # detector pixels that a shadow moves per pixel of the scan
SLOPES = np.linspace(STEEPEST_SLOPE / 80, STEEPEST_SLOPE, 80)


def defocus_sign(scan: Scan) -> int:
    """Tell the sign of the quadratic phase of the probe's spectrum, +1 or -1.

    A defocused probe throws a magnified shadow of the object. When the scan moves by d, the shadow moves
    against it or with it, depending on which side of the focus the object is. So patterns of neighbours are
    correlated along the line between them, and the side with the higher peak decides. In focus both are
    alike; then the answer means nothing, and does not matter.

    Source:
        The ray at detector pixel k comes from x(k) = -(N / 2 pi) d(phase)/dk; a feature of the object seen at
        k moves by -d / (dx/dk).
    """
    first, second = _neighbours(scan.positions_px)
    steps_px = scan.positions_px[second] - scan.positions_px[first]
    mean = scan.mean_pattern()
    noise = np.sqrt(mean + 0.01 * mean.mean())
    score = np.zeros((2, SLOPES.size))
    for start, end, step in zip(first, second, steps_px, strict=True):
        pair = (scan.counts([int(start), int(end)]) - mean) / noise
        strength = float(np.sqrt((pair[0] ** 2).sum() * (pair[1] ** 2).sum()))
        if strength == 0:
            continue
        spectra = np.fft.rfft2(pair)
        correlation = np.fft.irfft2(np.conj(spectra[0]) * spectra[1], s=mean.shape) / strength
        for side, sign in enumerate((1, -1)):
            score[side] += _sample(correlation, sign * SLOPES[:, np.newaxis] * step)
    return 1 if score[0].max() >= score[1].max() else -1


def _neighbours(positions_px: Float64[np.ndarray, "frame 2"]) -> tuple[np.ndarray, np.ndarray]:
    """Pick frames evenly, and the nearest other frame of each that is not at the same place."""
    n_frames = positions_px.shape[0]
    first = np.unique(np.linspace(0, n_frames - 1, min(n_frames, SAMPLED_PAIRS)).astype(int))
    second = np.empty_like(first)
    for rank, frame in enumerate(first):
        squared = ((positions_px - positions_px[frame]) ** 2).sum(axis=1)
        squared[squared < 1e-6] = np.inf
        second[rank] = int(np.argmin(squared))
    moved = np.abs(positions_px[second] - positions_px[first]).max(axis=1) > 0
    return first[moved], second[moved]


def _sample(image: Float64[np.ndarray, "n n"], shifts_px: Float64[np.ndarray, "slope 2"]) -> np.ndarray:
    """Interpolate a periodic image bilinearly; shifts beyond a third of its side count as 0."""
    n = image.shape[0]
    whole = np.floor(shifts_px).astype(np.int64)
    rest = shifts_px - whole
    value = np.zeros(shifts_px.shape[0])
    for row in (0, 1):
        for column in (0, 1):
            weight = np.abs(1 - row - rest[:, 0]) * np.abs(1 - column - rest[:, 1])
            value += weight * image[(whole[:, 0] + row) % n, (whole[:, 1] + column) % n]
    return np.where((np.abs(shifts_px) < n / 3).all(axis=1), value, 0.0)
