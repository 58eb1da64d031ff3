"""Likelihood and prior together: the proximal step, the gradient of all frames, the phases of a probe."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ptycho_core.arrays import NumpyArrays
from ptycho_core.kernel import Misfit, load_kernel
from ptycho_core.kernel.check import reference_proximal
from ptycho_core.physics.canvas import row_bands
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.solver import prior as priors
from ptycho_core.solver import proximal
from ptycho_core.solver.batches import Batch
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import Level
from ptycho_core.solver.posterior import smooth_phases
from ptycho_core.solver.prior import SHAPES, Prior, Shape, softened
from ptycho_core.solver.spectra import spectrum_of

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
