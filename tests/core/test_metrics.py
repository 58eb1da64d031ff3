"""Metrics: what they must not see (phase, ramp, shift, scale), what they must, and the numbers agreed on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from ptycho_config.errors import DataError
from ptycho_core import metrics
from ptycho_core.metrics import align, compare, object_error, ring_correlation

N = 96


def smooth_object(seed, side=N, detail_px=1.5):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(2, side, side))
    phase, absorption = (gaussian_filter(a, detail_px, mode="wrap") * 3 * detail_px for a in noise)
    return np.exp(1j * phase - 0.2 * np.abs(absorption))


def central_coverage(side=N, border=18):
    coverage = np.zeros((side, side))
    coverage[border:-border, border:-border] = 1
    return coverage


def moved(obj, shift):
    """Fourier shift of a periodic object: content goes by +shift."""
    ky, kx = (np.fft.fftfreq(n) for n in obj.shape)
    return np.fft.ifft2(np.fft.fft2(obj) * np.exp(-2j * np.pi * (ky[:, None] * shift[0] + kx * shift[1])))


def ramped(obj, slope):
    y, x = np.indices(obj.shape) - np.array(obj.shape)[:, None, None] // 2
    return obj * np.exp(1j * (slope[0] * y + slope[1] * x))


def noisy(obj, level, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(2, *obj.shape))
    return obj + level * np.std(obj) * (noise[0] + 1j * noise[1]) / np.sqrt(2)


shifts = st.tuples(st.floats(-6, 6), st.floats(-6, 6))
slopes = st.tuples(st.floats(-2.5, 2.5), st.floats(-2.5, 2.5))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shift=shifts,
    slope=slopes,
    factor=st.floats(0.05, 20),
    phase=st.floats(-3, 3),
    level=st.sampled_from([0.1, 0.5]),
)
def test_object_error_does_not_see_phase_ramp_shift_and_scale(seed, shift, slope, factor, phase, level):
    truth = smooth_object(seed)
    estimate = noisy(truth, level)
    before = object_error(estimate, truth, central_coverage()).value
    freed = ramped(moved(estimate, shift), slope) * factor * np.exp(1j * phase)
    # Noise at Nyquist fades differently at the edge of the region; the object itself is far below.
    assert object_error(freed, truth, central_coverage()).value == pytest.approx(before, rel=0.03)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=shifts, slope=slopes)
def test_a_known_shift_and_ramp_are_recovered_with_the_right_sign(seed, shift, slope):
    truth = smooth_object(seed)
    found = object_error(ramped(moved(truth, shift), slope), truth, central_coverage())
    assert found.shift_px == pytest.approx(-np.array(shift), abs=0.02)
    assert found.ramp == pytest.approx(-np.array(slope), abs=1e-3)
    assert found.value < 0.02


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=shifts, slope=slopes, factor=st.floats(0.1, 10))
def test_the_reported_alignment_rebuilds_the_aligned_object(seed, shift, slope, factor):
    truth, region = smooth_object(seed), central_coverage() > 0
    estimate = factor * ramped(moved(truth, shift), slope)
    found = align(estimate, truth, region)
    # The estimate is periodic but for its ramp, which is taken off and put back around the shift.
    flat = ramped(estimate, -np.array(slope))
    phase = np.exp(-1j * np.dot(slope, found.shift_px))
    rebuilt = found.factor * ramped(phase * ramped(moved(flat, found.shift_px), slope), found.ramp_rad_per_px)
    assert np.abs(rebuilt - found.aligned)[region].max() < 0.1
    assert np.sqrt(np.mean(np.abs(rebuilt - found.aligned)[region] ** 2)) < 0.02


@given(seed=st.integers(0, 2**32 - 1), level=st.floats(0, 6.28), size=st.floats(0.01, 100))
@settings(max_examples=10, deadline=None)
def test_a_transparent_object_scores_one(seed, level, size):
    truth = smooth_object(seed)
    flat = np.full(truth.shape, size * np.exp(1j * level))
    assert object_error(flat, truth, central_coverage()).value == pytest.approx(1, abs=1e-9)
    assert object_error(0 * flat, truth, central_coverage()).value >= 1


def test_the_truth_scores_zero_with_and_without_coverage():
    truth = smooth_object(1).astype(np.complex64)
    assert object_error(truth, truth).value < 1e-6
    assert object_error(truth, truth, central_coverage()).value < 1e-6


@pytest.mark.parametrize("level", [0.3, 1.0])
def test_noise_of_known_size_gives_the_error_that_least_squares_leaves(level):
    truth = smooth_object(2)
    inside = central_coverage() > 0
    found = object_error(noisy(truth, level), truth, central_coverage())
    variation = np.std(truth[inside])
    power = np.mean(np.abs(truth[inside]) ** 2)
    noise = (level * np.std(truth)) ** 2
    # Wiener: the best factor shrinks signal and noise together.
    expected = np.sqrt(power * noise / (power + noise)) / variation
    assert found.value == pytest.approx(expected, rel=0.05)


def test_object_error_is_deterministic():
    truth = smooth_object(3)
    estimate = noisy(moved(truth, (2.4, -1.3)), 1.0)
    first, second = (object_error(estimate, truth, central_coverage()) for _ in range(2))
    assert first.value == second.value
    np.testing.assert_array_equal(first.aligned, second.aligned)


def test_values_that_are_not_finite_count_as_missing():
    truth = smooth_object(4)
    estimate = truth.copy()
    estimate[40, 40] = np.nan
    assert 0 < object_error(estimate, truth, central_coverage()).value < 0.2


def test_object_error_refuses_what_it_cannot_judge():
    truth = smooth_object(5)
    with pytest.raises(DataError, match=r"\(96, 96\).*`compare`"):
        object_error(truth[:-1], truth)
    with pytest.raises(DataError, match="does not vary"):
        object_error(truth, np.ones_like(truth))
    with pytest.raises(DataError, match="no pixel of `coverage`"):
        object_error(truth, truth, np.zeros(truth.shape))


def test_only_pixels_above_a_tenth_of_the_greatest_coverage_count():
    truth = smooth_object(6)
    coverage = 10 * central_coverage()
    coverage[0, 0] = 1.0
    assert object_error(truth, truth, coverage).region.sum() == (coverage == 10).sum()


# Fourier ring correlation


@pytest.mark.parametrize(("side", "rings"), [(64, 46), (128, 92)])
def test_identical_images_correlate_in_every_ring_up_to_the_corner(side, rings):
    image = np.random.default_rng(0).normal(size=(side, side))
    curve = ring_correlation(image, image)
    assert curve == pytest.approx(np.ones(rings))
    assert metrics.first_crossing(curve, 0.5) == rings


def test_rings_end_at_nyquist_on_request_for_oblong_images_too():
    image = np.random.default_rng(0).normal(size=(64, 90))
    assert len(ring_correlation(image, image, reach="nyquist")) == 33
    limit = metrics.cutoff(np.ones(33), 0.5, 64)
    assert (limit.nyquist_fraction, limit.half_period_px) == (1.0, 1.0)


@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(0.1, 10), phase=st.floats(-3, 3))
@settings(max_examples=10, deadline=None)
def test_ring_correlation_is_symmetric_and_blind_to_a_complex_factor(seed, factor, phase):
    rng = np.random.default_rng(seed)
    one, two = rng.normal(size=(2, 32, 32))
    curve = ring_correlation(one, two)
    assert ((curve >= 0) & (curve <= 1)).all()
    np.testing.assert_allclose(ring_correlation(two, one), curve, atol=1e-12)
    np.testing.assert_allclose(ring_correlation(factor * np.exp(1j * phase) * one, two), curve, atol=1e-12)


def test_the_crossing_is_linear_between_rings():
    curve = np.array([1.0, 0.9, 0.7, 0.2, 0.6])
    assert metrics.first_crossing(curve, 0.5) == pytest.approx(2.4)
    assert metrics.first_crossing(curve, 0.1) == 5
    assert metrics.first_crossing(np.array([0.4, 1.0]), 0.5) == 0


def test_a_low_pass_filter_shows_as_the_cutoff():
    truth = np.random.default_rng(1).normal(size=(128, 128))
    k = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
    other = np.random.default_rng(2).normal(size=(128, 128))
    half = np.fft.ifft2(np.where(k < 0.25, np.fft.fft2(truth), np.fft.fft2(other))).real
    everywhere = np.ones((128, 128), bool)
    curve = ring_correlation(*(metrics.windowed(a, everywhere) for a in (half, truth)), reach="nyquist")
    limit = metrics.cutoff(curve, 0.5, 128)
    assert limit.nyquist_fraction == pytest.approx(0.5, abs=0.03)
    assert limit.half_period_px == pytest.approx(2.0, abs=0.12)


def test_the_window_removes_the_mean_and_fades_at_the_edge_of_any_region():
    region = np.zeros((40, 50), bool)
    region[5:30, 10:45] = True
    faded = metrics.windowed(np.full(region.shape, 3.0), region)
    assert faded == pytest.approx(np.zeros(region.shape))
    assert (metrics.windowed(np.random.default_rng(0).normal(size=region.shape), region)[~region] == 0).all()


# Pixel by pixel


def test_psnr_has_both_conventions():
    assert metrics.psnr(1e-3) == pytest.approx(78.13, abs=5e-3)
    assert metrics.psnr(1e-3, peak=1.0) == pytest.approx(30.0)
    assert metrics.psnr(0.0) == np.inf


def test_ssim_is_that_of_scikit_image():
    reference = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    truth = gaussian_filter(rng.normal(size=(60, 47)), 2)
    image = truth + 0.1 * rng.normal(size=truth.shape)
    span = float(np.ptp(truth))
    expected = reference.structural_similarity(image, truth, data_range=span)
    assert metrics.ssim(image, truth, span) == pytest.approx(expected, rel=1e-9)


@given(seed=st.integers(0, 2**32 - 1), side=st.integers(7, 130))
@settings(max_examples=10, deadline=None)
def test_an_image_is_wholly_similar_to_itself(seed, side):
    image = np.random.default_rng(seed).normal(size=(side, side))
    assert metrics.ssim(image, image, 1.0) == pytest.approx(1)
    assert metrics.ms_ssim(image, image, 1.0, blur_px=1.0) == pytest.approx(1)


def test_ms_ssim_falls_as_noise_grows():
    rng = np.random.default_rng(0)
    truth = gaussian_filter(rng.normal(size=(128, 128)), 3)
    noise = rng.normal(size=truth.shape)
    scores = [metrics.ms_ssim(truth + a * noise, truth, float(np.ptp(truth))) for a in (0.01, 0.05, 0.2)]
    assert 1 > scores[0] > scores[1] > scores[2] > 0


def test_constant_images_agree_without_a_warning():
    flat = np.ones((20, 20))
    assert metrics.ssim(flat, flat, 0.0) == pytest.approx(1)
    with pytest.raises(DataError, match="too small"):
        metrics.ssim(flat[:5], flat[:5], 1.0)


# All at once


class Placed:
    def __init__(self, obj, coverage, origin):
        self.object = obj.astype(np.complex64)
        self.coverage = coverage.astype(np.float32)
        self.origin_px = np.asarray(origin, np.float64)


def test_comparing_the_truth_with_itself_is_perfect():
    truth = smooth_object(7)
    values = compare(truth, truth, coverage=central_coverage()).values
    assert values["object_error"] < 1e-6
    assert values["frc50_nyquist_fraction"] == 1
    for name in ("amplitude_ssim", "amplitude_ms_ssim", "phase_ssim", "phase_ms_ssim", "frc_mean"):
        assert values[name] == pytest.approx(1, abs=1e-5), name
    for name in ("amplitude_mae", "phase_mae", "amplitude_mse", "phase_mse"):
        assert values[name] < 1e-5, name
    assert all(isinstance(value, float) for value in values.values())


@settings(max_examples=8, deadline=None)
@given(
    top=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    fraction=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    far=st.floats(-1e5, 1e5),
)
def test_canvases_of_different_size_and_origin_meet_where_their_coordinates_say(top, fraction, far):
    truth = smooth_object(8, side=120)
    coverage = central_coverage(side=120, border=24)
    fraction = np.array(fraction)
    window = np.s_[top[0] : 110, top[1] : 115]
    # Content moved by -f on a canvas whose origin lies +f further: the same object in scan coordinates.
    estimate = Placed(moved(truth, -fraction)[window], coverage[window], far + np.array(top) + fraction)
    found = compare(estimate, Placed(truth, coverage, (far, far)))
    assert found.values["object_error"] < 0.02
    assert abs(found.values["shift_y_px"] - fraction[0]) < 0.02 + 1e-9 * abs(far) or abs(fraction[0]) > 0.499
    # At exactly half a pixel either neighbour is as near, and the common window may lose one row.
    half = np.abs(fraction) > 0.499
    assert found.aligned.shape == found.truth.shape
    assert all(72 - half <= found.truth.shape)
    assert all(found.truth.shape <= np.array([72, 72]))
    lost = found.window_origin_px - np.array([far + 24, far + 24])
    assert np.all(np.abs(lost) <= half + 1e-6)


def test_phase_scores_do_not_depend_on_where_the_phase_wraps():
    truth = smooth_object(9)
    estimate = noisy(truth, 0.2)
    first = compare(estimate, truth, coverage=central_coverage()).values
    turned = compare(estimate, truth * np.exp(2.9j), coverage=central_coverage()).values
    for name in ("phase_mae", "phase_ssim", "amplitude_mae", "object_error"):
        assert turned[name] == pytest.approx(first[name], rel=1e-3), name


def test_pixel_size_gives_lengths_in_metres():
    truth = smooth_object(10)
    values = compare(truth, truth, pixel_size_m=8e-9).values
    assert values["frc50_half_period_m"] == pytest.approx(8e-9)


def test_objects_without_a_common_window_are_refused():
    truth = smooth_object(11)
    with pytest.raises(DataError, match="no common window"):
        compare(truth, truth, estimate_origin_px=(90.0, 0.0))
    with pytest.raises(DataError, match="`coverage` has shape"):
        compare(truth, truth, coverage=np.ones((3, 3)))
