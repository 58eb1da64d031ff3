"""The solver on frames that come: a canvas that grows without a change, and an image that gets better."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Scan
from ptycho_core.live.canvas import LiveCanvas
from ptycho_core.live.solver import LiveFrames, LiveSolver
from ptycho_core.result.assemble import make_reconstruction

EXECUTION = SolverExecutionConfig(arrays="numpy", accelerator="cpu", threads=1)


def frames(scan: Scan, count: int) -> LiveFrames:
    part = scan.select(slice(0, count))
    good = None if part.bad_pixels is None else part.good_pixels()
    return LiveFrames(part, part.amplitude(), good, part.positions_px)


def solved(scan: Scan, chunk: int, *, known: bool, config: SolverConfig | None = None) -> LiveSolver:
    """Hand a scan over in chunks, as fast as the solver takes them."""
    solver = LiveSolver(config, EXECUTION)
    for count in [*range(chunk, scan.n_frames, chunk), scan.n_frames]:
        given_frames = frames(scan, count)
        if not solver.begun or solver.wants_to_begin_again(count):
            solver.begin(given_frames, scan.positions_px if known else None)
        solver.work(given_frames, seconds=0.0, frames_per_second=0.0)
    return solver


def residual(solver: LiveSolver, scan: Scan) -> float:
    obj, probe, origin = solver.state()
    result = make_reconstruction(scan, obj=obj, probe=probe, origin_px=origin, method="solver")
    return result.data_residual


@given(
    first=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    then=st.lists(st.tuples(st.floats(-300, 300), st.floats(-300, 300)), min_size=1, max_size=4),
    sizes=st.sampled_from([(64, 32), (64, 48), (64, 64), (128, 96), (96, 80)]),
)
@settings(max_examples=40)
def test_a_canvas_that_grows_keeps_what_it_shows_where_it_lies(
    first: tuple[float, float], then: list[tuple[float, float]], sizes: tuple[int, int]
) -> None:
    frame_px, size_px = sizes
    canvas = LiveCanvas(frame_px, size_px, np.array([first]))
    random = np.random.default_rng(0)
    drawn = random.standard_normal(canvas.object.shape).astype(np.complex64)
    canvas.object[...] = drawn

    def corner(position: tuple[float, float]) -> tuple[int, int]:
        """The window of a position as `Level` cuts it."""
        y, x = np.round((np.array(position) - canvas.least_px) * canvas.scale + 4).astype(int).tolist()
        return y, x

    y, x = corner(first)
    before, least_px = canvas.object[y : y + size_px, x : x + size_px].copy(), canvas.least_px
    for position in then:
        canvas.hold(np.array([position]))
        top, left = corner(position)
        assert min(top, left) >= 0
        assert top + size_px <= canvas.object.shape[0]
        assert left + size_px <= canvas.object.shape[1]
    moved = (least_px - canvas.least_px) * canvas.scale
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-6)  # nothing is interpolated
    y, x = (np.array([y, x]) + np.round(moved)).astype(int).tolist()
    np.testing.assert_array_equal(canvas.object[y : y + size_px, x : x + size_px], before)


@pytest.mark.parametrize("known", [True, False], ids=["positions known", "positions unknown"])
def test_every_frame_is_seen_and_the_image_explains_them(scan: Scan, known: bool) -> None:
    solver = solved(scan, 7, known=known)
    assert solver.steps_taken >= scan.n_frames
    early = residual(solver, scan)
    obj, coverage = solver.image()
    assert np.isfinite(obj).all()
    assert np.abs(obj).max() <= 2.0 + 1e-4
    assert coverage.shape == obj.shape
    whole = frames(scan, scan.n_frames)
    for _ in range(200):
        solver.work(whole, seconds=0.0, frames_per_second=0.0)
    assert solver.converged
    assert solver.size_px == scan.frame_px
    assert residual(solver, scan) < early
    assert residual(solver, scan) < 0.25


def test_a_finer_level_waits_for_frames_to_come_more_slowly(scan: Scan) -> None:
    solver, whole = LiveSolver(None, EXECUTION), frames(scan, scan.n_frames)
    solver.begin(whole)
    coarse = solver.size_px
    for _ in range(60):
        solver.work(whole, seconds=0.0, frames_per_second=1e9)
    assert solver.size_px == coarse
    for _ in range(60):
        solver.work(whole, seconds=0.0, frames_per_second=1.0)
    assert solver.size_px == scan.frame_px


def test_steps_that_diverge_are_halved_and_the_image_begun_again(scan: Scan) -> None:
    solver = solved(scan, 20, known=True, config=SolverConfig(object_step=3.0, probe_step=3.0))
    whole = frames(scan, scan.n_frames)
    for _ in range(60):
        solver.work(whole, seconds=0.0, frames_per_second=0.0)
    obj, probe, _ = solver.state()
    assert np.isfinite(obj).all()
    assert np.isfinite(probe).all()
    assert residual(solver, scan) < 0.6


def test_the_same_frames_in_the_same_chunks_give_the_same_image(scan: Scan) -> None:
    one, other = (solved(scan, 13, known=True).state() for _ in (0, 1))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_too_few_photons_leave_the_object_transparent() -> None:
    from ptycho_core.simulate import simulate_scan

    dim = simulate_scan(frames=20, frame_px=32, photons=20.0, seed=1).scan
    solver = solved(dim, 10, known=True)
    obj, _ = solver.image()
    assert (obj == 1).all()
