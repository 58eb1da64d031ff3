"""Likelihood and prior together: the proximal step, the gradient of all frames, what becomes of images."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Scan, scan_from_arrays, solve
from ptycho_core.arrays import NumpyArrays
from ptycho_core.kernel import Misfit, load_kernel
from ptycho_core.kernel.check import reference_proximal
from ptycho_core.metrics import compare
from ptycho_core.physics.canvas import row_bands
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.solver import most_probable, proximal
from ptycho_core.solver import prior as priors
from ptycho_core.solver.batches import Batch
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import Level
from ptycho_core.solver.posterior import smooth_phases
from ptycho_core.solver.prior import SHAPES, Prior, Shape, softened
from ptycho_core.solver.spectra import spectrum_of

NUMPY = SolverExecutionConfig(arrays="numpy")
MISFITS: tuple[Misfit, ...] = ("poisson", "roots")
with_and_without_kernel = pytest.mark.parametrize(
    "compiled",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(load_kernel().library is None, reason=load_kernel().message)
        ),
    ],
)


def arrays_of(*, compiled: bool) -> NumpyArrays:
    arrays = NumpyArrays(threads=2)
    arrays.kernel = load_kernel().library if compiled else None
    return arrays


def complex_values(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)


def problem(seed: int, rows: int, columns: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "target": complex_values(random, rows, columns),
        "weight": random.uniform(0.2, 9, (rows, columns)).astype(np.float32),
        "strength": random.uniform(0.05, 4, (rows, columns)).astype(np.float32),
        "image": complex_values(random, rows, columns),
    }


@with_and_without_kernel
@given(
    seed=st.integers(0, 99),
    rows=st.integers(2, 40),
    columns=st.integers(2, 70),
    bend=st.sampled_from([0.0, 0.1]),
    n=st.integers(1, 12),
)
def test_the_proximal_step_is_that_of_the_formulas(
    compiled: bool, seed: int, rows: int, columns: int, bend: float, n: int
) -> None:
    given_ = problem(seed, rows, columns)
    dual = np.zeros((2, rows, columns), np.complex64)
    expected = reference_proximal(**given_, smooth=bend, dual=dual, iterations=n)
    found = proximal.proximal_image(
        arrays_of(compiled=compiled), **given_, bend=bend, dual=dual, iterations=n
    )
    assert np.abs(found - expected[0]).max() < 2e-5
    assert np.abs(dual - expected[1]).max() < 2e-5


@with_and_without_kernel
@pytest.mark.parametrize("rows", [40, 90, 91])
def test_a_large_canvas_in_bands_is_the_same_to_the_bit(
    compiled: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_, arrays = problem(3, rows, 30), arrays_of(compiled=compiled)
    duals = [np.zeros((2, rows, 30), np.complex64) for _ in range(2)]
    whole = proximal.proximal_image(arrays, **given_, bend=0.1, dual=duals[0], iterations=5)
    monkeypatch.setattr(proximal, "row_bands", partial(row_bands, pixels=12 * 30))
    again = proximal.proximal_image(arrays, **given_, bend=0.1, dual=duals[1], iterations=5)
    assert len(list(row_bands((rows, 30), multiple=6, pixels=12 * 30))) > 2
    assert np.array_equal(whole, again)
    assert np.array_equal(*duals)


def test_the_proximal_step_goes_to_the_minimum() -> None:
    given_ = problem(1, 24, 24)
    strength = given_["strength"] = np.full((24, 24), 1.5, np.float32)
    prior = Prior("tv", 1.0)

    def objective(image: np.ndarray) -> float:
        apart = given_["weight"] * np.square(np.abs(image - given_["target"]))
        return float(apart.sum()) + prior.energy(image, strength)

    dual = np.zeros((2, 24, 24), np.complex64)
    found = proximal.proximal_image(arrays_of(compiled=False), **given_, bend=0.0, dual=dual, iterations=3000)
    least, random = objective(found), np.random.default_rng(0)
    assert least < objective(given_["target"])
    for _ in range(20):
        assert objective(found + 1e-2 * complex_values(random, 24, 24)) > least


@given(seed=st.integers(0, 99), passes=st.integers(0, 5))
def test_edges_are_softened_by_a_blur_that_is_its_own_adjoint_and_loses_no_light(
    seed: int, passes: int
) -> None:
    random = np.random.default_rng(seed)
    one, other = complex_values(random, 17, 12), complex_values(random, 17, 12)
    arrays = arrays_of(compiled=False)
    soft = softened(arrays, one, passes)
    assert np.vdot(soft, other) == pytest.approx(np.vdot(one, softened(arrays, other, passes)), rel=1e-4)
    assert soft.sum() == pytest.approx(one.sum(), rel=1e-4, abs=1e-4)
    wanted = one
    for _ in range(passes):
        for axis in (0, 1):
            real, imaginary = (
                ndimage.correlate1d(part, [0.125, 0.75, 0.125], axis=axis, mode="reflect")
                for part in (wanted.real, wanted.imag)
            )
            wanted = real + 1j * imaginary
    np.testing.assert_allclose(soft, wanted, atol=1e-5)


def test_the_width_of_an_edge_is_that_of_the_blur() -> None:
    point = np.zeros((41, 41), np.complex64)
    point[20, 20] = 1
    prior = Prior("tv", 1.0, passes=4)
    seen = softened(arrays_of(compiled=False), point, prior.passes).real
    deviation = np.sqrt((seen.sum(axis=1) * np.square(np.arange(41) - 20)).sum())
    assert deviation == pytest.approx(prior.edge_px, rel=1e-5)


def test_a_large_canvas_is_softened_in_bands_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    image = complex_values(np.random.default_rng(0), 43, 20)
    whole = softened(arrays_of(compiled=False), image, 3)
    monkeypatch.setattr(priors, "row_bands", partial(row_bands, pixels=20 * 5))
    assert np.array_equal(softened(arrays_of(compiled=False), image, 3), whole)


@given(seed=st.integers(0, 99), factor=st.floats(0.1, 10))
@pytest.mark.parametrize("shape", SHAPES)
def test_a_prior_is_zero_for_a_flat_object_and_grows_with_its_strength(
    shape: Shape, seed: int, factor: float
) -> None:
    obj = complex_values(np.random.default_rng(seed), 20, 17)
    prior = Prior(shape, 2.0)
    strengths = prior.strengths(obj)
    assert prior.energy(np.full_like(obj, 1j), strengths) == 0
    energy = prior.energy(obj, strengths)
    assert energy > 0
    assert prior.times(factor).energy(obj, prior.times(factor).strengths(obj)) == pytest.approx(
        factor * energy, rel=1e-3
    )
    assert Prior("huber", 1.0).energy(obj, strengths) <= Prior("tv", 1.0).energy(obj, strengths)


def level_of(made: SimulatedScan, *, compiled: bool, misfit: Misfit) -> tuple[Level, np.ndarray, np.ndarray]:
    scan = made.scan
    frames = OrderedFrames.read(scan, np.arange(scan.n_frames))
    whole = slice(0, scan.n_frames)
    batches = [Batch(slice(0, 7), whole), Batch(slice(7, scan.n_frames), whole)]
    level = Level(
        frames,
        arrays_of(compiled=compiled),
        batches=batches,
        size_px=scan.frame_px,
        background=0.1,
        softening=0.0,
        object_floor=0.25,
        misfit=misfit,
        count_softening=0.2,
    )
    spectrum = np.stack([spectrum_of(made.probe[0]), 0.3 * spectrum_of(np.roll(made.probe[0], 3))])
    level.start(spectrum.astype(np.complex64))
    random = np.random.default_rng(0)
    return level, 1 + 0.1 * complex_values(random, *level.shape), spectrum.astype(np.complex64)


@with_and_without_kernel
@pytest.mark.parametrize("misfit", MISFITS)
def test_the_gradient_is_the_slope_of_the_misfit(compiled: bool, misfit: Misfit) -> None:
    made = simulate_scan(frames=12, frame_px=32, photons=3e4, seed=2)
    level, obj, spectrum = level_of(made, compiled=compiled, misfit=misfit)
    seen = level.gradient(obj, spectrum, with_probe=True)
    assert seen.to_spectrum is not None
    random, step = np.random.default_rng(1), 3e-3
    for name, way_down, values in (("obj", seen.to_object, obj), ("spectrum", seen.to_spectrum, spectrum)):
        along = complex_values(random, *values.shape)
        along *= np.abs(values).mean() if name == "spectrum" else 1
        ends = []
        for sign in (-1, 1):
            at = {"obj": obj, "spectrum": spectrum} | {
                name: (values + sign * step * along).astype(np.complex64)
            }
            ends.append(level.gradient(**at, with_probe=False).misfit)
        slope = (ends[1] - ends[0]) / (2 * step)
        assert -2 * np.vdot(way_down, along).real == pytest.approx(slope, rel=0.02)


@pytest.mark.skipif(load_kernel().library is None, reason=load_kernel().message)
@pytest.mark.parametrize("misfit", MISFITS)
def test_the_compiled_gradient_is_that_of_the_arrays(misfit: Misfit) -> None:
    # Frames enough for two threads.
    made = simulate_scan(frames=24, frame_px=64, photons=3e4, seed=2, bad_pixel_fraction=0.03)
    found = []
    for compiled in (False, True):
        level, obj, spectrum = level_of(made, compiled=compiled, misfit=misfit)
        found.append(level.gradient(obj, spectrum, with_probe=True))
    one, other = found
    assert one.misfit == pytest.approx(other.misfit, rel=1e-5)
    for name in ("to_object", "to_spectrum"):
        first, second = getattr(one, name), getattr(other, name)
        assert np.abs(first - second).max() < 1e-4 * np.abs(first).max()


def test_the_phases_that_a_probe_may_take_are_orthonormal_where_its_light_is() -> None:
    probe = simulate_scan(frames=4, frame_px=32, seed=0).probe
    power = np.square(np.abs(spectrum_of(probe[0])), dtype=np.float64)
    phases, weight = smooth_phases(power), power / power.sum()
    products = np.einsum("iyx,jyx,yx->ij", phases, phases, weight)
    assert phases.shape == (12, 32, 32)
    assert np.allclose(products, np.eye(12), atol=1e-6)
    tilts = np.einsum("iyx,kyx,yx->ik", phases, np.mgrid[:32, :32].astype(float), weight)
    assert np.abs(tilts).max() < 1e-6


# What it does to images


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
        (0.3, {}, range(2, 5)),
        (0.3, {"epochs": 60}, range(1, 2)),
        (0.75, {}, range(1, 2)),
        (0.75, {"effort": "thorough"}, range(2, 5)),
    ],
)
def test_where_frames_overlap_little_levels_and_prior_follow_each_other_until_the_object_rests(
    overlap: float, settings: dict[str, object], rounds: range
) -> None:
    made = simulate_scan(frames=60, frame_px=48, photons=1e6, overlap=overlap, start_kind="true", seed=0)
    result = solve(made.scan, SolverConfig(**settings), NUMPY)
    told = [event.data["moved"] for event in result.events if event.kind == "prior"]
    assert len(told) in rounds
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
        monkeypatch.setattr(sys.modules[solve.__module__], "_MOST_ROUNDS", most)
        found = solve(made.scan, SolverConfig(), NUMPY)
        errors.append(compare(found, truth).values["object_error"])
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize(("kind", "shape"), [("texture", "huber"), ("polygons", "log")])
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


@pytest.mark.parametrize(("modes", "asked", "found"), [(1, {}, 1), (2, {}, 2), (2, {"probe_modes": 1}, 1)])
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


@pytest.mark.parametrize(
    "settings",
    [
        {"probe_modes": 2},
        {"frame_intensity": True},
        {"probe_variations": 1},
        {"refine_positions": True, "epochs": 6},
        {"refine_background": True},
        {"probe_step": 0.0},
        {"prior": "huber", "prior_strength": 3.0},
        {"final_size": 24},
    ],
    ids=str,
)
@pytest.mark.parametrize("photons", [3e3, 1e6], ids=["few", "many"])
def test_the_prior_goes_with_every_option(settings: dict[str, object], photons: float) -> None:
    made = simulate_scan(frames=40, frame_px=32, photons=photons, seed=1)
    result = solve(made.scan, SolverConfig(**settings), NUMPY)
    assert np.isfinite(result.object).all() and np.isfinite(result.probe).all()
    assert any(event.kind in ("prior", "dose") for event in result.events)
    if settings.get("probe_step") == 0.0:
        held = result.probe[0] / np.linalg.norm(result.probe[0])
        given_probe = made.scan.probe[0] / np.linalg.norm(made.scan.probe[0])
        assert abs(np.vdot(held, given_probe)) > 0.9999


@pytest.mark.parametrize("photons", [3e3, 1e6], ids=["few", "many"])
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
