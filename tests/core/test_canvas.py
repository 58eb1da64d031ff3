"""What is worked out of a canvas band by band is what the whole canvas gives."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_core.figures.view import ObjectView
from ptycho_core.physics import canvas, gauge
from ptycho_core.physics.canvas import row_bands
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.solver import frames
from ptycho_core.solver.state import ObjectState

few = settings(max_examples=30, deadline=None)
SMALL = 64  # pixels of a band: a few rows
USERS = ("ptycho_core.physics.canvas", "ptycho_core.physics.gauge", "ptycho_core.figures.view")


@pytest.fixture
def in_small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every user of bands have many of them."""

    def small(shape: tuple[int, ...], *, multiple: int = 1):
        return row_bands(shape, multiple=multiple, pixels=SMALL)

    for module in USERS:
        monkeypatch.setattr(f"{module}.row_bands", small)


@few
@given(
    rows=st.integers(0, 50),
    columns=st.integers(1, 50),
    multiple=st.integers(1, 7),
    pixels=st.integers(1, 400),
)
def test_bands_cover_each_row_once(rows: int, columns: int, multiple: int, pixels: int) -> None:
    cut = list(row_bands((rows, columns), multiple=multiple, pixels=pixels))
    assert [row for band in cut for row in range(band.start, band.stop)] == list(range(rows))
    assert all((band.stop - band.start) % multiple == 0 for band in cut[:-1])


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)


def test_coverage_is_the_sum_of_the_light_of_all_windows(in_small_bands: None) -> None:
    random = np.random.default_rng(1)
    probe, shape = noise(2, 8, 8), (41, 29)
    corners = np.stack([random.integers(0, side - 8, 12) for side in shape], axis=1)
    expected, seen = np.zeros(shape), np.zeros(shape, bool)
    for y, x in corners:
        expected[y : y + 8, x : x + 8] += (np.abs(probe) ** 2).sum(0)
        seen[y : y + 8, x : x + 8] = True
    covered = canvas.coverage_of(probe, corners, shape)
    np.testing.assert_allclose(covered, expected / expected.max(), atol=1e-6)
    assert np.array_equal(covered > 0, seen)


def test_the_ramp_found_and_handed_over_is_that_of_the_whole(in_small_bands: None) -> None:
    slope = np.array([0.21, -0.13])
    obj = ((1 + 0.2 * noise(37, 23)) * gauge.phase_ramp((37, 23), slope)).astype(np.complex64)
    coverage = np.random.default_rng(2).uniform(0, 1, obj.shape).astype(np.float32)
    whole = []
    seen = coverage > 0.1
    for axis in (0, 1):
        here, there = np.moveaxis(obj, axis, 0), np.moveaxis(seen, axis, 0)
        pairs = there[1:] & there[:-1]
        whole.append(np.angle((here[1:] * here[:-1].conj())[pairs].sum(dtype=np.complex128)))
    np.testing.assert_allclose(gauge.linear_ramp(obj, seen), whole, atol=1e-12)
    probe, before = noise(1, 8, 8), obj.copy()
    flat, _ = gauge.hand_over_ramp(obj, probe, coverage)
    assert np.array_equal(obj, before)
    np.testing.assert_allclose(np.abs(flat), np.abs(obj), rtol=1e-5)
    np.testing.assert_allclose(gauge.linear_ramp(flat, seen), 0, atol=1e-6)
    again, _ = gauge.hand_over_ramp(obj, probe, coverage, overwrite_obj=True)
    assert again is obj
    assert np.array_equal(again, flat)


def test_an_object_is_resampled_in_bands_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    obj = noise(20, 31)

    def resampled() -> np.ndarray:
        return canvas.resample_object(obj, (36, 58), margin_px=4, old_scale=0.5, new_scale=1.0)

    whole = resampled()
    monkeypatch.setattr(canvas, "row_bands", lambda shape: row_bands(shape, pixels=SMALL))
    assert np.array_equal(resampled(), whole)


def result_of(obj: np.ndarray) -> Reconstruction:
    return Reconstruction(
        object=obj,
        probe=noise(1, 8, 8),
        origin_px=np.zeros(2),
        positions_px=np.array([[8.0, 8.0]]),
        coverage=np.ones(obj.shape, np.float32),
        residual_per_frame=np.zeros(1, np.float32),
        data_residual=0.1,
        method="solver",
        scan_name="made",
    )


def test_pictures_of_a_large_object_are_averages_without_the_ramp(in_small_bands: None) -> None:
    y, x = np.mgrid[:60, :44]
    phase = 0.4 * np.sin(y / 9) * np.cos(x / 7)
    obj = ((1 + 0.1 * np.cos(x / 5)) * np.exp(1j * (phase + 0.5 * x - 0.3 * y))).astype(np.complex64)
    result = result_of(obj)
    full, small = ObjectView(result), ObjectView(result, largest_px=20)
    assert (full.shrunk, small.shrunk) == (1, 3)
    assert small.images["phase"].shape == (20, 14)
    for name in ("amplitude", "phase"):
        expected = full.images[name][:60, :42].reshape(20, 3, 14, 3).mean(axis=(1, 3))
        difference = small.images[name] - expected
        np.testing.assert_allclose(difference - difference.mean(), 0, atol=0.02)


@pytest.mark.parametrize("in_file", [False, True])
def test_a_kept_canvas_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path, in_file: bool) -> None:
    from ptycho_core.arrays import NumpyArrays

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made: list[bool] = []

    def room(shape: tuple[int, ...], *, in_memory_bytes: int) -> tuple[np.ndarray, bool]:
        array, mapped = frames.room_for(shape, in_memory_bytes=in_memory_bytes)
        made.append(mapped)
        return array, mapped

    monkeypatch.setattr("ptycho_core.solver.state.room_for", room)
    monkeypatch.setattr("ptycho_core.solver.state.COPY_IN_MEMORY_BYTES", 0 if in_file else 1 << 20)
    state = ObjectState(NumpyArrays(), noise(12, 9), 0.1)
    kept, before = state.kept(), state.canvas.copy()
    assert made == ([True] if in_file else [])
    state.rescale(0.3)
    state.put_back(kept)
    assert np.array_equal(state.canvas, before)
    state.rescale(2.0)
    assert np.array_equal(np.asarray(kept), before)  # going on does not change what was kept


def held_beside(work: Callable[[], Any], canvas: np.ndarray) -> float:
    """Return the most memory that work takes, its result included, in canvases."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / canvas.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("what", "at_most"), [("coverage", 1.0), ("ramp", 0.4), ("resampled", 1.8), ("picture", 0.5)]
)
def test_a_large_canvas_is_not_copied_several_times(
    what: str, at_most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    obj = np.ones((3000, 1000), np.complex64)
    result = result_of(obj)
    corners = np.random.default_rng(0).integers(0, 980, (200, 2))
    coverage = np.ones(obj.shape, np.float32)
    for module in USERS:
        monkeypatch.setattr(
            f"{module}.row_bands",
            lambda shape, *, multiple=1: row_bands(shape, multiple=multiple, pixels=1 << 17),
        )
    work = {
        "coverage": lambda: canvas.coverage_of(noise(1, 16, 16), corners, obj.shape),
        "ramp": lambda: gauge.hand_over_ramp(obj, noise(1, 16, 16), coverage, overwrite_obj=True),
        "resampled": lambda: canvas.resample_object(
            obj[:1500, :500], obj.shape, margin_px=4, old_scale=0.5, new_scale=1.0
        ),
        "picture": lambda: ObjectView(result, largest_px=400),
    }
    assert held_beside(work[what], obj) < at_most
