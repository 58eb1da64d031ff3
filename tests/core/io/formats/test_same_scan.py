"""The same scan comes out of every format: frames, positions, probe, lengths, and the solver's residual."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config import SolverConfig
from ptycho_core import open_scan, solve


def test_frames_positions_and_probe_are_those_of_the_npz(
    written: Any, original: Any, writers: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    in_npz = open_scan(writers["npz"](tmp_path_factory.mktemp("npz"), original).path)
    scan = open_scan(written.path, **written.options)
    expected = original.counts.astype(np.float32)
    if written.has_mask:
        np.testing.assert_array_equal(scan.bad_pixels, original.bad_pixels)
        expected = np.where(original.bad_pixels, 0, expected)
    np.testing.assert_array_equal(scan.counts(), expected)
    # To the bit: what a change of units leaves behind the last digit decides ties in the solver.
    np.testing.assert_array_equal(scan.positions_px, in_npz.positions_px)
    np.testing.assert_allclose(scan.positions_px, original.positions_px, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(scan.probe, original.probe)
    assert scan.measurement == "counts"
    if written.has_pixel:
        assert scan.pixel_size_m == pytest.approx(original.pixel_m, rel=1e-12)
    else:
        assert scan.pixel_size_m is None
    chosen = np.array([7, 3, 3, 20])
    np.testing.assert_array_equal(scan.counts(chosen), expected[chosen])
    np.testing.assert_array_equal(scan.select(slice(2, 20, 3)).counts([1]), expected[[5]])


@pytest.mark.parametrize(
    "name",
    ["cxi", "lcls", "matlab", "nexus", "npy", "ptychodus", "ptychodus_raw", "ptyd", "raster", "tiff", "tike"],
)
def test_the_solver_reaches_the_same_residual(name: str, real: Any, writers: Any, tmp_path: Path) -> None:
    config = SolverConfig(epochs=2, effort="fast")
    reference = writers["npz"](tmp_path, real)
    written = writers[name](tmp_path, real)
    expected = solve(open_scan(reference.path), config).data_residual
    found = solve(open_scan(written.path, **written.options), config).data_residual
    assert found == pytest.approx(expected, abs=1e-6)
