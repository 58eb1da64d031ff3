"""Positions that are wrong: searched for where far off, and believed only where other frames agree."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import PolicyWarning
from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, open_scan, solve
from ptycho_core.kernel import load_kernel
from ptycho_core.metrics import compare
from ptycho_core.physics.residual import data_residual
from ptycho_core.scan.split import split_frames
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.solver.common_strain import without_chance_strain
from ptycho_core.solver.lost_frames import frames_found_again
from ptycho_core.solver.places import misfits_at, places_within
from ptycho_core.solver.registration import (
    best_moves,
    moves_of_lost_frames,
    search_is_worth_it,
    searched_positions,
)
from ptycho_core.solver.schedule import plan_levels
from ptycho_core.solver.unseen_frames import positions_are_far_off

NUMPY = SolverExecutionConfig(arrays="numpy", threads=1)


@pytest.fixture(scope="module")
def made() -> SimulatedScan:
    return simulate_scan(object_kind="discs", frames=100, frame_px=32, photons=1e6, overlap=0.8, seed=1)


@pytest.fixture(scope="module")
def halves() -> tuple[Scan, Reconstruction]:
    """Half of the frames, and an image of the other half."""
    made = simulate_scan(object_kind="texture", frames=120, frame_px=64, photons=1e6, overlap=0.8, seed=1)
    ours, others = split_frames(made.scan.positions_px)
    image = solve(made.scan.select(ours), SolverConfig(effort="fast"), NUMPY)
    return made.scan.select(others), image


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
def test_a_frame_is_found_in_the_image_of_the_others(
    halves: tuple[Scan, Reconstruction], moved_px: tuple[float, float]
) -> None:
    rest, image = halves
    put = rest.moved_to(rest.positions_px + np.array(moved_px))
    back = best_moves(
        put, image, reach=8, step=1, smoothing=1.0, away_px=np.zeros((rest.n_frames, 2)), usual_px=np.inf
    )
    assert np.abs(np.median(back + np.array(moved_px), axis=0)).max() < 0.5
    assert np.percentile(np.linalg.norm(back + np.array(moved_px), axis=1), 75) < 1.5


def test_places_lie_on_a_grid_within_the_reach() -> None:
    places = places_within(6, 2)
    assert (places % 2 == 0).all()
    assert np.linalg.norm(places, axis=1).max() == 6
    assert [0, 0] in places.tolist()
    assert len(np.unique(places, axis=0)) == len(places) == 29


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_second_pixel_of_a_wave_is_the_transform_of_the_folded_one(
    halves: tuple[Scan, Reconstruction], threads: int, compiled: bool
) -> None:
    kernel = load_kernel().library if compiled else None
    if compiled and kernel is None:
        pytest.skip(load_kernel().message)
    rest, image = halves
    offsets = places_within(2, 2)
    some = rest.select(slice(0, 5))
    found = misfits_at(some, image, offsets, smoothing=0.0, threads=threads, kernel=kernel)
    at = np.floor(some.positions_px - image.origin_px - 32 + 0.5).astype(int)
    left = some.positions_px - image.origin_px - 32 - at
    k = np.fft.fftfreq(64)
    for frame, amplitude in enumerate(np.fft.ifftshift(some.amplitude(), axes=(1, 2))):
        ramp = np.exp(-2j * np.pi * (k[:, None] * left[frame, 0] + k * left[frame, 1]))
        probe = np.fft.ifft2(np.fft.fft2(image.probe) * ramp)
        padded = np.pad(image.object, 4, constant_values=1)
        for place, (down, right) in enumerate(offsets + 4):
            y, x = at[frame] + (down, right)
            waves = np.fft.fft2(probe * padded[y : y + 64, x : x + 64], norm="ortho")
            modulus = np.sqrt(np.square(np.abs(waves)).sum(axis=0))[::2, ::2]
            seen = amplitude[::2, ::2]
            scale = (modulus * seen).sum() / np.square(modulus).sum()
            misfit = np.abs(scale * modulus - seen).sum() / seen.sum()
            assert found[place, frame] == pytest.approx(misfit, rel=1e-4)


def test_where_counts_are_few_all_pixels_are_looked_at(halves: tuple[Scan, Reconstruction]) -> None:
    rest, image = halves
    dim = replace(rest, frames=rest.counts() / 1000, measurement="counts", dc="center")
    here = np.zeros((1, 2), np.int64)
    bright, faint = (misfits_at(scan, image, here, smoothing=0.0) for scan in (rest, dim))
    # The same pattern, scaled: each frame has its best scale, so only the pixels that are looked at differ.
    assert not np.allclose(bright, faint, rtol=1e-4)
    np.testing.assert_allclose(bright, faint, rtol=0.2)


def test_a_lost_frame_is_looked_for_around_where_it_was_put(halves: tuple[Scan, Reconstruction]) -> None:
    rest, image = halves
    put = rest.positions_px.copy()
    middle = int(np.linalg.norm(put - put.mean(axis=0), axis=1).argmin())
    put[middle] += (0.0, 12.0)
    # It was led astray to the other side, from where its place is out of reach.
    away = np.zeros_like(put)
    away[middle] = (0.0, 14.0)
    moves = moves_of_lost_frames(rest.moved_to(put + away), image, away_px=away, reach=16)
    back = (put + away + moves - rest.positions_px)[middle]
    assert np.linalg.norm(back) <= 4
    assert np.count_nonzero(np.linalg.norm(moves, axis=1)) <= 0.1 * rest.n_frames + 1


def test_frames_that_are_explained_alike_are_not_lost(halves: tuple[Scan, Reconstruction]) -> None:
    rest, image = halves
    same = rest.select(np.zeros(8, np.int64))
    moves = moves_of_lost_frames(same, image, away_px=np.zeros((8, 2)), reach=8)
    assert not moves.any()


def test_a_strain_by_chance_is_taken_out_of_moves_and_a_real_one_is_not() -> None:
    random = np.random.default_rng(3)
    positions = random.uniform(0, 400, (400, 2))
    across = positions - positions.mean(axis=0)
    jitter = random.normal(0, 7, positions.shape)
    drifted, strained = without_chance_strain(jitter, positions)
    assert not strained
    fit = np.linalg.lstsq(np.column_stack([across, np.ones(400)]), drifted, rcond=None)[0]
    assert np.abs(fit[:2]).max() < 0.002
    # Only the strain goes: what the frames did each by itself stays, and so does a common shift.
    np.testing.assert_allclose(drifted.mean(axis=0), jitter.mean(axis=0), atol=1e-9)
    assert np.square(drifted).sum() == pytest.approx(np.square(jitter).sum(), rel=0.05)
    stretch = jitter + across @ np.array([[0.04, 0.0], [0.01, -0.03]])
    kept, strained = without_chance_strain(stretch, positions)
    assert strained
    np.testing.assert_array_equal(kept, stretch)


def test_a_frame_that_went_astray_makes_no_strain() -> None:
    random = np.random.default_rng(4)
    positions = random.uniform(0, 400, (100, 2))
    moves = random.normal(0, 1, positions.shape)
    astray = moves.copy()
    astray[np.linalg.norm(positions, axis=1).argmin()] = (90.0, -90.0)
    assert not without_chance_strain(astray, positions)[1]


def test_frames_that_do_not_move_have_no_strain() -> None:
    moves, strained = without_chance_strain(np.zeros((50, 2)), np.random.default_rng(1).normal(0, 9, (50, 2)))
    assert not strained
    assert not moves.any()


@pytest.fixture(scope="module")
def dense() -> SimulatedScan:
    return simulate_scan(object_kind="texture", frames=200, frame_px=64, photons=1e6, overlap=0.8, seed=1)


def image_of(part: Scan, config: SolverConfig) -> Reconstruction:
    return solve(part, config, NUMPY)


def test_a_search_is_worth_it_where_most_frames_are_far_off(dense: SimulatedScan) -> None:
    assert search_is_worth_it(off_by(dense, 4.0), image_of, threads=1)
    assert not search_is_worth_it(off_by(dense, 4.0).select(slice(0, 20)), image_of, threads=1)


@pytest.mark.parametrize("jitter_px", [0.5, pytest.param(0.0, marks=pytest.mark.slow)])
def test_a_search_is_not_worth_it_where_frames_are_near_their_places(
    dense: SimulatedScan, jitter_px: float
) -> None:
    assert not search_is_worth_it(off_by(dense, jitter_px), image_of, threads=1)


@pytest.mark.slow
def test_a_search_is_not_worth_it_where_images_tell_no_places_apart() -> None:
    """Few frames that overlap little, a poor start probe: frames move far, and nothing is gained."""
    poor = simulate_scan(object_kind="discs", frames=60, frame_px=64, photons=1e6, overlap=0.6, seed=3)
    for jitter_px in (0.0, 4.0):
        assert not search_is_worth_it(off_by(poor, jitter_px), image_of, threads=1)


def test_frames_are_found_again_and_a_stop_ends_the_search(dense: SimulatedScan) -> None:
    scan = off_by(dense, 4.0)
    found = searched_positions(scan, image_of, bound_px=24.0, should_stop=lambda: False, threads=1)
    assert found is not None
    away = found.positions_px - dense.scan.positions_px
    assert np.sqrt(np.square(away - away.mean(axis=0)).sum(axis=1).mean()) < 2
    np.testing.assert_allclose(
        found.moved_px, np.linalg.norm(found.positions_px - scan.positions_px, axis=1), atol=1e-9
    )
    assert found.probe.shape == (1, 64, 64)
    assert searched_positions(scan, image_of, bound_px=24.0, should_stop=lambda: True, threads=1) is None


def test_a_search_that_does_not_come_to_rest_is_given_up(dense: SimulatedScan) -> None:
    scan = off_by(dense, 25.0)
    found = searched_positions(scan, image_of, bound_px=24.0, should_stop=lambda: False, threads=1)
    assert found is not None
    assert not found.settled
    np.testing.assert_array_equal(found.positions_px, scan.positions_px)
    np.testing.assert_array_equal(found.moved_px, 0)
    assert "did not come to rest" in found.event().message


@pytest.mark.slow
def test_positions_are_refined_where_a_search_led_astray() -> None:
    """Errors of 5 px on frames of a focus: the search alone ended 6.8 px off on the mean."""
    made = simulate_scan(frames=200, photons=1e6, overlap=0.7, seed=3)
    true = made.scan.positions_px
    jitter = np.random.default_rng(1).normal(0, 5 / np.sqrt(2), true.shape)
    scan = replace(made.scan, positions_px=true + jitter)
    result = solve(scan, SolverConfig(refine_positions=True), NUMPY)
    off = result.positions_px - true
    assert np.linalg.norm(off - np.median(off, axis=0), axis=1).mean() < 0.5


@pytest.mark.slow
def test_what_was_searched_for_is_refined_and_taken(dense: SimulatedScan) -> None:
    scan = off_by(dense, 4.0)
    result = solve(scan, SolverConfig(refine_positions=True), NUMPY)
    away = result.positions_px - dense.scan.positions_px
    assert np.sqrt(np.square(away - away.mean(axis=0)).sum(axis=1).mean()) < 0.6
    assert any("Searched the position" in event.message for event in result.events)
    assert result.positions_given_px is not None
    np.testing.assert_array_equal(result.positions_given_px, scan.positions_px)


def test_near_positions_take_fewer_epochs_and_as_many_as_asked_for() -> None:
    plan = {"coarse_px": 64, "frame_px": 128, "n_frames": 100, "warm_start": False}
    config = SolverConfig(refine_positions=True)
    usual, near = (plan_levels(config, **plan, positions_are_near=on) for on in (False, True))
    assert [level.size_px for level in usual] == [level.size_px for level in near] == [64, 128, 128]
    assert [level.refines_positions for level in near] == [True, True, False]
    assert all(a.epochs < b.epochs for a, b in zip(near[:2], usual[:2], strict=True))
    assert near[0].epochs > near[1].epochs  # the coarse level is the cheaper one
    # A larger scan has few epochs at full size, and a level in the middle in their place.
    large = plan_levels(config, **plan | {"n_frames": 600})
    assert [(level.size_px, level.epochs) for level in large[1:]] == [(96, 6), (128, 6), (128, 6)]
    asked = plan_levels(SolverConfig(refine_positions=True, epochs=64), **plan, positions_are_near=True)
    assert sum(level.epochs for level in asked) == pytest.approx(64, abs=2)


@pytest.mark.slow
def test_independent_errors_of_a_real_scan_are_found(labyrinth: Path) -> None:
    with pytest.warns(PolicyWarning, match="dark amid light"):
        true = open_scan(labyrinth, dc="corner")
    with np.load(labyrinth) as file:
        given = file["scan_given"].astype(np.float64)
    result = solve(true.moved_to(given), SolverConfig(refine_positions=True))
    away = result.positions_px - true.positions_px
    length = np.linalg.norm(away - away.mean(axis=0), axis=1)
    assert np.sqrt(np.square(length).mean()) < 2
    assert length.max() < 8
    assert result.data_residual < 0.11
    told = next(event for event in result.events if "held out" in event.message)
    assert told.data["accepted"]


@pytest.mark.parametrize(("jitter_px", "accepted"), [(0.0, False), (0.5, True)])
def test_refined_positions_are_taken_where_frames_held_out_say_so(
    made: SimulatedScan, jitter_px: float, accepted: bool
) -> None:
    scan = off_by(made, jitter_px)
    plain, refined = (
        solve(scan, SolverConfig(refine_positions=on, prior="none"), NUMPY) for on in (False, True)
    )
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


def test_lost_frames_are_found_in_an_image_of_the_others() -> None:
    made = simulate_scan(object_kind="texture", frames=120, frame_px=64, photons=1e6, overlap=0.8, seed=1)
    lost, free_px = np.array([20, 61, 90]), np.zeros((120, 2))
    free_px[lost] = [[9, -8], [-10, 7], [0, 12]]
    put_px = made.scan.positions_px.copy()
    put_px[lost] += [[2, 3], [-4, 0], [3, -3]]

    def found_at(free_px: np.ndarray) -> tuple[list[int], np.ndarray]:
        scan = made.scan.moved_to(put_px + free_px)
        image = solve(scan, SolverConfig(effort="fast"), NUMPY)
        found = frames_found_again(
            replace(scan, probe=image.probe),
            data_residual(image.object, image.probe, scan.positions_px - image.origin_px, scan).per_frame,
            free_px,
            lambda part, how: solve(part, how, NUMPY),
            bound_px=10.0,
            threads=1,
        )
        if found is None:
            return [], put_px
        moved_px = scan.positions_px.copy()
        moved_px[found.frames] += found.moves_px
        return found.frames.tolist(), moved_px

    frames, moved_px = found_at(free_px)
    assert frames == lost.tolist()
    apart = np.linalg.norm(moved_px - made.scan.positions_px, axis=1)
    assert apart.max() < 2
    put_px = made.scan.positions_px
    assert found_at(np.zeros_like(free_px))[0] == []
