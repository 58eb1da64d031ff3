"""Positions that are wrong: searched for where far off, and believed only where other frames agree."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, open_scan, solve
from ptycho_core.metrics import compare
from ptycho_core.scan.split import split_frames
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.solver.held_out import positions_are_far_off
from ptycho_core.solver.registration import best_moves

NUMPY = SolverExecutionConfig(arrays="numpy", threads=1)


@pytest.fixture(scope="module")
def made() -> SimulatedScan:
    return simulate_scan(object_kind="discs", frames=100, frame_px=32, photons=1e6, overlap=0.8, seed=1)


@pytest.fixture
def labyrinth() -> Path:
    path = Path(os.environ.get("PTYCHO_DATA_DIR", ".")) / "labyrinth.npz"
    if not path.is_file():
        pytest.skip("labyrinth.npz is not in PTYCHO_DATA_DIR")
    return path


def off_by(made: SimulatedScan, jitter_px: float) -> Scan:
    random = np.random.default_rng(2)
    return made.scan.moved_to(
        made.scan.positions_px + random.normal(0, jitter_px, made.scan.positions_px.shape)
    )


def test_only_positions_that_are_far_off_are_searched_for(made: SimulatedScan) -> None:
    def solved(part: Scan, config: SolverConfig) -> Reconstruction:
        return solve(part, config, NUMPY)

    for scan in (made.scan, off_by(made, 1.0), made.scan.select(slice(0, 20))):
        assert not positions_are_far_off(scan, solved, probe_modes=1)


@pytest.mark.parametrize("moved_px", [(0.0, 0.0), (3.0, -4.0), (-6.0, 2.0)])
def test_a_frame_is_found_in_the_image_of_the_others(moved_px: tuple[float, float]) -> None:
    made = simulate_scan(object_kind="texture", frames=120, frame_px=64, photons=1e6, overlap=0.8, seed=1)
    ours, others = split_frames(made.scan.positions_px)
    image = solve(made.scan.select(ours), SolverConfig(effort="fast"), NUMPY)
    rest = made.scan.select(others)
    put = rest.moved_to(rest.positions_px + np.array(moved_px))
    back = best_moves(
        put, image, reach=8, step=1, smoothing=1.0, away_px=np.zeros((len(others), 2)), usual_px=np.inf
    )
    assert np.abs(np.median(back + np.array(moved_px), axis=0)).max() < 0.5
    assert np.percentile(np.linalg.norm(back + np.array(moved_px), axis=1), 75) < 1.5


@pytest.mark.slow
def test_independent_errors_of_a_real_scan_are_found(labyrinth: Path) -> None:
    true = open_scan(labyrinth, dc="corner")
    with np.load(labyrinth) as file:
        given = file["scan_given"].astype(np.float64)
    result = solve(true.moved_to(given), SolverConfig(refine_positions=True))
    away = result.positions_px - true.positions_px
    length = np.linalg.norm(away - np.median(away, axis=0), axis=1)
    assert np.median(length) < 2.5
    assert np.percentile(length, 95) < 6
    assert result.data_residual < 0.112


@pytest.mark.parametrize(("jitter_px", "accepted"), [(0.0, False), (0.5, True)])
def test_refined_positions_are_taken_where_frames_held_out_say_so(
    made: SimulatedScan, jitter_px: float, accepted: bool
) -> None:
    scan = off_by(made, jitter_px)
    plain, refined = (solve(scan, SolverConfig(refine_positions=on), NUMPY) for on in (False, True))
    said = [event for event in refined.events if "held out" in event.message]
    assert [event.data["accepted"] for event in said] == [accepted]
    truth = made.obj.astype(np.complex64)
    errors = [compare(result, truth).values["object_error"] for result in (plain, refined)]
    if accepted:
        assert errors[1] < 0.9 * errors[0]
        assert refined.positions_given_px is not None
        np.testing.assert_array_equal(refined.positions_given_px, scan.positions_px)
    else:
        assert errors[1] == errors[0]
        np.testing.assert_array_equal(refined.positions_px, scan.positions_px)
        # What is kept is what a run without the refinement gives, and the time of both is told.
        np.testing.assert_array_equal(refined.object, plain.object)
        assert [row["residual"] for row in refined.history] == [row["residual"] for row in plain.history]
        assert refined.timings["total"] > refined.timings["held_out"]
