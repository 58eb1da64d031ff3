"""The pattern that a raster cannot place goes to the probe; nothing else moves, and no wave changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.execution import SolverExecutionConfig
from ptycho_core import solve
from ptycho_core.metrics.compare import compare
from ptycho_core.physics import lattice as physics_lattice
from ptycho_core.physics.lattice import hand_over_lattice, lattice_of
from ptycho_core.physics.residual import data_residual
from ptycho_core.simulate import simulate_scan

NUMPY = SolverExecutionConfig(arrays="numpy", threads=1)


def raster(step_px: float, turn_deg: float = 0.0, side: int = 6) -> np.ndarray:
    angle = np.radians(turn_deg)
    steps = step_px * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    y, x = np.divmod(np.arange(side * side), side)
    return np.stack([y, x], axis=1) @ steps + (3.25, -7.5)


@given(step=st.floats(4, 40), turn=st.floats(-80, 80), jitter=st.sampled_from([0.0, 0.5]))
def test_an_exact_raster_is_recognised_and_a_jittered_one_is_not(
    step: float, turn: float, jitter: float
) -> None:
    positions = raster(step, turn)
    positions = positions + np.random.default_rng(0).uniform(-jitter, jitter, positions.shape)
    lattice = lattice_of(positions)
    assert (lattice is not None) == (jitter == 0)
    if lattice is not None:
        cell = lattice.cell(positions)
        assert np.minimum(cell, 1 - cell).max() < 1e-6
        assert abs(np.linalg.det(lattice.steps_px)) == pytest.approx(step**2)


@pytest.mark.parametrize(
    "positions", [np.zeros((20, 2)), np.stack([np.arange(20.0)] * 2, axis=1), raster(2.0), raster(10)[:15]]
)
def test_no_positions_of_a_raster_are_no_lattice(positions: np.ndarray) -> None:
    assert lattice_of(positions) is None


def test_the_pattern_moves_and_every_wave_stays() -> None:
    n, step, rng = 24, 8, np.random.default_rng(1)
    corners = np.stack(np.divmod(np.arange(36), 6), axis=1) * step + 2
    y, x = np.mgrid[:n, :n] - n / 2
    probe = (np.exp(-(y**2 + x**2) / 40) * np.exp(0.02j * (y**2 + x**2))).astype(np.complex64)[None]
    smooth = 1 - 0.3 * np.exp(-((np.mgrid[:72, :72] - 36) ** 2).sum(axis=0) / 300)
    pattern = np.exp(rng.normal(0, 0.1, (step, step)) + 1j * rng.normal(0, 0.1, (step, step)))
    cells = np.tile(pattern, (9, 9))
    obj = (smooth * cells).astype(np.complex64)
    coverage = np.zeros((72, 72), np.float32)
    for row, column in corners:
        coverage[row : row + n, column : column + n] += np.abs(probe[0]) ** 2
    centres = corners + n / 2
    lattice = lattice_of(centres)
    assert lattice is not None
    even, with_pattern = hand_over_lattice(obj, probe, coverage, lattice, corners[0].astype(float))
    lit = coverage > 0.3 * coverage.max()
    left = np.log(np.abs(even / smooth))[lit]
    assert left.std() < 0.3 * np.log(np.abs(obj / smooth))[lit].std()

    def waves(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.stack([other[0] * one[r : r + n, c : c + n] for r, c in corners])

    before, after = waves(obj, probe), waves(even, with_pattern)
    factor = np.vdot(after, before) / np.vdot(after, after)
    assert np.abs(factor * after - before).max() < 1e-4 * np.abs(before).max()


def test_a_raster_is_said_and_its_dots_are_gone() -> None:
    made = simulate_scan(
        frames=144, frame_px=64, overlap=0.7, photons=1e6, position_kind="raster", probe_kind="focus", seed=0
    )
    result = solve(made.scan, execution=NUMPY)
    said = [event.message for event in result.events if event.kind == "lattice"]
    lattice = lattice_of(made.scan.positions_px)
    assert bool(said) == (lattice is not None)
    assert lattice is not None
    assert "exact raster" in said[0]
    assert compare(result, made.obj).values["object_error"] < 0.11
    on_canvas = result.positions_on_canvas_px()
    again = data_residual(result.object, result.probe, on_canvas, made.scan)
    assert again.value == pytest.approx(result.data_residual, rel=1e-4)


def test_a_large_object_is_worked_on_in_bands_and_by_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    step, rng = 8, np.random.default_rng(1)
    pattern = np.exp(rng.normal(0, 0.1, (step, step)))
    obj = np.tile(pattern, (30, 30)).astype(np.complex64)
    probe = np.ones((1, 16, 16), np.complex64)
    lattice = lattice_of(np.stack(np.divmod(np.arange(25), 5), axis=1) * float(step))
    assert lattice is not None
    ones = np.ones(obj.shape, np.float32)
    whole = hand_over_lattice(obj, probe, ones, lattice, np.zeros(2))
    monkeypatch.setattr(physics_lattice, "AVERAGED_PX", 120)
    bands = physics_lattice.row_bands
    monkeypatch.setattr(physics_lattice, "row_bands", lambda shape: bands(shape, pixels=7 * shape[1]))
    parts = hand_over_lattice(obj, probe, ones, lattice, np.zeros(2))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=5e-3)
