"""What the prior does to images: sharper where photons allow it, as they were where nothing helps."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Callback, Scan, scan_from_arrays, solve
from ptycho_core.metrics import compare
from ptycho_core.result.callbacks import EpochReport, RunStart
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.solver import most_probable

NUMPY = SolverExecutionConfig(arrays="numpy")


def error_of(made: SimulatedScan, **settings: object) -> tuple[float, dict[str, object]]:
    result = solve(made.scan, SolverConfig(**settings), NUMPY)
    told = [event for event in result.events if event.kind == "prior"]
    value = compare(result, made.obj.astype(np.complex64)).values["object_error"]
    return value, dict(told[0].data) if told else {}


def test_many_photons_give_a_sharper_image_with_the_prior() -> None:
    made = simulate_scan(frames=80, frame_px=48, photons=1e6, seed=0)
    without, nothing = error_of(made, prior="none")
    with_it, told = error_of(made)
    assert not nothing and told["taken"]
    assert with_it < 0.75 * without


@pytest.mark.parametrize(
    ("overlap", "settings", "rounds"),
    [
        pytest.param(0.3, {"epochs": 60}, range(1, 2), marks=pytest.mark.slow),
        (0.75, {}, range(1, 2)),
        pytest.param(0.75, {"effort": "thorough"}, range(2, 5), marks=pytest.mark.slow),
    ],
)
def test_where_frames_overlap_little_levels_and_prior_follow_each_other_until_the_object_rests(
    overlap: float, settings: dict[str, object], rounds: range
) -> None:
    made = simulate_scan(frames=60, frame_px=48, photons=1e6, overlap=overlap, start_kind="true", seed=0)
    result = solve(made.scan, SolverConfig(**settings), NUMPY)
    told = [event.data["moved"] for event in result.events if event.kind == "prior"]
    assert len(told) in rounds
    said = [event.data["round"] for event in result.events if event.kind == "round"]
    assert said == list(range(1, len(told)))
    assert all(one > 0 for one in told)
    if len(told) > 1:
        assert told[-1] < told[0]
        assert len(result.history) > len(solve(made.scan, SolverConfig(epochs=60), NUMPY).history)


def test_the_rounds_bring_an_object_of_little_overlap_nearer_to_the_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = simulate_scan(frames=60, frame_px=64, photons=1e6, overlap=0.3, start_kind="true", seed=0)
    truth, errors = made.obj.astype(np.complex64), []
    for most in (3, 0):
        monkeypatch.setattr(sys.modules[solve.__module__], "MOST_ROUNDS", most)
        found = solve(made.scan, SolverConfig(), NUMPY)
        errors.append(compare(found, truth).values["object_error"])
        told = [event.data["moved"] for event in found.events if event.kind == "prior"]
        assert len(told) in (range(2, 5) if most else range(1, 2))
        assert len([event for event in found.events if event.kind == "round"]) == len(told) - 1
        assert told[-1] <= told[0]
    assert errors[0] < 0.8 * errors[1]


class StopsInARound(Callback):
    """Asks for the end as soon as the levels are gone through again."""

    starts = epochs = 0

    def on_start(self, start: RunStart) -> None:
        self.starts += 1

    def on_epoch(self, epoch: EpochReport) -> None:
        self.epochs += self.starts > 1

    def should_stop(self) -> bool:
        return self.epochs > 0


def test_a_round_that_is_stopped_leaves_the_image_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = simulate_scan(frames=40, frame_px=32, photons=1e6, overlap=0.3, start_kind="true", seed=0)
    stopping = StopsInARound()
    stopped = solve(made.scan, SolverConfig(), NUMPY, (stopping,))
    assert stopping.epochs and stopped.interrupted
    monkeypatch.setattr(sys.modules[solve.__module__], "MOST_ROUNDS", 0)
    assert np.array_equal(stopped.object, solve(made.scan, SolverConfig(), NUMPY).object)


@pytest.mark.parametrize(
    ("kind", "shape"), [("texture", "huber"), pytest.param("polygons", "log", marks=pytest.mark.slow)]
)
def test_photons_held_out_of_some_frames_tell_a_sample_without_edges(kind: str, shape: str) -> None:
    made = simulate_scan(object_kind=kind, frames=80, frame_px=48, photons=5e5, seed=0)
    with_it, told = error_of(made)
    assert told["taken"]
    assert told["shape"] == shape
    other, _ = error_of(made, prior="huber" if shape == "log" else "log")
    assert with_it < other
    if kind == "texture":
        assert with_it < 0.85 * other


@pytest.mark.filterwarnings("ignore:.*do not overlap")
def test_frames_that_hardly_overlap_tell_nothing_of_edges() -> None:
    made = simulate_scan(frames=80, frame_px=32, photons=1e6, overlap=0.3, seed=0)
    assert error_of(made)[1]["shape"] == "log"


@pytest.mark.slow
@pytest.mark.parametrize(("photons", "least"), [(1e3, 0.31), (1e4, 0.155)])
def test_few_photons_give_an_image_by_those_held_out(photons: float, least: float) -> None:
    made = simulate_scan(frames=150, frame_px=64, photons=photons, seed=0)
    assert error_of(made)[0] < least


def test_held_out_photons_choose_where_photons_are_few() -> None:
    made = simulate_scan(frames=60, frame_px=32, photons=2e3, seed=0)
    without, _ = error_of(made, prior="none")
    with_it, told = error_of(made)
    assert {"start", "shape", "strength", "probe", "held_out_misfit"} <= told.keys()
    assert with_it < 0.8 * without


def test_noisy_frames_are_left_to_photons_held_out_where_time_does_not_matter() -> None:
    scan = simulate_scan(frames=120, frame_px=32, overlap=0.97, photons=600.0, seed=1).scan
    kinds = {
        effort: {event.kind for event in solve(scan, SolverConfig(effort=effort), NUMPY).events}
        for effort in ("default", "thorough")
    }
    assert "effort" in kinds["default"] and "held_out" not in kinds["default"]
    assert "held_out" in kinds["thorough"] and "effort" not in kinds["thorough"]


def test_a_smooth_object_is_kept_as_it_was() -> None:
    made = simulate_scan(object_kind="gradient", frames=60, frame_px=64, photons=1e6, seed=0)
    results = [solve(made.scan, SolverConfig(prior=prior), NUMPY) for prior in ("none", "auto")]
    told = next(event for event in results[1].events if event.kind == "prior")
    assert not told.data["taken"] and "not taken" in told.message
    assert np.array_equal(results[0].object, results[1].object)


def test_soft_edges_come_nearer_to_a_sample_without_staircases(monkeypatch: pytest.MonkeyPatch) -> None:
    made = simulate_scan(frames=60, frame_px=32, photons=1e5, overlap=0.8, seed=1)
    error, told = error_of(made)
    monkeypatch.setattr(most_probable, "_PASSES", 0)
    sharp, told_of_sharp = error_of(made)
    assert (told["edge_px"], told_of_sharp["edge_px"]) == (0.5, 0.0)
    assert error < 0.96 * sharp


def with_read_noise(made: SimulatedScan, deviation: float) -> Scan:
    counts = np.square(made.scan.amplitude(slice(None)), dtype=np.float64)
    noisy = counts + np.random.default_rng(3).normal(0, deviation, counts.shape)
    told = {"measurement": "counts", "dc": "center"}
    return scan_from_arrays(
        np.maximum(noisy, 0).astype(np.float32), made.scan.positions_px, made.scan.probe, **told
    )


def test_read_noise_that_is_known_makes_the_image_sharper() -> None:
    made = simulate_scan(frames=60, frame_px=32, photons=3e4, overlap=0.8, seed=1)
    noisy = with_read_noise(made, 3.0)
    errors = [
        compare(solve(scan, SolverConfig(), NUMPY), made.obj.astype(np.complex64)).values["object_error"]
        for scan in (noisy, replace(noisy, read_noise=3.0))
    ]
    assert errors[1] < 0.95 * errors[0]


@pytest.mark.parametrize(
    ("modes", "asked", "found"),
    [(1, {}, 1), (2, {}, 2), pytest.param(2, {"probe_modes": 1}, 1, marks=pytest.mark.slow)],
)
def test_photons_held_out_choose_how_many_modes_a_probe_has(
    modes: int, asked: dict[str, int], found: int
) -> None:
    made = simulate_scan(frames=80, frame_px=32, photons=8e3, modes=modes, seed=0)
    scan = replace(made.scan, probe=made.scan.probe[:1])
    result = solve(scan, SolverConfig(**asked), NUMPY)
    told = next(event for event in result.events if event.kind == "prior")
    assert len(result.probe) == told.data["probe_modes"] == found
    assert ("of 2 modes" in told.message) == (found > 1)
    again = solve(scan, SolverConfig(**asked), NUMPY, start=result)
    assert len(again.probe) == found
    assert any("as many as the earlier result has" in event.message for event in again.events) == (found > 1)


@pytest.mark.slow
def test_held_out_photons_may_say_that_no_prior_helps() -> None:
    made = simulate_scan(
        object_kind="gradient", position_kind="random", overlap=0.85, frames=150, photons=1e4, seed=0
    )
    without, _ = error_of(made, prior="none")
    with_it, told = error_of(made)
    assert told["taken"] is False
    assert with_it < 1.03 * without


def test_the_unit_of_amplitudes_changes_nothing() -> None:
    made = simulate_scan(frames=40, frame_px=32, photons=1e6, seed=1)
    truth, errors = made.obj.astype(np.complex64), []
    for factor in (1e-5, 0.0037, 0.37):
        amplitude = made.scan.amplitude(slice(None)) * np.float32(factor)
        told = {"measurement": "amplitude", "dc": "center"}
        scan = scan_from_arrays(amplitude, made.scan.positions_px, made.scan.probe, **told)
        result = solve(scan, SolverConfig(), NUMPY)
        assert any(event.kind == "prior" for event in result.events)
        errors.append(compare(result, truth).values["object_error"])
    assert errors == pytest.approx(errors[:1] * 3, rel=0.05)
    plain = compare(solve(scan, SolverConfig(prior="none"), NUMPY), truth).values["object_error"]
    assert max(errors) < 0.9 * plain


def test_photons_that_carry_no_image_are_said_to() -> None:
    made = simulate_scan(frames=60, frame_px=32, photons=3.0, seed=0)
    result = solve(made.scan, SolverConfig(), NUMPY)
    assert not result.dose_carries_image
    assert np.array_equal(result.object, np.ones_like(result.object))
    assert any(event.kind == "dose" and "carry no image" in event.message for event in result.events)


#: Options, and the photons with which each is tried whenever the tests run; the slow ones take both.
OPTIONS: list[tuple[dict[str, object], float]] = [
    ({"probe_modes": 2}, 3e3),
    ({"frame_intensity": True}, 1e6),
    ({"probe_variations": 1}, 3e3),
    ({"refine_positions": True, "epochs": 6}, 1e6),
    ({"refine_background": True}, 1e6),
    ({"probe_step": 0.0}, 3e3),
    ({"prior": "huber", "prior_strength": 3.0}, 1e6),
    ({"final_size": 24}, 3e3),
]


@pytest.mark.parametrize(
    ("settings", "photons"),
    [
        pytest.param(one, photons, marks=[] if photons == usual else pytest.mark.slow)
        for one, usual in OPTIONS
        for photons in (3e3, 1e6)
    ],
    ids=str,
)
def test_the_prior_goes_with_every_option(settings: dict[str, object], photons: float) -> None:
    made = simulate_scan(frames=40, frame_px=32, photons=photons, seed=1)
    result = solve(made.scan, SolverConfig(**settings), NUMPY)
    assert np.isfinite(result.object).all() and np.isfinite(result.probe).all()
    assert any(event.kind in ("prior", "dose") for event in result.events)
    if settings.get("probe_step") == 0.0:
        held = result.probe[0] / np.linalg.norm(result.probe[0])
        given_probe = made.scan.probe[0] / np.linalg.norm(made.scan.probe[0])
        assert abs(np.vdot(held, given_probe)) > 0.9999


@pytest.mark.parametrize("photons", [3e3, pytest.param(1e6, marks=pytest.mark.slow)], ids=["few", "many"])
def test_a_time_budget_ends_the_prior_too(photons: float) -> None:
    made = simulate_scan(frames=40, frame_px=32, photons=photons, seed=1)
    whole = solve(made.scan, SolverConfig(), NUMPY)
    assert whole.timings["prior"] > 0 and not whole.interrupted
    hurried = solve(made.scan, SolverConfig(max_time=1e-3), NUMPY)
    assert hurried.interrupted and np.isfinite(hurried.object).all()
    power = float(np.square(np.abs(hurried.probe), dtype=np.float64).sum())
    assert power == pytest.approx(made.scan.mean_counts_per_frame(), rel=0.02)


def test_photons_that_a_start_has_seen_do_not_judge_it() -> None:
    made = simulate_scan(frames=40, frame_px=32, photons=3e3, seed=1)
    first = solve(made.scan, SolverConfig(), NUMPY)
    again = solve(made.scan, SolverConfig(), NUMPY, start=first)
    assert any(event.kind == "held_out" for event in first.events)
    assert not any(event.kind == "held_out" for event in again.events)
