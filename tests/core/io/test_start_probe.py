"""The probe that a scan without one is given: its width, and the side of the focus."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho_core import Scan, scan_from_arrays
from ptycho_core.scan.estimated_probe import defocus_sign, estimate_probe, probe_radius_px
from ptycho_core.scan.overlap import overlap_fraction, probe_diameter_px, typical_step_px

N = 64


def defocused_scan(
    defocus: float, *, dose: float, seed: int, as_amplitude: bool = False
) -> tuple[Scan, np.ndarray]:
    """A scan of random discs with the spot of a round lens, defocused by so much phase at the lens's rim."""
    rng = np.random.default_rng(seed)
    axis = np.arange(N) - N / 2
    k = np.hypot(axis[:, np.newaxis], axis)
    pupil = (k < 12) * np.exp(1j * defocus * (k / 12) ** 2)
    probe = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil)))
    side = N + 40
    obj = np.ones((side, side), np.complex128)
    rows, columns = np.mgrid[:side, :side]
    for y, x, radius in rng.uniform([0, 0, 2], [side, side, 7], size=(120, 3)):
        obj[np.hypot(rows - y, columns - x) < radius] *= 0.9 * np.exp(0.5j)
    corners = rng.integers(0, 40, size=(120, 2))
    windows = np.stack([obj[y : y + N, x : x + N] for y, x in corners])
    intensity = np.abs(np.fft.fftshift(np.fft.fft2(probe * windows), axes=(1, 2))) ** 2
    counts = rng.poisson(intensity * (dose / intensity.sum(axis=(1, 2)).mean()))
    frames = np.sqrt(counts) * 0.37 if as_amplitude else counts.astype(np.uint32)
    return scan_from_arrays(frames, corners + N / 2.0), probe


@pytest.mark.parametrize("as_amplitude", [False, True])
@pytest.mark.parametrize("dose", [1e4, 1e6])
@pytest.mark.parametrize("defocus", [-14.0, -8.0, 8.0, 14.0])
def test_shadows_tell_the_side_of_the_focus(defocus: float, dose: float, as_amplitude: bool) -> None:
    scan, _ = defocused_scan(defocus, dose=dose, seed=1, as_amplitude=as_amplitude)
    assert defocus_sign(scan) == np.sign(defocus)


@pytest.mark.parametrize("dose", [1e4, 1e6])
@pytest.mark.parametrize("defocus", [8.0, 14.0])
def test_speckle_tells_the_width_of_the_probe(defocus: float, dose: float) -> None:
    scan, probe = defocused_scan(defocus, dose=dose, seed=2)
    true_radius_px = probe_diameter_px(probe[np.newaxis]) / 2
    assert 0.6 * true_radius_px < probe_radius_px(scan) < 1.6 * true_radius_px


def test_the_estimate_resembles_the_probe() -> None:
    scan, probe = defocused_scan(-12.0, dose=1e6, seed=3)
    estimate = estimate_probe(scan)[0][0]
    likeness = np.abs(np.vdot(estimate, probe)) / (np.linalg.norm(estimate) * np.linalg.norm(probe))
    mirrored = np.abs(np.vdot(estimate, np.conj(probe))) / (np.linalg.norm(estimate) * np.linalg.norm(probe))
    assert likeness > 0.45
    assert likeness > 1.5 * mirrored  # the probe of the other side of the focus


def test_the_real_scan_shows_its_width_and_its_side(siemens_star: Scan) -> None:
    # The reference reconstruction holds 90 % of its probe's energy within 37 px of the centroid.
    assert 20 <= probe_radius_px(siemens_star) <= 37
    assert defocus_sign(siemens_star) == -1


def test_width_of_known_probes() -> None:
    axis = np.arange(N) - N / 2
    radius = np.hypot(axis[:, np.newaxis], axis)
    top_hat = (radius < 15).astype(np.complex64)[np.newaxis]
    gaussian = np.exp(-(radius**2) / (4 * 5**2)).astype(np.complex64)[np.newaxis]
    assert probe_diameter_px(top_hat) == pytest.approx(0.95 * 30, rel=0.03)
    assert probe_diameter_px(gaussian) == pytest.approx(4.3 * 5, rel=0.03)
    positions_px = np.stack(np.divmod(np.arange(100.0), 10), axis=1) * 6
    assert typical_step_px(positions_px) == pytest.approx(6)
    assert overlap_fraction(positions_px, top_hat) == pytest.approx(1 - 6 / 28.5, abs=0.03)
    assert overlap_fraction(positions_px[:1], top_hat) == 0
