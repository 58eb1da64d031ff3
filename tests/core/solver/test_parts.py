"""The solver's parts against plain formulas in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from ptycho_config import hardware
from ptycho_config.errors import BackendUnavailableError, PolicyError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.arrays import ChunkThreads, array_libraries, load_arrays, one_blas_thread
from ptycho_core.physics.canvas import coverage_of, frequencies, resample_object
from ptycho_core.physics.gauge import hand_over_ramp, orthogonal_modes
from ptycho_core.result.assemble import make_reconstruction
from ptycho_core.result.callbacks import Callback
from ptycho_core.result.history import RunEvent
from ptycho_core.simulate import simulate_scan
from ptycho_core.solver import device, solve
from ptycho_core.solver.batches import plan_batches
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.schedule import plan_levels
from ptycho_core.solver.shifts import shift_filters, shift_weights
from ptycho_core.solver.windows import MARGIN_PX, Windows


def waves(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)


@pytest.fixture
def arrays(array_name: str):
    library = load_arrays(array_name, threads=2)
    with library.limits():
        yield library


def test_the_transform_keeps_energy_and_inverts(arrays) -> None:
    x = waves(np.random.default_rng(0), 2, 3, 16, 16)
    there = arrays.to_numpy(arrays.fft2(arrays.asarray(x.copy())))
    assert np.linalg.norm(there) == pytest.approx(np.linalg.norm(x), rel=1e-5)
    assert np.allclose(there, np.fft.fft2(x, norm="ortho"), atol=1e-5)
    assert np.allclose(arrays.to_numpy(arrays.ifft2(arrays.asarray(there))), x, atol=1e-5)


def test_project_is_the_adjoint_of_combine(arrays) -> None:
    random = np.random.default_rng(1)
    weights = random.normal(size=(5, 10)).astype(np.float32)
    basis, fields = waves(random, 2, 10, 8, 8), waves(random, 2, 5, 8, 8)
    forward = arrays.to_numpy(arrays.combine(arrays.asarray(weights), arrays.asarray(basis)))
    backward = arrays.to_numpy(arrays.project(arrays.asarray(weights), arrays.asarray(fields)))
    assert np.vdot(fields, forward) == pytest.approx(np.vdot(backward, basis), rel=1e-4)


def test_all_levels_look_at_one_copy_of_the_frames(arrays) -> None:
    scan = simulate_scan(frames=20, frame_px=32).scan
    frames = OrderedFrames.read(scan, np.arange(20))
    full, _ = frames.seen_at(32)
    for size_px in (16, 24):
        seen, _ = frames.seen_at(size_px)
        assert np.shares_memory(seen, full)
        assert np.shares_memory(arrays.host_view(arrays.asarray(seen)), full)


def test_adding_patches_is_the_adjoint_of_cutting_them(arrays) -> None:
    random = np.random.default_rng(2)
    canvas, patches = waves(random, 20, 24), waves(random, 4, 8, 8)
    corners = np.array([[0, 0], [3, 5], [3, 5], [12, 16]])
    cut = arrays.to_numpy(arrays.cut(arrays.asarray(canvas), corners, 8))
    target = arrays.zeros((20, 24), complex_values=True)
    arrays.add_patches(target, corners, arrays.asarray(patches))
    assert np.vdot(patches, cut) == pytest.approx(np.vdot(arrays.to_numpy(target), canvas), rel=1e-4)


def test_the_modulus_correction_is_the_formula(arrays) -> None:
    random = np.random.default_rng(3)
    field = waves(random, 2, 3, 8, 8)
    amplitude = random.random((3, 8, 8)).astype(np.float32)
    weight = (random.random((8, 8)) > 0.2).astype(np.float32)
    intensity = arrays.intensity(arrays.asarray(field.copy()))
    expected_intensity = (np.abs(field.astype(np.complex128)) ** 2).sum(axis=0)
    assert np.allclose(arrays.to_numpy(intensity), expected_intensity, rtol=1e-5)
    factor, misfit = arrays.modulus_correction(
        intensity, arrays.asarray(amplitude), 0.5, arrays.asarray(weight)
    )
    modulus = np.sqrt(expected_intensity + 0.5)
    assert np.allclose(arrays.to_numpy(factor), weight * (amplitude / modulus - 1), atol=1e-5)
    assert misfit == pytest.approx(np.sum(weight * np.abs(amplitude - modulus)), rel=1e-4)


def test_the_modulus_is_clamped_and_the_phase_kept(arrays) -> None:
    values = np.array([[3 + 4j, 0.3 - 0.4j, 0]], np.complex64)
    clamped = arrays.asarray(values.copy())
    arrays.clamp_modulus(clamped, 2.0)
    assert np.allclose(arrays.to_numpy(clamped), [[1.2 + 1.6j, 0.3 - 0.4j, 0]], atol=1e-6)


@given(st.integers(1, 7), st.integers(1, 40))
def test_chunks_cover_the_batch_once_and_in_order(n_threads: int, n_items: int) -> None:
    parts = ChunkThreads(n_threads).map(lambda chunk: list(range(chunk.start, chunk.stop)), n_items, 1 << 16)
    assert [i for part in parts for i in part] == list(range(n_items))


@settings(max_examples=20)
@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.sampled_from([32, 64, 128]))
def test_shifted_probes_are_exact_to_a_few_thousandths(row: float, column: float, size: int) -> None:
    k = frequencies(size)
    # Most light of a real probe is at low frequencies; this spectrum falls to 1 % at 0.3 cycles per pixel.
    spectrum = np.exp(-((k[:, None] ** 2 + k**2) / (2 * 0.1**2)))
    weights = shift_weights(np.array([[row, column]]))
    approximate = np.einsum("k,kij->ij", weights[0], shift_filters(size)) * spectrum
    exact = spectrum * np.exp(-2j * np.pi * (k[:, None] * row + k * column))
    assert np.linalg.norm(approximate - exact) <= 5e-3 * np.linalg.norm(exact)


def test_resampling_keeps_a_constant_and_a_smooth_object() -> None:
    flat = np.full((40, 44), 0.7 - 0.2j, np.complex64)
    finer = resample_object(flat, (72, 80), margin_px=4, old_scale=0.5, new_scale=1.0)
    assert np.allclose(finer[4:-8, 4:-8], 0.7 - 0.2j, atol=1e-5)
    coarse = np.arange(60) - 4.0
    smooth = np.exp(0.1j * np.sin(coarse / 5))[:, None] * np.ones(60)
    fine = (np.arange(100) - 4.0) / 2
    expected = np.exp(0.1j * np.sin(fine / 5))[:, None] * np.ones(100)
    result = resample_object(
        smooth.astype(np.complex64), (100, 100), margin_px=4, old_scale=0.5, new_scale=1.0
    )
    assert np.abs(result - expected)[10:-10, 10:-10].max() < 2e-3


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=8))
def test_solver_and_judge_choose_the_same_windows_at_half_pixels(halves: list[tuple[int, int]]) -> None:
    scan = simulate_scan(frames=len(halves), frame_px=16, seed=1).scan
    scan = replace(scan, positions_px=np.array(halves) / 2)
    frames = OrderedFrames.read(scan, np.arange(scan.n_frames))
    windows = Windows(
        frames,
        load_arrays("numpy", threads=1),
        size_px=16,
        shift_px=None,
        degree=2,
        parameters=None,
        margin_px=MARGIN_PX,
        shape=None,
    )
    result = make_reconstruction(
        scan,
        obj=np.ones(windows.shape, np.complex64),
        probe=np.ones((1, 16, 16), np.complex64),
        origin_px=scan.positions_px.min(axis=0) - MARGIN_PX - 8,
        method="solver",
    )
    solved = np.zeros(windows.shape, bool)
    for row, column in windows.corners:
        solved[row : row + 16, column : column + 16] = True
    np.testing.assert_array_equal(result.coverage > 0, solved)


@settings(max_examples=25)
@given(st.integers(1, 300), st.integers(2, 40), st.integers(0, 5))
def test_every_frame_is_in_exactly_one_batch(n_frames: int, per_batch: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    positions = random.uniform(0, 300, (n_frames, 2))
    order, batches = plan_batches(positions, frame_px=32, frames_per_batch=per_batch, random=random)
    assert sorted(order.tolist()) == list(range(n_frames))
    covered = [i for batch in batches for i in range(batch.frames.start, batch.frames.stop)]
    assert covered == list(range(n_frames))
    assert all(batch.frames.stop > batch.frames.start for batch in batches)


@settings(max_examples=40)
@given(st.integers(1, 8), st.integers(4, 40), st.integers(2, 40))
def test_an_epoch_of_several_ranks_has_as_many_steps_as_that_of_one(
    ranks: int, each: int, per_batch: int
) -> None:
    """Up to the twelve times that they agree in an epoch."""
    positions = np.random.default_rng(0).uniform(0, 300, (ranks * each, 2))
    how = {"frame_px": 32, "frames_per_batch": per_batch, "random": np.random.default_rng(1)}
    _, alone = plan_batches(positions, **how)
    members = np.arange(0, ranks * each, ranks)
    order, ours = plan_batches(positions, **how, members=members, ranks=ranks)
    assert sorted(order.tolist()) == members.tolist()
    assert all(batch.frames.stop > batch.frames.start for batch in ours)
    assert len(ours) >= min(len(alone), 12, each)


def test_a_large_scan_is_cut_into_compact_cells() -> None:
    random = np.random.default_rng(0)
    positions = random.uniform(0, 1200, (20000, 2))
    order, batches = plan_batches(positions, frame_px=64, frames_per_batch=24, random=random)
    cells = {batch.cell.start: batch.cell for batch in batches}
    assert len(cells) >= 16
    assert all(np.prod(np.ptp(positions[order[c]], axis=0)) < 1200**2 / 8 for c in cells.values())


def test_handing_over_the_ramp_changes_no_exit_wave() -> None:
    random = np.random.default_rng(4)
    obj, probe = waves(random, 30, 34), waves(random, 2, 16, 16)
    obj *= np.exp(0.1j * np.arange(34) - 0.05j * np.arange(30)[:, None])
    flat, lit = hand_over_ramp(obj, probe, np.ones(obj.shape, np.float32))
    before, after = probe * obj[5:21, 9:25], lit * flat[5:21, 9:25]
    ratio = after / before
    assert np.allclose(ratio, ratio[0, 0, 0], atol=1e-3)
    assert abs(ratio[0, 0, 0]) == pytest.approx(1, abs=1e-5)


def test_mixing_modes_keeps_every_intensity() -> None:
    probe = waves(np.random.default_rng(5), 3, 16, 16)
    mixed, _ = orthogonal_modes(probe)
    assert np.allclose((np.abs(mixed) ** 2).sum(0), (np.abs(probe) ** 2).sum(0), rtol=1e-4)


def test_coverage_is_the_light_of_all_windows() -> None:
    random = np.random.default_rng(6)
    probe = waves(random, 1, 8, 8)
    corners = random.integers(1, 20, (9, 2))
    expected = np.zeros((30, 30))
    for row, column in corners:
        expected[row : row + 8, column : column + 8] += np.abs(probe[0]) ** 2
    found = coverage_of(probe, corners, (30, 30))
    assert np.allclose(found, expected / expected.max(), atol=1e-5)
    assert np.array_equal(found > 0, expected > 0)


def test_automatic_arrays_are_numpy_where_no_gpu_driver_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "nvidia_driver_present", lambda: False)
    _, choice = device.choose_arrays(SolverExecutionConfig())
    assert (choice.arrays, choice.device) == ("numpy", "cpu")


@pytest.mark.finding("POLICY-001")
def test_an_explicit_gpu_that_is_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_torch_sees_gpu", lambda: False)
    with pytest.raises(PolicyError, match=r"POLICY-001.*--accelerator cpu") as refusal:
        device.choose_arrays(SolverExecutionConfig(accelerator="cuda"))
    assert refusal.value.finding == "POLICY-001"


def test_a_visible_gpu_is_taken_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "nvidia_driver_present", lambda: True)
    monkeypatch.setattr(device, "_torch_sees_gpu", lambda: True)
    assert device._resolve("auto", "auto")[:2] == ("torch", "cuda")
    assert device._resolve("numpy", "auto")[:2] == ("numpy", "cpu")
    assert device._resolve("auto", "cpu")[:2] == ("numpy", "cpu")


def test_unknown_arrays_name_the_command_that_installs_them() -> None:
    with pytest.raises(BackendUnavailableError, match="pip install"):
        load_arrays("cupy")
    assert "numpy" in array_libraries()


@given(st.integers(1, 80), st.sampled_from([64, 80, 96, 128]), st.integers(4, 5000))
def test_the_epochs_asked_for_are_shared_among_the_levels(epochs: int, coarse_px: int, n_frames: int) -> None:
    config = SolverConfig(epochs=epochs)
    levels = plan_levels(config, coarse_px=coarse_px, frame_px=128, n_frames=n_frames, warm_start=False)
    assert sum(level.epochs for level in levels) == epochs
    assert levels[-1].size_px == 128
    assert [level.last for level in levels] == [False] * (len(levels) - 1) + [True]
    assert all(level.least_epochs in (None, level.epochs) for level in levels)


@given(st.sampled_from([64, 96, 128]), st.integers(1, 30000))
def test_small_scans_get_more_epochs_at_the_full_level(coarse_px: int, n_frames: int) -> None:
    plan = {"coarse_px": coarse_px, "frame_px": 128, "warm_start": False}
    here, larger = (
        plan_levels(SolverConfig(), n_frames=count, **plan)[-1] for count in (n_frames, 2 * n_frames)
    )
    least = [level.epochs if level.least_epochs is None else level.least_epochs for level in (here, larger)]
    assert 6 <= least[1] <= least[0] <= 30


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_the_threads_of_blas_keep_still_until_the_last_one_has_left() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)  # the one that found them at work leaves first
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == before


def test_a_solve_and_its_search_of_positions_leave_the_threads_of_blas_alone() -> None:
    scan = simulate_scan(frames=40, frame_px=32).scan
    seen: list[int] = []

    class Watch(Callback):
        def on_event(self, event: RunEvent) -> None:
            seen.extend(blas_threads())

    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        solve(scan, SolverConfig(effort="fast", epochs=2, refine_positions=True), callbacks=[Watch()])
        assert blas_threads() == before
    assert set(seen) == {1}
