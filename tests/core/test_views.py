"""Other views of a known object: frames that could have been measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_core import physics
from ptycho_core.learning.views import Views
from ptycho_core.simulate import simulate_scan


@pytest.fixture(scope="module")
def bright():
    return simulate_scan(
        object_kind="polygons", frames=60, frame_px=32, start_kind="true", photons=1e6, seed=2
    )


@pytest.fixture(scope="module")
def views(bright) -> Views:
    return Views.of_scan(bright.scan)


@settings(max_examples=20, deadline=None)
@given(height=st.integers(40, 90), width=st.integers(40, 90), seed=st.integers(0, 2**32 - 1))
def test_a_view_has_the_shape_asked_for_and_transmits_what_a_sample_can(views, height, width, seed):
    view = views.draw((height, width), np.random.default_rng(seed))
    assert view.shape == (height, width)
    assert view.dtype == np.complex64
    assert np.isfinite(view).all()
    assert np.abs(view).max() <= 1.2 + 1e-6
    again = views.draw((height, width), np.random.default_rng(seed))
    np.testing.assert_array_equal(view, again)


def test_views_differ_from_each_other_and_show_structure(views):
    random = np.random.default_rng(0)
    drawn = [views.draw((64, 64), random) for _ in range(8)]
    assert len({view.tobytes() for view in drawn}) == 8
    assert np.median([np.std(view) for view in drawn]) > 0.05


def test_counts_are_those_of_the_reference_physics(bright, views):
    """The same view, drawn with the same numbers, through the float64 reference."""
    positions = bright.scan.positions_px[10:16] + np.array([0.3, -0.4])
    counts = views.counts(positions, np.random.default_rng(5))
    local = positions - np.floor(positions.min(axis=0)) + 16 + 1
    shape = tuple((np.ceil(local.max(axis=0)).astype(int) + 16 + 1).tolist())
    view = views.draw(shape, np.random.default_rng(5)).astype(np.complex128)
    probe = bright.scan.probe.astype(np.complex128)
    expected = physics.intensity(view, probe, local)
    expected *= counts.sum() / expected.sum()
    np.testing.assert_allclose(counts, expected, atol=2e-5 * expected.max())


def test_frames_of_views_are_as_bright_as_those_of_the_scan(bright, views):
    random = np.random.default_rng(1)
    totals = [views.counts(bright.scan.positions_px[:24], random).sum((1, 2)).mean() for _ in range(12)]
    assert 0.6e6 < np.mean(totals) < 1.6e6
