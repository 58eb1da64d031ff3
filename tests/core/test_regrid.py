"""An object that is moved onto whole pixels stays where it is in the scan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.physics.canvas import on_whole_pixels

PLACES = st.floats(-20, 20, allow_nan=False)


def bump(origin_px: np.ndarray) -> np.ndarray:
    """A smooth object with its top at scan coordinate (11, 14)."""
    y, x = (np.arange(40) + origin_px[axis] for axis in (0, 1))
    top = np.exp(-((y[:, None] - origin_px[0] - 19.25) ** 2 + (x - origin_px[1] - 20.5) ** 2) / 18)
    return (1 + 0.5j * top).astype(np.complex64)


@given(y=PLACES, x=PLACES)
def test_the_object_stays_where_it_is_in_the_scan(y: float, x: float) -> None:
    origin = np.array([y, x])
    obj = bump(origin)
    moved, whole = on_whole_pixels(obj, origin)
    assert np.array_equal(whole, np.rint(whole))
    assert np.abs(whole - origin).max() <= 0.5 + 1e-9

    def centre(image: np.ndarray, start: np.ndarray) -> np.ndarray:
        weight = image.imag.astype(np.float64)
        rows, columns = (np.arange(side) for side in image.shape)
        return start + np.array([weight.sum(1) @ rows, weight.sum(0) @ columns]) / weight.sum()

    assert centre(moved, whole) == pytest.approx(centre(obj, origin), abs=0.01)


def test_whole_origins_leave_the_object_untouched() -> None:
    obj = bump(np.zeros(2))
    moved, whole = on_whole_pixels(obj, np.array([-4.0, 7.0]))
    assert moved is obj
    assert whole.tolist() == [-4, 7]
