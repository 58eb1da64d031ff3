"""The solver on scans with known truth, whatever the arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ptycho_config.errors import ConfigError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Callback, Reconstruction, Scan, scan_from_arrays, solve
from ptycho_core.metrics import object_error
from ptycho_core.metrics.compare import compare
from ptycho_core.physics.residual import data_residual
from ptycho_core.simulate import simulate_scan

MakeScan = Callable[..., "KnownScan"]
NUMPY = SolverExecutionConfig(arrays="numpy", threads=2)


def on_truth_canvas(result: Reconstruction, known) -> np.ndarray:
    """The reconstructed object on the canvas of the truth, whole pixels, 1 where there is nothing."""
    first = known.scan.positions_px[0] - known.scan.frame_px // 2 - known.top_left_px[0]
    offset = np.round(first - result.origin_px).astype(int)
    rows = np.arange(known.obj.shape[0]) + offset[0]
    columns = np.arange(known.obj.shape[1]) + offset[1]
    inside = np.ix_(
        (rows >= 0) & (rows < result.object.shape[0]), (columns >= 0) & (columns < result.object.shape[1])
    )
    placed = np.ones(known.obj.shape, np.complex64)
    placed[inside] = result.object[
        np.ix_(
            rows[(rows >= 0) & (rows < result.object.shape[0])],
            columns[(columns >= 0) & (columns < result.object.shape[1])],
        )
    ]
    return placed


def coverage_of_truth(known) -> np.ndarray:
    light = (np.abs(known.probe) ** 2).sum(axis=0)
    covered = np.zeros(known.obj.shape, np.float32)
    n = known.scan.frame_px
    for row, column in np.round(known.top_left_px).astype(int):
        covered[row : row + n, column : column + n] += light
    return covered


def error_of(result: Reconstruction, known) -> float:
    return object_error(
        on_truth_canvas(result, known), known.obj.astype(np.complex64), coverage_of_truth(known)
    ).value


def test_the_object_of_a_known_scan_is_recovered(
    make_scan: MakeScan, execution: SolverExecutionConfig
) -> None:
    known = make_scan()
    result = solve(known.scan, execution=execution)
    assert error_of(result, known) < 0.12
    assert np.isfinite(result.object).all()
    assert np.isfinite(result.probe).all()


@pytest.mark.parametrize("frame_px", [pytest.param(32, marks=pytest.mark.slow), 48, 80])
def test_the_object_is_recovered_at_several_frame_sizes(make_scan: MakeScan, frame_px: int) -> None:
    known = make_scan(frame_px=frame_px, step_px=frame_px / 9, side=(8, 8))
    assert error_of(solve(known.scan, execution=NUMPY), known) < 0.25


def test_all_arrays_give_the_same_result(make_scan: MakeScan, execution: SolverExecutionConfig) -> None:
    scan, config = make_scan().scan, SolverConfig(effort="fast")
    reference = solve(scan, config, SolverExecutionConfig(arrays="numpy", threads=2, kernel="off"))
    other = solve(scan, config, execution)
    # float32 through some hundred steps of descent with momentum
    assert np.abs(other.object - reference.object).max() < 5e-3
    assert other.data_residual == pytest.approx(reference.data_residual, abs=1e-4)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(make_scan: MakeScan) -> None:
    scan = make_scan().scan
    first, second = (solve(scan, SolverConfig(effort="fast", seed=3), NUMPY) for _ in range(2))
    other = solve(scan, SolverConfig(effort="fast", seed=4), NUMPY)
    assert np.array_equal(first.object, second.object)
    assert np.array_equal(first.probe, second.probe)
    assert not np.array_equal(first.object, other.object)


@pytest.mark.parametrize("modes", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_partial_coherence_needs_as_many_modes(make_scan: MakeScan, modes: int) -> None:
    known = make_scan(modes=modes, poisson=False)
    one = solve(known.scan, execution=NUMPY)
    several = solve(known.scan, SolverConfig(probe_modes=modes), NUMPY)
    assert several.data_residual < 0.7 * one.data_residual
    assert several.probe.shape[0] == modes
    gram = np.einsum("pij,qij->pq", several.probe.conj(), several.probe)
    power = np.diag(gram).real
    assert np.all(np.diff(power) <= 0)
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-3 * power[0]


@pytest.mark.parametrize("frame_px", [48, 112])
def test_frame_sizes_that_the_kernel_does_not_know_are_solved_by_the_arrays(
    make_scan: MakeScan, frame_px: int
) -> None:
    known = make_scan(frame_px=frame_px, side=(4, 5))
    result = solve(known.scan, SolverConfig(effort="fast"), NUMPY)
    plain = solve(
        known.scan,
        SolverConfig(effort="fast"),
        SolverExecutionConfig(arrays="numpy", threads=2, kernel="off"),
    )
    assert result.data_residual == pytest.approx(plain.data_residual, abs=2e-3)


def test_bad_pixels_carry_no_weight(make_scan: MakeScan) -> None:
    known = make_scan(bad_pixels=True)
    assert error_of(solve(known.scan, execution=NUMPY), known) < 0.15


def test_four_frames_are_enough_to_run(make_scan: MakeScan) -> None:
    result = solve(make_scan(side=(2, 2)).scan, execution=NUMPY)
    assert result.n_frames == 4
    assert np.isfinite(result.object).all()
    assert result.data_residual < 0.2


@pytest.mark.parametrize("side", [(30, 1), (1, 30)])
def test_a_scan_of_one_column_or_row_is_solved(make_scan: MakeScan, side: tuple[int, int]) -> None:
    result = solve(make_scan(side=side).scan, execution=NUMPY)
    assert np.isfinite(result.object).all()
    assert result.data_residual < 0.2


def test_frames_without_counts_are_reported_as_nan_and_do_no_harm(make_scan: MakeScan) -> None:
    known = make_scan()
    counts = known.scan.counts().copy()
    counts[7] = 0
    told = {"measurement": "counts", "dc": "center", "bad_frames": "off"}
    dark = scan_from_arrays(counts, known.scan.positions_px, known.scan.probe, **told)
    result = solve(dark, SolverConfig(leave_out_frames=False), NUMPY)
    assert np.isnan(result.residual_per_frame[7])
    assert np.isfinite(np.delete(result.residual_per_frame, 7)).all()
    assert np.isfinite(result.object).all()


def test_positions_far_from_the_origin_change_nothing_but_the_origin(make_scan: MakeScan) -> None:
    near = solve(make_scan().scan, SolverConfig(effort="fast"), NUMPY)
    far = solve(make_scan(offset_px=(-1e5, 3e5)).scan, SolverConfig(effort="fast"), NUMPY)
    assert np.allclose(far.object, near.object, atol=1e-3)
    assert np.allclose(far.origin_px - near.origin_px, (-1e5, 3e5), atol=1e-3)


def test_an_absent_probe_is_estimated(make_scan: MakeScan) -> None:
    known = make_scan(with_probe=False)
    assert known.scan.probe_source == "estimated"
    result = solve(known.scan, execution=NUMPY)
    assert result.data_residual < 0.25


def test_the_canvas_holds_every_window_and_a_margin(make_scan: MakeScan) -> None:
    result = solve(make_scan().scan, SolverConfig(effort="fast"), NUMPY)
    top_left = result.positions_on_canvas_px() - result.frame_px // 2
    assert (np.floor(top_left) >= 1).all()
    assert (np.ceil(top_left) + result.frame_px + 1 <= result.object.shape).all()
    assert np.all(result.object[result.coverage == 0] == 1)
    assert result.coverage.max() == pytest.approx(1)


def test_anyone_can_recompute_the_residual_from_the_file(make_scan: MakeScan, tmp_path) -> None:
    scan = make_scan().scan
    solve(scan, SolverConfig(effort="fast"), NUMPY).save(tmp_path, figures=False)
    saved = Reconstruction.load(tmp_path)
    again = data_residual(saved.object, saved.probe, saved.positions_on_canvas_px(), scan)
    assert again.value == pytest.approx(saved.data_residual, rel=1e-5)
    # Physical units: no scale is needed between the model and the counts, but for the fit itself.
    assert again.scale == pytest.approx(1, abs=0.02)


class StopAfter(Callback):
    """Ask to stop after a number of batches, as a user with Ctrl-C would."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps, self.steps, self.epochs = n_steps, 0, 0

    def on_step(self, step) -> None:
        self.steps += 1

    def on_epoch(self, epoch) -> None:
        self.epochs += 1

    def should_stop(self) -> bool:
        return self.steps >= self.n_steps


@pytest.mark.parametrize("n_steps", [0, 5, 200])
def test_stopping_keeps_the_image_reached_so_far(make_scan: MakeScan, n_steps: int) -> None:
    stop = StopAfter(n_steps)
    result = solve(make_scan().scan, SolverConfig(probe_search=False), NUMPY, [stop])
    assert result.interrupted
    assert any(event.kind == "stopped" for event in result.events)
    assert np.isfinite(result.object).all()
    assert stop.steps <= n_steps + 1


def test_stopping_while_the_start_probe_is_searched_keeps_the_given_one(make_scan: MakeScan) -> None:
    known = make_scan()
    result = solve(known.scan, SolverConfig(), NUMPY, [StopAfter(0)])
    assert result.interrupted
    assert np.isfinite(result.object).all()
    chosen = next(event for event in result.events if event.kind == "start_probe")
    assert (chosen.data["family"], chosen.data["value"]) == ("defocus", 0.0)


class Keep(Callback):
    """Take every state that is offered, and fail as a crash would after some."""

    def __init__(self, crash_after: int) -> None:
        self.states: list[Reconstruction] = []
        self.crash_after = crash_after

    def on_state(self, make_result) -> None:
        self.states.append(make_result())
        if len(self.states) == self.crash_after:
            raise MemoryError("a crash in the middle of the run")


def test_the_state_after_every_epoch_is_a_result_to_go_on_from(make_scan: MakeScan, tmp_path) -> None:
    scan = make_scan().scan
    keep = Keep(crash_after=9)
    with pytest.raises(MemoryError):
        solve(scan, SolverConfig(epochs=12), NUMPY, [keep])
    residuals = [state.data_residual for state in keep.states]
    assert len(residuals) == 9
    assert residuals[-1] < residuals[0]
    assert all(state.interrupted for state in keep.states)
    keep.states[-1].save_arrays(tmp_path)
    last = Reconstruction.load(tmp_path)
    assert [row["epoch"] for row in last.history] == [row["epoch"] for row in keep.states[-1].history]
    assert solve(scan, SolverConfig(epochs=4), NUMPY, start=last).data_residual < residuals[-1]


def test_what_is_saved_is_what_is_loaded(make_scan: MakeScan, tmp_path) -> None:
    result = solve(make_scan(photons=20).scan, SolverConfig(effort="fast"), NUMPY)
    result.save(tmp_path, figures=False)
    again = Reconstruction.load(tmp_path)
    assert again.image_reliable is False
    better = solve(make_scan().scan, SolverConfig(effort="fast"), NUMPY)
    better.save(tmp_path, figures=False)
    again = Reconstruction.load(tmp_path)
    assert again.dose_carries_image
    assert again.image_reliable == better.image_reliable
    assert again.history == better.history
    assert np.array_equal(again.object, better.object)


def test_a_time_budget_ends_the_run_with_a_full_result(make_scan: MakeScan) -> None:
    scan = make_scan().scan
    whole = solve(scan, SolverConfig(), NUMPY)
    result = solve(scan, SolverConfig(max_time=0.001), NUMPY)
    assert np.isfinite(result.object).all()
    assert len(result.history) < len(whole.history)


def test_a_diverging_run_steps_back_and_says_so(make_scan: MakeScan) -> None:
    result = solve(make_scan().scan, SolverConfig(object_step=30.0, probe_search=False), NUMPY)
    assert any(event.kind == "backoff" for event in result.events)
    assert np.isfinite(result.object).all()
    assert result.data_residual < 0.5


def test_a_run_can_start_from_an_earlier_result(make_scan: MakeScan) -> None:
    scan = make_scan().scan
    rough = solve(scan, SolverConfig(effort="fast", epochs=4), NUMPY)
    better = solve(scan, SolverConfig(effort="fast"), NUMPY, start=rough)
    assert better.data_residual < rough.data_residual
    assert all(row["size_px"] == scan.frame_px for row in better.history)


@pytest.mark.parametrize("final_size", [16, 24])
def test_going_on_at_a_coarser_pixel_begins_with_the_image_reached(
    make_scan: MakeScan, final_size: int
) -> None:
    scan = make_scan().scan
    rough = solve(scan, SolverConfig(effort="fast", epochs=4), NUMPY)
    still = SolverConfig(epochs=1, final_size=final_size, object_step=1e-6, probe_step=1e-6)
    assert solve(scan, still, NUMPY, start=rough).data_residual < 1.3 * rough.data_residual


def test_a_start_of_another_frame_size_is_refused(make_scan: MakeScan) -> None:
    other = solve(make_scan(frame_px=48).scan, SolverConfig(effort="fast", epochs=2), NUMPY)
    with pytest.raises(ConfigError, match="probe of 48 px and the scan has frames of 32 px"):
        solve(make_scan().scan, start=other)


def test_too_few_photons_give_a_transparent_object_and_a_reason(make_scan: MakeScan) -> None:
    result = solve(make_scan(photons=3).scan, execution=NUMPY)
    assert not result.image_reliable
    assert np.allclose(np.abs(result.object), 1)
    event = next(event for event in result.events if event.kind == "dose")
    assert "carry no image" in event.message
    assert not result.dose_carries_image


def test_progress_is_reported_level_by_level(make_scan: MakeScan) -> None:
    stop = StopAfter(10**9)
    result = solve(make_scan().scan, SolverConfig(effort="fast"), NUMPY, [stop])
    assert stop.epochs == len(result.history)
    assert [row["level"] for row in result.history] == sorted(row["level"] for row in result.history)
    assert result.history[-1]["size_px"] == result.frame_px


def test_the_real_scan_is_explained_down_to_the_known_residual(
    siemens_star: Scan, quick_execution: SolverExecutionConfig
) -> None:
    assert solve(siemens_star, SolverConfig(effort="fast"), quick_execution).data_residual <= 0.149


@pytest.mark.parametrize(
    "kernel", ["auto", pytest.param("off", marks=pytest.mark.slow)], ids=["kernel", "arrays alone"]
)
def test_the_default_effort_explains_the_real_scan_better(siemens_star: Scan, kernel: str) -> None:
    execution = SolverExecutionConfig(arrays="numpy", threads=2, kernel=kernel)
    assert solve(siemens_star, SolverConfig(), execution).data_residual <= 0.146


def test_three_modes_explain_the_real_scan_better(siemens_star: Scan) -> None:
    assert solve(siemens_star, SolverConfig(probe_modes=3, prior="none"), NUMPY).data_residual <= 0.133


def test_as_many_modes_as_the_scan_s_probe_has_are_taken_unless_a_number_is_chosen() -> None:
    made = simulate_scan(frames=60, frame_px=32, overlap=0.75, modes=2, seed=4)
    scan = replace(made.scan, probe=made.probe)
    taken = solve(scan, SolverConfig(effort="fast"), NUMPY)
    assert len(taken.probe) == 2
    assert any("2 probe modes, as many as" in event.message for event in taken.events)
    one = solve(scan, SolverConfig(effort="fast", probe_modes=1), NUMPY)
    assert len(one.probe) == 1
    assert taken.data_residual < one.data_residual
    more = solve(scan, SolverConfig(effort="fast", probe_modes=3), NUMPY)
    assert len(more.probe) == 3


@pytest.mark.parametrize("modes", [1, 2])
def test_a_known_probe_is_held(modes: int) -> None:
    made = simulate_scan(frames=60, frame_px=32, overlap=0.75, modes=modes, seed=4)
    known = made.probe.astype(np.complex64)
    result = solve(replace(made.scan, probe=known), SolverConfig(probe_step=0.0), NUMPY)
    held = result.probe / np.sqrt(np.square(np.abs(result.probe)).sum())
    given = known / np.sqrt(np.square(np.abs(known)).sum())
    assert np.abs(held - given).max() < 1e-4 * np.abs(given).max()
    assert compare(result, made.obj.astype(np.complex64)).values["object_error"] < 0.1
