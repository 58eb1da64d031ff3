"""Two halves of the frames: fairly split, and agreeing as far as the data carry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.execution import SolverExecutionConfig
from ptycho_core import solve
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.verdict.halves import _bits, agreement_of_halves, halves_worth_it, split_frames

NUMPY = SolverExecutionConfig(arrays="numpy", threads=1)


@given(n_frames=st.integers(2, 200), seed=st.integers(0, 99), raster=st.booleans())
def test_every_frame_is_in_one_half_and_neighbours_part(n_frames: int, seed: int, raster: bool) -> None:
    positions = np.random.default_rng(seed).uniform(0, 100, (n_frames, 2))
    if raster:
        side = int(np.ceil(np.sqrt(n_frames)))
        positions = np.stack(np.divmod(np.arange(n_frames), side), axis=1).astype(float)
    one, other = split_frames(positions)
    np.testing.assert_array_equal(np.sort(np.concatenate([one, other])), np.arange(n_frames))
    assert abs(len(one) - len(other)) <= 1
    if n_frames >= 32:
        spread = np.ptp(positions, axis=0)
        assert (np.abs(positions[one].mean(axis=0) - positions[other].mean(axis=0)) < 0.2 * spread + 1).all()


@pytest.mark.parametrize("bits", [0.5, 1.0])
def test_the_curves_are_those_of_the_paper(bits: float) -> None:
    n = np.array([1.0, 10.0, 1000.0])
    a, b, c, d = {0.5: (0.2071, 1.9102, 1.2071, 0.9102), 1.0: (0.5, 2.4142, 1.5, 1.4142)}[bits]
    np.testing.assert_allclose(_bits(n, bits), (a + b / np.sqrt(n)) / (c + d / np.sqrt(n)), rtol=1e-3)


@pytest.fixture(scope="module")
def bright() -> SimulatedScan:
    return simulate_scan(frames=150, frame_px=32, overlap=0.8, photons=1e6, seed=2)


def test_a_right_scan_agrees_with_itself_and_a_dim_one_less_far(bright: SimulatedScan) -> None:
    dim = simulate_scan(frames=150, frame_px=32, overlap=0.8, photons=1e3, seed=2)
    seen = {}
    for name, made in (("bright", bright), ("dim", dim)):
        assert halves_worth_it(made.scan) == ""
        seen[name] = agreement_of_halves(made.scan, solve(made.scan, execution=NUMPY), NUMPY)
    assert seen["bright"].mean_correlation > 0.9
    assert seen["bright"].resolution_px < seen["dim"].resolution_px
    assert seen["bright"].mean_correlation > seen["dim"].mean_correlation


def test_frames_in_another_order_do_not_agree(bright: SimulatedScan) -> None:
    order = np.random.default_rng(0).permutation(bright.scan.n_frames)
    wrong = replace(bright.scan, positions_px=bright.scan.positions_px[order])
    found = agreement_of_halves(wrong, solve(wrong, execution=NUMPY), NUMPY)
    assert found is not None
    assert found.mean_correlation < 0.7


def test_few_frames_and_little_overlap_are_not_compared() -> None:
    few = simulate_scan(frames=20, frame_px=32, overlap=0.8)
    assert "20 frames are too few" in halves_worth_it(few.scan)
    sparse = simulate_scan(frames=60, frame_px=32, overlap=0.3)
    assert "overlap by" in halves_worth_it(sparse.scan)
