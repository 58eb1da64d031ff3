"""Frames that nothing explains are left out after the first level; all others stay, and good scans are as
before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, solve
from ptycho_core.metrics.compare import compare
from ptycho_core.simulate import SimulatedScan, simulate_scan

NUMPY = SolverExecutionConfig(arrays="numpy", threads=1)
WRONG = [7, 33, 50]


@pytest.fixture(scope="module")
def made() -> SimulatedScan:
    return simulate_scan(frames=90, frame_px=32, overlap=0.75, photons=1e6, seed=2)


@pytest.fixture(scope="module")
def right(made: SimulatedScan) -> Reconstruction:
    """What the scan gives as it is."""
    return solve(made.scan, execution=NUMPY)


def misplaced(scan: Scan) -> Scan:
    positions = scan.positions_px.copy()
    positions[WRONG] += (9, -8)
    return replace(scan, positions_px=positions)


def exchanged(scan: Scan) -> Scan:
    frames = scan.frames.copy()
    frames[WRONG] = frames[[60, 61, 62]]
    return replace(scan, frames=frames)


def half_read(scan: Scan) -> Scan:
    frames = scan.frames.copy()
    frames[WRONG, ::3] = 0
    return replace(scan, frames=frames)


@pytest.mark.parametrize("fault", [misplaced, half_read])
def test_wrong_frames_do_not_decide_the_image(made: SimulatedScan, right: Reconstruction, fault) -> None:
    scan = fault(made.scan)
    result = solve(scan, execution=NUMPY)
    np.testing.assert_array_equal(np.flatnonzero(~result.frames_used), WRONG)
    (event,) = [event for event in result.events if event.kind == "frames_left_out"]
    assert event.data["frames"] == WRONG
    assert "7, 33, 50" in event.message
    errors = [compare(one, made.obj).values["object_error"] for one in (result, right)]
    assert errors[0] < errors[1] + 0.02
    kept = solve(scan, SolverConfig(leave_out_frames=False), NUMPY)
    assert kept.frames_used.all()
    assert result.data_residual < kept.data_residual


def test_of_frames_that_look_alike_only_wrong_ones_are_left_out(made: SimulatedScan) -> None:
    left_out = np.flatnonzero(~solve(exchanged(made.scan), execution=NUMPY).frames_used)
    assert left_out.size
    assert set(left_out.tolist()) <= set(WRONG)


def test_a_right_scan_loses_no_frame_and_is_solved_as_without_the_look(
    made: SimulatedScan, right: Reconstruction
) -> None:
    blind = solve(made.scan, SolverConfig(leave_out_frames=False), NUMPY)
    assert right.frames_used.all()
    np.testing.assert_array_equal(right.object, blind.object)
    np.testing.assert_array_equal(right.probe, blind.probe)


def test_numbers_are_those_of_the_file_where_others_are_left_out_already(made: SimulatedScan) -> None:
    scan = misplaced(made.scan)
    kept = np.setdiff1d(np.arange(scan.n_frames), [0, 1, 40])
    part = replace(scan.select(kept), frame_numbers=kept, all_positions_px=scan.positions_px)
    result = solve(part, execution=NUMPY)
    left_out = set(np.flatnonzero(~result.frames_used).tolist())
    assert {0, 1, 40} < left_out <= {0, 1, 40, *WRONG}
    assert result.positions_px.shape == scan.positions_px.shape


def test_a_scan_that_nothing_explains_keeps_its_frames(made: SimulatedScan) -> None:
    order = np.random.default_rng(0).permutation(made.scan.n_frames)
    result = solve(replace(made.scan, positions_px=made.scan.positions_px[order]), execution=NUMPY)
    assert result.frames_used.mean() > 0.85
