"""Scales, gauges, masks and the made-up probe: the numbers agreed on, and that the scales fit together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.errors import ConfigError, DataError
from ptycho_core.physics import normalisation as scales

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)


def counts(seed, frames=5, n=16):
    return np.random.default_rng(seed).poisson(7.0, (frames, n, n))


def test_nine_counts_in_each_of_sixteen_pixels_give_alpha_one_sixth():
    amplitude = scales.amplitude_from_counts(np.full((1, 4, 4), 9))
    alpha = scales.unit_factor(amplitude)
    assert alpha == pytest.approx(1 / 6)
    np.testing.assert_allclose(alpha * amplitude, 0.5)


@few
@given(seed=seeds)
def test_unit_frames_have_the_energy_of_a_quarter_of_their_pixels(seed):
    amplitude = scales.amplitude_from_counts(counts(seed))
    unit = scales.unit_factor(amplitude) * amplitude
    assert np.mean(np.sum(unit**2, axis=(1, 2))) == pytest.approx(8**2)


@few
@given(seed=seeds, nphotons=st.floats(1, 1e9))
def test_scaled_unit_frames_hold_the_photons_asked_for(seed, nphotons):
    amplitude = scales.amplitude_from_counts(counts(seed))
    unit = scales.unit_factor(amplitude) * amplitude
    s = scales.intensity_scale(nphotons, 16)
    assert np.mean(np.sum((s * unit) ** 2, axis=(1, 2))) == pytest.approx(nphotons)


@pytest.mark.finding("NORMALIZATION-001")
@few
@given(seed=seeds)
def test_for_counts_of_measured_mean_the_two_factors_cancel(seed):
    frames = counts(seed)
    mean = frames.sum(axis=(1, 2)).mean()
    s_alpha = scales.intensity_scale(mean, 16) * scales.unit_factor(scales.amplitude_from_counts(frames))
    assert s_alpha == pytest.approx(1)


def test_a_million_photons_at_64_px_give_31_25():
    assert scales.intensity_scale(1e6, 64) == 31.25


def test_sixteen_bit_counts_of_300_do_not_wrap():
    small = np.full((2, 4, 4), 300, np.uint16)
    assert scales.unit_factor(small) == scales.unit_factor(small.astype(np.float64))
    assert scales.counts_from_amplitude(small).max() == 90000
    np.testing.assert_array_equal(
        scales.amplitude_from_counts(small), scales.amplitude_from_counts(small.astype(np.float64))
    )


@pytest.mark.finding("NORMALIZATION-001")
def test_frames_without_counts_cannot_be_scaled():
    with pytest.raises(DataError, match="NORMALIZATION-001") as caught:
        scales.unit_factor(np.zeros((2, 4, 4)))
    assert caught.value.finding == "NORMALIZATION-001"
    with pytest.raises(ConfigError, match="`nphotons` is 0"):
        scales.intensity_scale(0, 64)


# Gauges


@few
@given(seed=seeds, modes=st.integers(1, 4), size=st.floats(1e-6, 1e6))
def test_the_power_gauge_gives_all_modes_together_a_quarter_of_the_pixels(seed, modes, size):
    rng = np.random.default_rng(seed)
    probe = size * (rng.normal(size=(modes, 16, 16)) + 1j * rng.normal(size=(modes, 16, 16)))
    mask = scales.soft_mask(16)
    scaled = scales.scale_probe(probe, "power", mask=mask)
    assert np.sum(np.abs(scaled) ** 2) == pytest.approx(8**2)
    ratio = scaled[0, 8, 8] / (probe[0, 8, 8] * mask[8, 8])
    np.testing.assert_allclose(scaled, ratio * probe * mask)


def vacuum_amplitude(probe):
    """Amplitude that a transparent object takes on: unit frames against the energy of the gauge probe."""
    n = probe.shape[-1]
    return (n / 2) / np.sqrt(np.sum(np.abs(scales.scale_probe(probe, "legacy")) ** 2))


@pytest.mark.parametrize(("n", "expected"), [(64, 0.890), (128, 0.888)])
def test_a_top_hat_that_fills_the_disc_gives_the_known_vacuum_amplitude(n, expected):
    assert vacuum_amplitude(scales.hard_disc(n) + 0j) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(("n", "expected"), [(64, 0.637), (128, 0.617)])
def test_the_default_probe_gives_the_known_vacuum_amplitude(n, expected):
    assert vacuum_amplitude(scales.default_probe(n) + 0j) == pytest.approx(expected, abs=6e-4)


def test_empty_modes_do_not_move_the_legacy_gauge():
    probe = scales.default_probe(32)[None] + 0j
    more = np.concatenate([probe, np.zeros((2, 32, 32))])
    np.testing.assert_allclose(scales.scale_probe(more, "legacy")[0], scales.scale_probe(probe, "legacy")[0])


@pytest.mark.parametrize("gauge", ["power", "legacy"])
def test_an_empty_probe_is_refused(gauge):
    with pytest.raises(DataError, match="another start probe"):
        scales.scale_probe(np.zeros((8, 8), complex), gauge)


@few
@given(seed=seeds, mean=st.floats(1, 1e8))
def test_a_probe_in_counts_has_the_mean_count_of_a_frame(seed, mean):
    rng = np.random.default_rng(seed)
    probe = rng.normal(size=(2, 8, 8)) + 1j * rng.normal(size=(2, 8, 8))
    assert np.sum(np.abs(scales.scale_probe_to_counts(probe, mean)) ** 2) == pytest.approx(mean)


def test_the_physical_probe_undoes_what_the_scales_did():
    probe = scales.default_probe(16) + 0j
    np.testing.assert_allclose(scales.physical_probe(probe, output_scale=6.0, s=4.0, alpha=0.5), 3 * probe)


# Masks and the made-up probe


@pytest.mark.parametrize(("n", "pixels"), [(64, 812), (128, 3228), (256, 12892)])
def test_the_hard_disc_has_the_known_number_of_pixels(n, pixels):
    assert scales.hard_disc(n).sum() == pixels


def test_the_soft_mask_has_the_known_row_and_sum():
    mask = scales.soft_mask(64)
    assert mask[32, 14:20] == pytest.approx([0.058, 0.300, 0.700, 0.942, 0.996, 1.000], abs=6e-4)
    assert mask.sum() == pytest.approx(812, abs=0.5)
    assert mask.min() >= 0
    assert mask.max() == 1


def test_a_soft_mask_without_blur_is_the_hard_disc():
    np.testing.assert_array_equal(scales.soft_mask(64, sigma_px=0), scales.hard_disc(64))
    assert scales.soft_mask(64, diameter_px=20).sum() < scales.soft_mask(64).sum()


@pytest.mark.parametrize(("n", "radius"), [(64, 10.9), (128, 21.8)])
def test_the_default_probe_is_a_disc_about_index_half(n, radius):
    probe = scales.default_probe(n)
    disc = probe > 0.5
    rows, columns = np.nonzero(disc)
    assert (rows.mean(), columns.mean()) == (n / 2, n / 2)
    assert np.sqrt(disc.sum() / np.pi) == pytest.approx(radius, abs=0.15)
    assert probe.min() > 0


def test_the_default_probe_at_64_px_comes_from_373_pixels():
    assert scales.default_probe(64).sum() == pytest.approx(373, abs=0.01)
