"""R against a float64 loop that one can check with a pencil, and against known values on the real scan."""

import bz2
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.errors import DataError
from ptycho_core.physics import residual
from ptycho_core.physics.residual import data_residual

REPOSITORY = Path(__file__).resolve().parents[2]
FLOAT32_SUMS = 1e-5  # what float32 transforms of 128x128 leave in R, with a factor of ten to spare


def plain_residual(obj, probe, centres, amplitude, subpixel, good=None):
    """One frame at a time, double precision, the formula as it is written."""
    modes = probe.reshape(-1, *probe.shape[-2:])
    n = probe.shape[-1]
    k = np.fft.fftfreq(n)
    padded = np.pad(obj, n)
    predicted = np.empty(amplitude.shape)
    for b, centre in enumerate(np.asarray(centres, float)):
        corner = centre - n // 2
        whole = np.floor(corner + 0.5) if subpixel == "probe_fourier" else np.floor(corner)
        fy, fx = corner - whole
        y, x = whole.astype(int) + n
        intensity = 0
        for mode in modes:
            if subpixel == "probe_fourier":
                ramp = np.exp(-2j * np.pi * (k[:, None] * fy + k[None] * fx))
                wave = np.fft.ifft2(np.fft.fft2(mode) * ramp) * padded[y : y + n, x : x + n]
            else:
                patch = sum(
                    wy * wx * padded[y + dy : y + dy + n, x + dx : x + dx + n]
                    for dy, wy in ((0, 1 - fy), (1, fy))
                    for dx, wx in ((0, 1 - fx), (1, fx))
                )
                wave = mode * patch
            intensity = intensity + np.abs(np.fft.fftshift(np.fft.fft2(wave, norm="ortho"))) ** 2
        predicted[b] = np.sqrt(intensity)
    good = np.ones(amplitude.shape[1:], bool) if good is None else good
    predicted, amplitude = predicted * good, amplitude * good
    k = (predicted * amplitude).sum() / (predicted**2).sum()
    return np.abs(k * predicted - amplitude).sum() / amplitude.sum(), k


def small_scan(seed, n=16, frames=9, modes=1):
    rng = np.random.default_rng(seed)
    obj = (rng.normal(size=(3 * n, 3 * n + 5)) + 1j * rng.normal(size=(3 * n, 3 * n + 5))).astype(
        np.complex64
    )
    probe = (rng.normal(size=(modes, n, n)) + 1j * rng.normal(size=(modes, n, n))).astype(np.complex64)
    centres = rng.uniform(n, 2 * n, (frames, 2))
    amplitude = rng.gamma(2.0, size=(frames, n, n)).astype(np.float32)
    return obj, probe, centres, amplitude


@pytest.mark.parametrize("subpixel", residual.SUBPIXEL_MODELS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), modes=st.integers(1, 3), frames=st.integers(1, 12))
def test_agrees_with_the_plain_formula(subpixel, seed, modes, frames):
    obj, probe, centres, amplitude = small_scan(seed, frames=frames, modes=modes)
    value, scale = plain_residual(obj, probe, centres, amplitude, subpixel)
    found = data_residual(obj, probe, centres, amplitude, subpixel=subpixel)
    assert found.value == pytest.approx(value, rel=FLOAT32_SUMS)
    assert found.scale == pytest.approx(scale, rel=FLOAT32_SUMS)


@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1e-3, 1e3), phase=st.floats(-3, 3))
@settings(max_examples=15, deadline=None)
def test_scale_and_phase_of_the_probe_do_not_matter(seed, factor, phase):
    obj, probe, centres, amplitude = small_scan(seed)
    factor = np.complex64(factor * np.exp(1j * phase))
    before, after = (data_residual(obj, p, centres, amplitude).value for p in (probe, probe * factor))
    assert after == pytest.approx(before, rel=FLOAT32_SUMS)


def test_frames_of_the_model_itself_leave_no_residual():
    obj, probe, centres, _ = small_scan(3)
    model = residual.PredictedAmplitude(obj, probe, centres, "probe_fourier")
    found = data_residual(obj, probe, centres, 7 * model(slice(0, len(centres))))
    assert found.value < FLOAT32_SUMS
    assert found.scale == pytest.approx(7, rel=FLOAT32_SUMS)


def test_frames_weighted_by_their_counts_add_up_to_the_whole():
    obj, probe, centres, amplitude = small_scan(4)
    found = data_residual(obj, probe, centres, amplitude)
    weights = amplitude.sum(axis=(1, 2))
    assert found.per_frame @ weights / weights.sum() == pytest.approx(found.value, rel=FLOAT32_SUMS)


def test_chunks_threads_and_what_is_kept_do_not_change_the_answer(monkeypatch):
    obj, probe, centres, amplitude = small_scan(5, frames=11)
    once = data_residual(obj, probe, centres, amplitude, threads=1)
    monkeypatch.setattr(residual, "CHUNK_BYTES", 3 * 8 * 16**2)
    kept = data_residual(obj, probe, centres, amplitude, threads=3)
    monkeypatch.setattr(residual, "KEPT_BYTES", 0)
    predicted_twice = data_residual(obj, probe, centres, amplitude, threads=1)
    assert kept.value == predicted_twice.value == pytest.approx(once.value, rel=1e-12)
    np.testing.assert_allclose(kept.per_frame, once.per_frame, rtol=1e-6)


def test_an_array_a_function_and_a_scan_give_the_same_answer():
    obj, probe, centres, amplitude = small_scan(6)
    good = np.random.default_rng(0).random((16, 16)) > 0.2

    class InMemory:
        def amplitude(self, indices):
            return amplitude[indices] * good

        def good_pixels(self, indices=None):
            return good

    by_scan = data_residual(obj, probe, centres, InMemory()).value
    assert by_scan == data_residual(obj, probe, centres, amplitude, good_pixels=good).value
    assert by_scan == data_residual(obj, probe, centres, lambda i: amplitude[i], good_pixels=good).value
    assert by_scan == pytest.approx(
        plain_residual(obj, probe, centres, amplitude, "probe_fourier", good)[0], rel=FLOAT32_SUMS
    )


def test_bad_pixels_have_no_say_frame_by_frame():
    obj, probe, centres, amplitude = small_scan(7)
    good = np.random.default_rng(1).random(amplitude.shape) > 0.3
    spoiled = np.where(good, amplitude, np.float32(1e6))
    clean = data_residual(obj, probe, centres, amplitude, good_pixels=good)
    assert data_residual(obj, probe, centres, spoiled, good_pixels=good).value == clean.value


def test_a_frame_without_counts_has_no_residual_of_its_own():
    obj, probe, centres, amplitude = small_scan(8)
    amplitude[2] = 0
    found = data_residual(obj, probe, centres, amplitude)
    assert np.isnan(found.per_frame[2])
    assert np.isfinite(np.delete(found.per_frame, 2)).all()
    assert np.isnan(data_residual(obj, probe, centres, 0 * amplitude).value)


def test_a_dark_model_explains_nothing():
    obj, probe, centres, amplitude = small_scan(9)
    found = data_residual(0 * obj, probe, centres, amplitude)
    assert (found.value, found.scale) == (1.0, 0.0)


def test_windows_may_reach_over_the_edge_but_not_leave_the_canvas():
    obj, probe, centres, amplitude = small_scan(10)
    centres[0] = (2.3, -4.6)
    value, _ = plain_residual(obj, probe, centres, amplitude, "object_bilinear")
    found = data_residual(obj, probe, centres, amplitude, subpixel="object_bilinear")
    assert found.value == pytest.approx(value, rel=FLOAT32_SUMS)
    centres[3] = (500.0, 0.0)
    with pytest.raises(DataError, match=r"window of frame 3 .* outside .*positions_px - origin_px"):
        data_residual(obj, probe, centres, amplitude)


def test_more_positions_than_frames_is_refused():
    obj, probe, centres, amplitude = small_scan(11)
    with pytest.raises(DataError, match="one position for each frame"):
        data_residual(obj, probe, centres, amplitude[:-1])
    with pytest.raises(DataError, match="`good_pixels` has 3 frames"):
        data_residual(obj, probe, centres, amplitude, good_pixels=np.ones((3, 16, 16), bool))


def test_an_unknown_subpixel_model_is_refused():
    obj, probe, centres, amplitude = small_scan(12)
    with pytest.raises(Exception, match="probe_fourier"):
        data_residual(obj, probe, centres, amplitude, subpixel="nearest")


@pytest.fixture(scope="module")
def star():
    folder = Path(os.environ.get("PTYCHO_DATA_DIR", REPOSITORY.parent / "shared" / "data"))
    files = folder / "siemens-star-small.npz.bz2", folder / "siemens-star-lsqml.npz"
    if not all(file.is_file() for file in files):
        pytest.skip(f"the real scan and its reference are not in {folder}")
    scan = np.load(io.BytesIO(bz2.decompress(files[0].read_bytes())))
    amplitude = np.fft.fftshift(np.sqrt(scan["data"][0]), axes=(1, 2))
    return amplitude, scan["probe"][0, 0, 0], np.load(files[1])


@pytest.mark.parametrize(
    ("objects", "probes", "subpixel", "known"),
    [
        ("flat", "given", "probe_fourier", 0.454),
        ("flat", "reference", "probe_fourier", 0.268),
        ("reference", "reference", "probe_fourier", 0.155),
        ("reference", "reference", "object_bilinear", 0.149),
    ],
)
def test_the_siemens_star_gives_the_known_residuals(star, objects, probes, subpixel, known):
    amplitude, given_probe, reference = star
    obj = reference["object"] if objects == "reference" else np.ones_like(reference["object"])
    probe = reference["probe"] if probes == "reference" else given_probe
    centres = reference["top_left_px"].astype(np.float64) + 64
    assert data_residual(obj, probe, centres, amplitude, subpixel=subpixel).value == pytest.approx(
        known, abs=6e-4
    )
