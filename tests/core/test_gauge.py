"""Gauge: ramps, phases and the probe's centre are measured as they were made."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_core import physics
from ptycho_core.physics import gauge

slopes = st.tuples(st.floats(-3, 3), st.floats(-3, 3)).map(np.array)
few = settings(max_examples=20, deadline=None)


@few
@given(slope=slopes, h=st.integers(2, 20), w=st.integers(2, 20))
def test_the_slope_of_a_pure_ramp_is_found_without_unwrapping(slope, h, w):
    ramp = gauge.phase_ramp((h, w), slope)
    assert ramp[h // 2, w // 2] == pytest.approx(1)
    np.testing.assert_allclose(gauge.linear_ramp(ramp), slope, atol=1e-9)
    flat = gauge.without_mean_phase(gauge.without_ramp(ramp))
    np.testing.assert_allclose(flat, 1, atol=1e-7)


@few
@given(slope=slopes, seed=st.integers(0, 2**32 - 1))
def test_removing_a_ramp_leaves_none_and_keeps_the_modulus(slope, seed):
    rng = np.random.default_rng(seed)
    obj = np.exp(0.3j * rng.normal(size=(15, 18))) * rng.uniform(0.5, 1, (15, 18))
    flat = gauge.without_ramp(obj * gauge.phase_ramp(obj.shape, slope))
    np.testing.assert_allclose(gauge.linear_ramp(flat), 0, atol=1e-9)
    np.testing.assert_allclose(np.abs(flat), np.abs(obj))


def test_only_the_region_is_looked_at():
    slope = np.array([0.2, -0.1])
    obj = gauge.phase_ramp((20, 20), slope)
    obj[:, 12:] = np.random.default_rng(0).normal(size=(20, 8))
    region = np.zeros((20, 20), bool)
    region[3:17, 2:11] = True
    np.testing.assert_allclose(gauge.linear_ramp(obj, region), slope, atol=1e-9)
    turned = gauge.without_mean_phase(obj, region)
    assert np.angle(turned[region].mean()) == pytest.approx(0, abs=1e-12)


def test_the_centre_of_a_probe_follows_its_shift():
    n = 32
    y, x = np.mgrid[:n, :n] - n // 2
    probe = np.exp(-(y**2 + x**2) / 18) + 0j
    assert gauge.probe_centre_px(probe) == pytest.approx([16, 16], abs=1e-6)
    shifted = physics.shift_probe(np.stack([probe, 0.3j * probe]), np.array([2.25, -1.5]))
    assert gauge.probe_centre_px(shifted) == pytest.approx([18.25, 14.5], abs=1e-6)
    assert gauge.probe_centre_px(0 * probe).tolist() == [16, 16]


def test_frames_do_not_see_a_ramp_that_object_and_probe_exchange():
    rng = np.random.default_rng(1)
    obj = rng.normal(size=(30, 30)) + 1j * rng.normal(size=(30, 30))
    probe = rng.normal(size=(8, 8)) + 1j * rng.normal(size=(8, 8))
    slope = np.array([0.3, -0.2])
    pixels = rng.integers(6, 22, (4, 2)).astype(float)
    before = physics.intensity(obj, probe, pixels)
    after = physics.intensity(
        obj * gauge.phase_ramp(obj.shape, slope), probe * gauge.phase_ramp(probe.shape, -slope), pixels
    )
    np.testing.assert_allclose(after, before)
