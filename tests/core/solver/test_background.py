"""The flat background that is found during the solve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, solve
from ptycho_core.kernel import load_kernel
from ptycho_core.metrics import compare
from ptycho_core.scan.dose import scan_statistics
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.solver.background import FlatBackground, darkest_counts, likeliest
from ptycho_core.solver.batches import plan_batches
from ptycho_core.solver.device import choose_arrays
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import OBJECT_LIMIT, Level
from ptycho_core.solver.spectra import spectrum_of

NUMPY = SolverExecutionConfig(arrays="numpy", threads=1)
PLAIN = SolverExecutionConfig(arrays="numpy", threads=1, kernel="off")
FOUND = SolverConfig(refine_background=True)
needs_kernel = pytest.mark.skipif(load_kernel().library is None, reason=load_kernel().message)


def likelihood(counts: np.ndarray, mean: np.ndarray) -> float:
    return float((counts * np.log(mean) - mean).sum())


@given(background=st.floats(0.01, 1e4), level=st.floats(0.01, 1e3), seed=st.integers(0, 99))
def test_no_background_is_likelier_than_the_one_found(background: float, level: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    predicted = level * random.exponential(1.0, 500).astype(np.float32) + np.float32(1e-3)
    counts = random.poisson(predicted + background).astype(np.float32)
    found = likeliest(counts, predicted, start=random.choice([0.0, background, 30 * background]))
    best = likelihood(counts, predicted.astype(np.float64) + found)
    others = np.maximum(found * np.array([0.0, 0.9, 0.99, 1.01, 1.1]) + [0, 0, 0, 1e-3, 1e-2], 0)
    assert all(likelihood(counts, predicted.astype(np.float64) + other) <= best + 1e-2 for other in others)


def test_a_scan_without_a_background_has_none() -> None:
    predicted = np.full(100, 5, np.float32)
    assert likeliest(predicted, predicted, start=3.0) == 0
    assert likeliest(0.9 * predicted, predicted, start=3.0) == 0


def test_the_darkest_part_is_found_beside_bad_pixels() -> None:
    mean = np.full((40, 40), 9.0)
    mean[:12, :12] = 2.0
    good = np.ones((40, 40), bool)
    good[::7, ::3] = False
    mean[~good] = 0.0
    assert darkest_counts(mean, good) == pytest.approx(2.0)
    assert darkest_counts(mean, np.zeros_like(good)) == 0


def test_it_never_exceeds_the_darkest_part_and_hears_no_nonsense() -> None:
    flat = FlatBackground(8.0, at_most=5.0)
    assert flat.counts == 5.0
    flat.fit(np.full(9, 50.0, np.float32), np.full(9, 1.0, np.float32))
    assert flat.counts == 5.0
    flat.fit(np.full(9, 3.0, np.float32), np.full(9, 1.0, np.float32))
    assert flat.counts == pytest.approx(2.0, rel=1e-3)
    flat.fit(np.full(9, 3.0, np.float32), np.full(9, np.nan, np.float32))
    assert flat.counts == pytest.approx(2.0, rel=1e-3)


def round_detector(scan: Scan) -> Scan:
    """Hide the corners, as a round window before the detector does."""
    y, x = np.mgrid[: scan.frame_px, : scan.frame_px] - scan.frame_px / 2
    return replace(scan, bad_pixels=np.hypot(y, x) > scan.frame_px / 2 - 1)


def made_with(background: float) -> SimulatedScan:
    made = simulate_scan(frames=200, photons=1e7, overlap=0.7, seed=3, background=background)
    return replace(made, scan=round_detector(made.scan))


def object_error(result: Reconstruction, made: SimulatedScan) -> float:
    return compare(result, made.obj).values["object_error"]


def found_in(result: Reconstruction) -> float:
    return next(event.data["background"] for event in result.events if event.kind == "background")


@pytest.fixture(scope="module")
def clean() -> tuple[SimulatedScan, float]:
    """A scan without any background, and how far from its object the solver ends."""
    made = made_with(0.0)
    return made, object_error(solve(made.scan, execution=NUMPY), made)


def test_a_strong_background_that_the_corners_do_not_show(clean: tuple[SimulatedScan, float]) -> None:
    """A tenth of the photons, and a detector whose corners see nothing."""
    made = made_with(0.1)
    without = object_error(solve(made.scan, execution=NUMPY), made)
    result = solve(made.scan, FOUND, NUMPY)
    assert found_in(result) == pytest.approx(0.1 * 1e7 / 64**2, rel=0.02)
    _, bare = clean
    assert without > 5 * bare
    assert object_error(result, made) < 2 * bare


@pytest.mark.slow
def test_it_costs_no_quality_where_there_is_none(clean: tuple[SimulatedScan, float]) -> None:
    made, plain = clean
    found = solve(made.scan, FOUND, NUMPY)
    assert found_in(found) < 1.0
    assert object_error(found, made) < 1.1 * plain


def small(background: float = 0.2) -> Scan:
    return simulate_scan(frames=60, frame_px=32, photons=1e6, seed=5, background=background).scan


@pytest.fixture(scope="module")
def found_plainly() -> Reconstruction:
    """The small scan as NumPy alone solves it."""
    return solve(small(), FOUND, PLAIN)


@pytest.mark.parametrize("arrays", ["kernel", "torch"])
def test_every_way_to_compute_finds_the_same(arrays: str, found_plainly: Reconstruction) -> None:
    execution = NUMPY
    if arrays == "torch":
        pytest.importorskip("ptycho_core_torch", reason="the core of `torch` is not installed")
        pytest.importorskip("torch", reason="PyTorch is not installed")
        execution = SolverExecutionConfig(arrays="torch", accelerator="cpu", threads=1)
    one, other = found_plainly, solve(small(), FOUND, execution)
    assert found_in(one) == pytest.approx(0.2 * 1e6 / 32**2, rel=0.05)
    assert found_in(other) == pytest.approx(found_in(one), rel=0.01)
    assert other.data_residual == pytest.approx(one.data_residual, rel=0.02)


@pytest.mark.parametrize("kernel", [False, pytest.param(True, marks=needs_kernel)])
def test_an_epoch_that_is_undone_gives_the_background_back(kernel: bool) -> None:
    scan, random = small(), np.random.default_rng(0)
    order, batches = plan_batches(scan.positions_px, frame_px=32, frames_per_batch=24, random=random)
    arrays, _ = choose_arrays(NUMPY if kernel else PLAIN)
    assert (arrays.kernel is not None) == kernel
    flat = FlatBackground(1.0, at_most=1e3)
    level = Level(
        OrderedFrames.read(scan, order),
        arrays,
        batches=batches,
        size_px=32,
        background=0.0,
        softening=1e-2,
        object_floor=0.25,
        flat=flat,
    )
    level.start(spectrum_of(scan.probe).astype(np.complex64))
    before = level.state()
    for _ in range(4):  # the first three epochs leave it alone
        assert flat.counts == 1.0
        level.settle(OBJECT_LIMIT)
    assert flat.counts > 10
    level.restore(before)
    assert flat.counts == pytest.approx(1.0)
    assert level.state().offset == before.offset == pytest.approx(1.01)


@pytest.mark.parametrize(
    ("background", "photons", "most_px"),
    [pytest.param(0.05, 1e6, 48, marks=pytest.mark.slow), (0.3, 1e6, 40)],
)
def test_nothing_is_fitted_where_the_background_is_alone(
    background: float, photons: float, most_px: int
) -> None:
    made = simulate_scan(frames=150, frame_px=64, photons=photons, seed=1, background=background)
    inside, everywhere = (
        solve(made.scan, SolverConfig(final_size=size, prior="none"), NUMPY) for size in (None, 64)
    )
    assert inside.history[-1]["size_px"] <= most_px
    assert any(event.kind == "signal" for event in inside.events)
    assert not any(event.kind == "signal" for event in everywhere.events)
    errors = [
        compare(result, made.obj.astype(np.complex64)).values["object_error"]
        for result in (inside, everywhere)
    ]
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("photons", [1e1, 1e3, 1e5, 1e7])
@pytest.mark.parametrize("kind", ["polygons", "texture", "discs", "star"])
def test_speckle_and_dim_frames_are_fitted_everywhere(kind: str, photons: float) -> None:
    scan = simulate_scan(object_kind=kind, frames=150, frame_px=64, photons=photons, seed=1).scan
    assert scan_statistics(scan, estimate_background=True).speckled_px == 64


def test_the_real_scan_is_fitted_everywhere(siemens_star: Scan) -> None:
    assert scan_statistics(siemens_star, estimate_background=True).speckled_px == 128
