"""Poisson likelihood: the worked number, and that both forms have one minimum and one gradient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_core.physics.likelihood import poisson_deviance, poisson_gradient, poisson_nll

few = settings(max_examples=30, deadline=None)
counts = st.floats(0, 1e6)
rates = st.floats(1e-3, 1e6)


def pair(rate, measured):
    return {"expected_counts": np.array([rate]), "measured_counts": np.array([measured])}


def test_nine_counts_at_a_rate_of_eight():
    assert poisson_nll(**pair(8.0, 9.0))[0] == pytest.approx(-10.715, abs=5e-4)


@few
@given(measured=st.floats(1e-3, 1e6))
def test_the_deviance_is_zero_where_rate_and_counts_agree(measured):
    assert poisson_deviance(**pair(measured, measured))[0] == pytest.approx(0, abs=1e-12)


@few
@given(rate=rates, measured=counts)
def test_the_deviance_is_never_negative_and_falls_towards_the_counts(rate, measured):
    here = poisson_deviance(**pair(rate, measured))[0]
    nearer = poisson_deviance(**pair((rate + measured) / 2, measured))[0]
    assert here >= -1e-9 * (rate + measured)
    assert nearer <= here + 1e-9 * (rate + measured)


@few
@given(rate=st.floats(1, 1e4), measured=st.floats(0, 1e4))
def test_both_forms_have_the_gradient_given(rate, measured):
    step = 1e-5 * rate
    gradient = poisson_gradient(**pair(rate, measured))[0]
    for form in (poisson_nll, poisson_deviance):
        slope = form(**pair(rate + step, measured))[0] - form(**pair(rate - step, measured))[0]
        assert slope / (2 * step) == pytest.approx(gradient, rel=1e-4, abs=1e-4)


def test_dark_pixels_and_integer_counts_are_safe():
    zero = {"expected_counts": np.zeros(2), "measured_counts": np.array([0, 65535], np.uint16)}
    assert np.isfinite(poisson_nll(**zero)).all()
    assert poisson_deviance(**zero)[0] == pytest.approx(0, abs=1e-7)
    assert np.isfinite(poisson_gradient(**zero)).all()
