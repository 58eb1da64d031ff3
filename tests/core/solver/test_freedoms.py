"""What is found for each frame: position, intensity, weights of the OPR modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, scan_from_arrays, solve
from ptycho_core.arrays import NumpyArrays
from ptycho_core.kernel import load_kernel
from ptycho_core.metrics import compare
from ptycho_core.simulate import simulate_scan
from ptycho_core.simulate.scan import expected_intensity
from ptycho_core.solver.frame_parameters import FrameMeasurement, FrameModel, FrameParameters
from ptycho_core.solver.frame_updates import better_places
from ptycho_core.solver.shifts import shift_slopes, shift_weights

NUMPY = SolverExecutionConfig(arrays="numpy", threads=1)


def position_error(result: Reconstruction, true_px: np.ndarray) -> float:
    wrong = result.positions_px - true_px
    return float(np.linalg.norm(wrong - wrong.mean(axis=0), axis=1).mean())


def test_the_slopes_are_the_derivatives_of_the_weights() -> None:
    at, by = np.random.default_rng(0).uniform(-0.4, 0.4, (5, 2)), 1e-3
    for axis, slopes in enumerate(shift_slopes(at)):
        step = by * np.eye(2)[axis]
        found = (shift_weights(at + step) - shift_weights(at - step)) / (2 * by)
        np.testing.assert_allclose(slopes, found, atol=2e-3)


def test_overlaps_are_real_parts_of_inner_products() -> None:
    random = np.random.default_rng(1)
    basis, waves = (
        (random.normal(size=s) + 1j * random.normal(size=s)).astype(np.complex64)
        for s in ((2, 3, 4, 4), (2, 5, 4, 4))
    )
    expected = np.einsum("pmyx,pkyx->mk", waves, basis.conj()).real
    np.testing.assert_allclose(NumpyArrays(threads=1).overlaps(basis, waves), expected, rtol=1e-4, atol=1e-4)


def test_orthogonalising_changes_no_probe_of_any_frame() -> None:
    random = np.random.default_rng(2)
    parameters = FrameParameters(FrameModel(variations=2), random.uniform(0, 9, (7, 2)), np.arange(7))
    probe = random.normal(size=(1, 8, 8)) + 1j * random.normal(size=(1, 8, 8))
    variations = (random.normal(size=(1, 2, 8, 8)) + 1j * random.normal(size=(1, 2, 8, 8))).astype(
        np.complex64
    )
    before = probe + np.einsum("ml,plyx->mpyx", parameters.weights[:, 1:], variations)[:, 0][:, None]
    probe, variations = parameters.orthogonalise(probe, variations)
    after = probe + np.einsum("ml,plyx->mpyx", parameters.weights[:, 1:], variations)[:, 0][:, None]
    np.testing.assert_allclose(after, before, atol=1e-4)
    np.testing.assert_allclose(parameters.weights[:, 1:].mean(axis=0), 0, atol=1e-9)


def test_a_variation_that_is_the_probe_itself_is_intensity() -> None:
    random = np.random.default_rng(5)
    parameters = FrameParameters(
        FrameModel(intensity=True, variations=2), random.uniform(0, 9, (9, 2)), np.arange(9)
    )
    parameters.weights[:, 0] = random.uniform(0.8, 1.2, 9)
    parameters.weights[:, 1:] += 0.5
    probe = (random.normal(size=(2, 8, 8)) + 1j * random.normal(size=(2, 8, 8))).astype(np.complex64)
    other = (random.normal(size=(2, 8, 8)) + 1j * random.normal(size=(2, 8, 8))).astype(np.complex64)
    variations = np.stack([0.1 * probe + 0.02 * other, 0.02 * other], axis=1)

    def of_frames() -> np.ndarray:
        weights = parameters.weights
        return weights[:, 0, None, None, None] * probe + np.einsum(
            "ml,plyx->mpyx", weights[:, 1:], variations
        )

    before = of_frames()
    probe, variations = parameters.orthogonalise(probe, variations)
    np.testing.assert_allclose(of_frames(), before, atol=1e-5)
    overlap = np.einsum("plyx,pyx->l", variations, probe.conj()).real
    np.testing.assert_allclose(overlap, 0, atol=1e-4)
    assert np.ptp(parameters.weights[:, 0]) > 0.2


def test_no_frame_loses_all_its_light_to_a_variation() -> None:
    random = np.random.default_rng(6)
    parameters = FrameParameters(FrameModel(intensity=True, variations=1), np.zeros((9, 2)), np.arange(9))
    probe = (random.normal(size=(1, 8, 8)) + 1j * random.normal(size=(1, 8, 8))).astype(np.complex64)
    _, variations = parameters.orthogonalise(probe, probe[:, None].copy())
    np.testing.assert_allclose(parameters.weights[:, 0], 1)
    assert np.abs(variations).max() > 0


def test_no_frame_leaves_its_bound() -> None:
    parameters = FrameParameters(FrameModel(position_bound_px=0.5), np.zeros((4, 2)), np.arange(4))
    parameters.relocate(np.arange(4), np.full((4, 2), 3.0))
    assert np.linalg.norm(parameters.correction_px, axis=1) == pytest.approx(0.5)


@pytest.mark.parametrize("common_moves", [True, False])
def test_frames_move_together_first_and_not_at_all_behind_a_search(common_moves: bool) -> None:
    random = np.random.default_rng(3)
    positions = random.uniform(0, 99, (6, 2))
    model = FrameModel(position_bound_px=5.0, common_moves=common_moves)
    parameters = FrameParameters(model, positions, np.arange(6))
    measured = FrameMeasurement(
        remainders_px=np.zeros((6, 2)),
        by_weight=np.zeros((6, 1)),
        by_function=random.normal(size=(6, 10)),
        curvature=np.tile(np.eye(2), (6, 1, 1)),
        counts=np.ones(6),
        variation_power=np.zeros(0),
    )
    linear, due = [], []
    for _ in range(8):
        parameters.update(measured, scale=1.0, degree=3, step=1.0)
        parameters.end_epoch()
        due.append(parameters.strain_is_due)
        # A drift is linear in time: then second differences are 0.
        linear.append(np.abs(np.diff(parameters.correction_px, 2, axis=0)).max() < 1e-12)
    assert np.abs(parameters.correction_px).max() > 0
    assert all(linear) == common_moves
    assert any(due) == common_moves


@pytest.mark.parametrize("axis", [0, 1])
def test_a_frame_stays_along_an_axis_by_which_its_object_hardly_changes(axis: int) -> None:
    """All frames are told to go the same way; on the last one the object is flat, along one axis."""
    parameters = FrameParameters(
        FrameModel(position_bound_px=5.0, common_moves=False), np.zeros((6, 2)), np.arange(6)
    )
    curvature = np.tile(np.eye(2), (6, 1, 1))
    curvature[-1, axis, axis] = 1e-3
    measured = FrameMeasurement(
        remainders_px=np.zeros((6, 2)),
        by_weight=np.zeros((6, 1)),
        by_function=np.full((6, 10), 0.01),
        curvature=curvature,
        counts=np.ones(6),
        variation_power=np.zeros(0),
    )
    for _ in range(8):
        parameters.update(measured, scale=1.0, degree=3, step=1.0)
        parameters.end_epoch()
    moved = np.abs(parameters.free_px)
    assert (moved[:-1] > 0.1).all()
    assert moved[-1, axis] < 0.1 * moved[0, axis]
    assert moved[-1, 1 - axis] == pytest.approx(moved[0, 1 - axis], rel=0.05)


@example(1.2, 3, 0)  # no step of the search is within this bound
@given(st.floats(0, 6), st.integers(-6, 6), st.integers(-6, 6))
def test_a_better_place_is_found_within_the_bound_and_nowhere_else(reach_px: float, y: int, x: int) -> None:
    """The last of three frames belongs at (y, x)."""

    def misfits(frames: Any, offset: np.ndarray) -> np.ndarray:
        away = np.array([0, 0, np.hypot(*(offset - (y, x)))])
        return (1 + away)[frames]

    moved, moves_px = better_places(misfits, reach_px)
    assert set(moved.tolist()) <= {2}
    assert moves_px.shape == (len(moved), 2)
    assert (np.linalg.norm(moves_px, axis=1) <= reach_px).all()
    if np.hypot(y, x) > 2 and np.hypot(y, x) + 2 <= reach_px:
        assert np.linalg.norm(moves_px - (y, x), axis=1) <= np.sqrt(2)


@pytest.mark.slow
@pytest.mark.parametrize(("jitter_px", "bar_px"), [(0.5, 0.1), (2.0, 0.2), (5.0, 0.5)])
def test_positions_come_back(jitter_px: float, bar_px: float, tmp_path: Path) -> None:
    made = simulate_scan(frames=200, photons=1e6, overlap=0.7, seed=3)
    true = made.scan.positions_px
    moved = np.random.default_rng(7).normal(0, jitter_px / np.sqrt(2), true.shape)
    scan = replace(made.scan, positions_px=true + moved)
    result = solve(scan, SolverConfig(refine_positions=True), NUMPY)
    assert position_error(result, true) < bar_px
    files = result.save(tmp_path)
    assert files["positions.png"].stat().st_size > 10_000
    again = Reconstruction.load(tmp_path)
    np.testing.assert_array_equal(again.positions_given_px, scan.positions_px)


@pytest.mark.slow
@pytest.mark.parametrize(("made_with", "off_with", "jitter_px"), [(4, 7, 5.0), (3, 9, 0.5)])
def test_no_frame_is_left_behind(made_with: int, off_with: int, jitter_px: float) -> None:
    """Two frames ended 16 and 20 px away in the first scan, one on a flat object 1.4 px in the other."""
    made = simulate_scan(frames=200, photons=1e6, overlap=0.7, seed=made_with)
    true = made.scan.positions_px
    moved = np.random.default_rng(off_with).normal(0, jitter_px / np.sqrt(2), true.shape)
    scan = replace(made.scan, positions_px=true + moved)
    result = solve(scan, SolverConfig(refine_positions=True), NUMPY)
    wrong = result.positions_px - true
    assert np.linalg.norm(wrong - np.median(wrong, axis=0), axis=1).max() < 1


@pytest.mark.slow
def test_a_stretched_and_drifting_scan_comes_back() -> None:
    made = simulate_scan(frames=200, photons=1e6, overlap=0.7, seed=3)
    true = made.scan.positions_px
    time = np.linspace(-1, 1, len(true))[:, None]
    wrong = true + 0.02 * (true - true.mean(axis=0)) + time * np.array([2.0, -1.4])
    result = solve(replace(made.scan, positions_px=wrong), SolverConfig(refine_positions=True), NUMPY)
    assert position_error(result, true) < 0.2


@pytest.mark.slow
def test_the_intensity_of_each_frame_is_found() -> None:
    made = simulate_scan(frames=200, photons=1e6, overlap=0.7, seed=3)
    random, true = np.random.default_rng(1), made.scan.positions_px
    bright = (1 - 0.5 * np.linspace(0, 1, 200)) * random.uniform(0.7, 1.3, 200)
    bright /= bright.mean()
    counts = random.poisson(
        expected_intensity(made.obj, made.probe, true).astype(float) * bright[:, None, None]
    )
    scan = scan_from_arrays(
        counts.astype(np.uint32), true, made.scan.probe, measurement="counts", dc="center", name="flicker"
    )
    plain, found = (solve(scan, SolverConfig(frame_intensity=on), NUMPY) for on in (False, True))
    assert plain.frame_intensity is None and found.frame_intensity is not None
    assert np.corrcoef(found.frame_intensity, bright)[0, 1] > 0.98
    truth = replace(
        plain, object=made.obj, origin_px=np.zeros(2), coverage=np.ones(made.obj.shape, np.float32)
    )
    errors = [compare(result, truth).values["object_error"] for result in (plain, found)]
    assert errors[1] < 0.5 * errors[0]


def test_a_start_with_corrected_positions_keeps_them(make_scan: Callable[..., object]) -> None:
    scan = make_scan().scan  # type: ignore[attr-defined]
    scan = scan.moved_to(scan.positions_px + np.random.default_rng(3).normal(0, 0.6, scan.positions_px.shape))
    config = SolverConfig(refine_positions=True, epochs=40, probe_search=False)
    first = solve(scan, config, NUMPY)
    assert first.positions_given_px is not None
    assert not np.array_equal(first.positions_px, scan.positions_px)
    plain = SolverConfig(epochs=1)
    again = solve(scan, plain, NUMPY, start=first)
    np.testing.assert_array_equal(again.positions_px, first.positions_px)
    np.testing.assert_array_equal(again.positions_given_px, scan.positions_px)


@pytest.mark.skipif(load_kernel().library is None, reason=load_kernel().message)
@pytest.mark.parametrize("frame_px", [pytest.param(32, marks=pytest.mark.slow), 50])
def test_the_kernel_finds_what_the_arrays_find(frame_px: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions, strain, intensities, variations, modes and background, by the laws of the arrays."""
    monkeypatch.setattr("ptycho_core.solver.unseen_frames._LEAST_GAIN", -1.0)
    monkeypatch.setattr("ptycho_core.solver.unseen_frames._LEAST_SHARE", 0.0)
    made = simulate_scan(frames=40, frame_px=frame_px, photons=1e6, overlap=0.75, seed=6)
    moved = np.random.default_rng(8).normal(0, 0.7, made.scan.positions_px.shape)
    bright = replace(made.scan, positions_px=made.scan.positions_px + moved)
    scan = replace(bright, bad_pixels=np.random.default_rng(1).random((40, frame_px, frame_px)) < 0.01)
    config = SolverConfig(
        seed=2,
        epochs=24,
        prior="none",
        probe_modes=2,
        refine_positions=True,
        frame_intensity=True,
        probe_variations=2,
        refine_background=True,
    )
    arrays, kernel = (
        solve(scan, config, SolverExecutionConfig(arrays="numpy", threads=2, kernel=which))
        for which in ("off", "required")
    )
    assert kernel.data_residual == pytest.approx(arrays.data_residual, rel=1e-3)
    np.testing.assert_allclose(kernel.positions_px, arrays.positions_px, atol=0.02)
    np.testing.assert_allclose(kernel.frame_intensity, arrays.frame_intensity, atol=2e-3)
    assert np.abs(kernel.positions_px - scan.positions_px).max() > 0.05


def test_torch_finds_what_numpy_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of positions, intensities and variations by the arrays of the PyTorch core."""
    # Three epochs are no refinement that frames held out would bear out.
    monkeypatch.setattr("ptycho_core.solver.unseen_frames._LEAST_GAIN", -1.0)
    monkeypatch.setattr("ptycho_core.solver.unseen_frames._LEAST_SHARE", 0.0)
    pytest.importorskip("ptycho_core_torch", reason="the core of `torch` is not installed")
    pytest.importorskip("torch", reason="PyTorch is not installed")
    made = simulate_scan(frames=40, frame_px=32, photons=1e6, overlap=0.75, seed=6)
    moved = np.random.default_rng(8).normal(0, 0.7, made.scan.positions_px.shape)
    scan = replace(made.scan, positions_px=made.scan.positions_px + moved)
    config = SolverConfig(
        effort="fast", seed=2, epochs=8, refine_positions=True, frame_intensity=True, probe_variations=2
    )
    torch = SolverExecutionConfig(arrays="torch", accelerator="cpu", threads=1)
    one, other = solve(scan, config, NUMPY), solve(scan, config, torch)
    assert other.data_residual == pytest.approx(one.data_residual, rel=0.02)
    apart = one.positions_px - other.positions_px
    assert np.linalg.norm(apart - apart.mean(axis=0), axis=1).mean() < 0.05
    assert np.abs(one.positions_px - scan.positions_px).max() > 0.05
