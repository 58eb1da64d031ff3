"""While tests run, calls are checked: types everywhere, shapes and dtypes where arrays are annotated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from ptycho_core.io.geometry import FrameGeometry, turned_positions
from ptycho_core.io.units import length_factor
from ptycho_core.metrics.fourier_ring import ring_correlation
from ptycho_core.scan.overlap import typical_step_px

GEOMETRY = {
    "shifted": False,
    "top": 0,
    "left": 0,
    "side": 8,
    "rebin": 1,
    "orientation": "as-is",
    "combine": "sum",
}


def test_right_calls_pass() -> None:
    assert FrameGeometry(**GEOMETRY).shape((8, 8)) == (8, 8)
    assert length_factor("mm") == 1e-3


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: length_factor(3), BeartypeCallHintViolation),
        (lambda: FrameGeometry(**GEOMETRY | {"top": "above"}), BeartypeCallHintViolation),
        (lambda: turned_positions(np.zeros((4, 3)), "as-is"), TypeCheckError),
        (lambda: turned_positions(np.zeros((4, 2), np.float32), "as-is"), TypeCheckError),
        (lambda: typical_step_px(np.zeros((4, 2), complex)), TypeCheckError),
        (
            lambda: ring_correlation(np.zeros((8, 8), "c8"), np.zeros((8, 6), "c8")),
            TypeCheckError,
        ),
    ],
    ids=["a type", "a field", "a shape", "a dtype", "a kind", "two axes of one name"],
)
def test_a_wrong_call_is_caught(call: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call()
