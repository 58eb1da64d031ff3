"""Two bytes a pixel: whole counts come back to the bit, anything else within half a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import solve
from ptycho_core.arrays import NumpyArrays
from ptycho_core.coded_frames import CodedFrames, counts_added, frame_sums
from ptycho_core.held_out import hold_out_into, hold_out_photons
from ptycho_core.kernel import FusedStep, Steps, load_kernel
from ptycho_core.simulate import simulate_scan
from ptycho_core.solver import frames as ordered_frames
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.misfit import AmplitudeMisfit

needs_kernel = pytest.mark.skipif(load_kernel().library is None, reason=load_kernel().message)
LARGEST = 65535


def coded(amplitude: np.ndarray) -> CodedFrames:
    room = CodedFrames(np.zeros(amplitude.shape, np.uint16))
    room[:] = amplitude
    return room


@given(arrays_of.arrays(np.uint16, (3, 4, 4)))
def test_whole_counts_come_back_to_the_bit(counts: np.ndarray) -> None:
    amplitude = np.sqrt(counts.astype(np.float32))
    kept = coded(amplitude)
    assert np.array_equal(kept[:], amplitude)
    assert np.array_equal(kept.codes, counts)
    assert not kept.step.any()


def test_every_count_that_two_bytes_hold_comes_back() -> None:
    amplitude = np.sqrt(np.arange(LARGEST + 1, dtype=np.float32)).reshape(4, 128, 128)
    assert np.array_equal(coded(amplitude)[:], amplitude)
    one_more = np.full((1, 2, 2), np.sqrt(np.float32(LARGEST + 1)), np.float32)
    assert coded(one_more).step < 0


@given(
    seed=st.integers(0, 10_000),
    brightest=st.floats(1e5, 1e10),
    n_bright=st.integers(1, 30),
    whole=st.booleans(),
)
def test_bright_pixels_cost_the_others_nothing(
    seed: int, brightest: float, n_bright: int, whole: bool
) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 49152, (2, 9, 9)).astype(np.float64)
    chosen = random.permutation(81)[:n_bright]
    bright = random.uniform(49152, brightest, n_bright)
    bright[0] = brightest
    counts[1].ravel()[chosen] = np.rint(bright) if whole else bright
    amplitude = np.sqrt(counts).astype(np.float32)
    kept = coded(amplitude)
    found = kept[:]
    assert np.array_equal(found[0], amplitude[0])
    dim = counts[1] < 49152
    assert np.array_equal(found[1][dim], amplitude[1][dim])
    most = amplitude.max()
    assert np.abs(found - amplitude).max() <= (most - np.sqrt(49152)) * 0.5 / 16383 + 3e-7 * most + 2e-3


@given(
    arrays_of.arrays(np.float32, (3, 4, 4), elements=st.floats(0, 2.0**60, width=32, allow_subnormal=False)),
)
def test_other_amplitudes_come_back_within_half_a_step(amplitude: np.ndarray) -> None:
    kept = coded(amplitude)
    most = amplitude.max(axis=(1, 2), keepdims=True).astype(np.float64)
    # Half a step, a quarter as fine where all dim pixels are whole counts; and what float32 rounds.
    part = np.where(kept.step < 0, 2.0, 0.5)[:, None, None] / LARGEST
    assert (np.abs(kept[:].astype(np.float64) - amplitude) <= most * (part + 2e-7) + 1e-37).all()


def test_frames_are_kept_one_by_one() -> None:
    random = np.random.default_rng(0)
    amplitude = np.sqrt(random.poisson(3.0, (5, 6, 6))).astype(np.float32)
    amplitude[2] *= 0.7
    amplitude[4, 1, 1] = 300.0
    kept = coded(amplitude)
    assert np.sign(kept.step).tolist() == [0, 0, 1, 0, -1]
    whole = np.array([0, 1, 3, 4])
    assert np.array_equal(kept[whole], amplitude[whole])
    again = CodedFrames(np.zeros(amplitude.shape, np.uint16))
    again[np.array([4, 0, 2])] = amplitude[np.array([4, 0, 2])]
    assert np.array_equal(again[slice(0, 1)], amplitude[:1])
    assert np.array_equal(again.select(np.array([2, 4]))[:], kept[np.array([2, 4])])
    crop = slice(1, 5)
    assert np.array_equal(kept.central(crop)[:], kept[:][:, crop, crop])
    assert np.shares_memory(kept.central(crop).codes, kept.codes)


@given(seed=st.integers(0, 1000), factor=st.sampled_from([1.0, 0.83]), added=st.floats(0, 2))
def test_sums_and_added_counts_are_those_of_the_amplitudes(seed: int, factor: float, added: float) -> None:
    random = np.random.default_rng(seed)
    amplitude = np.sqrt(random.poisson(40.0, (70, 9, 9))).astype(np.float32)
    amplitude[random.random(70) < 0.5] *= np.float32(factor)
    amplitude[::7, 4, 4] = 421.3
    kept = coded(amplitude)
    more = counts_added(kept, added)
    assert np.allclose(more[:], counts_added(kept[:], added), rtol=3e-7, atol=0)
    for found, right in zip(frame_sums(more), frame_sums(more[:]), strict=True):
        assert np.allclose(found, right, rtol=1e-6, atol=0)


def test_photons_are_held_out_as_of_amplitudes() -> None:
    amplitude = np.sqrt(np.random.default_rng(1).poisson(6.0, (9, 8, 8))).astype(np.float32)
    right = hold_out_photons(amplitude, np.random.default_rng(2))
    parts = (
        CodedFrames(np.zeros(amplitude.shape, np.uint16)),
        CodedFrames(np.zeros(amplitude.shape, np.uint16)),
    )
    hold_out_into(coded(amplitude), np.random.default_rng(2), kept=parts[0], held=parts[1])
    for found, expected in zip(parts, right, strict=True):
        assert np.array_equal(found[:], expected)


def step_state(side: int, canvas: tuple[int, int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)

    def complex_values(*shape: int) -> np.ndarray:
        return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)

    return {
        "spectrum": complex_values(1, side, side),
        "spectrum_velocity": complex_values(1, side, side),
        "obj": complex_values(*canvas),
        "object_velocity": complex_values(*canvas),
    }


@needs_kernel
@given(
    side=st.sampled_from([6, 16, 30, 48, 50]),
    seed=st.integers(0, 100),
    factor=st.sampled_from([1.0, 0.9]),
    bright=st.sampled_from([5.0, 1000.0]),
)
def test_the_compiled_step_reads_codes_as_the_amplitudes_they_stand_for(
    side: int, seed: int, factor: float, bright: float
) -> None:
    random, n_frames = np.random.default_rng(seed), 5
    larger = np.sqrt(random.poisson(random.integers(1, 2000), (n_frames, side + 5, side + 5))).astype(
        np.float32
    )
    larger[1::2] *= np.float32(factor)
    larger[2, 5, 5] = bright
    crop = slice(2, 2 + side)
    kept, canvas = coded(larger).central(crop), (side + 8, side + 9)
    placed = {
        "corners": random.integers(0, 8, (n_frames, 2)),
        "weights": np.ones((n_frames, 1), np.float32),
    }
    found = []
    for amplitude in (kept, kept[:]):
        fused = FusedStep(
            load_kernel().library,
            amplitude=amplitude,
            good=None,
            filters=np.ones((1, side, side), np.complex64),
            offset=0.1,
            object_floor=0.25,
            largest_batch=n_frames,
            threads=2,
        )
        state = step_state(side, canvas)
        window = (slice(0, canvas[0]), slice(0, canvas[1]))
        misfit = fused(slice(0, n_frames), window, Steps(0.7, 0.9, 0.5, 0.8), **placed, **state).misfit
        found.append((misfit, state))
    # To the bit but for steps from bright pixels on, where C may fuse a product with its sum.
    close = 1e-6 if bright > 5 else 0
    assert found[0][0] == pytest.approx(found[1][0], rel=close, abs=0)
    for name in found[0][1]:
        assert np.allclose(found[0][1][name], found[1][1][name], rtol=0, atol=close * 1e3), name


def test_the_misfit_of_arrays_reads_codes_as_amplitudes() -> None:
    random = np.random.default_rng(4)
    amplitude = np.sqrt(random.poisson(20.0, (40, 16, 16))).astype(np.float32)
    amplitude[::3] *= np.float32(0.77)
    kept, xp = coded(amplitude), NumpyArrays()
    canvas = (1 + 0.1 * random.normal(size=(40, 40))).astype(np.complex64)
    basis = random.normal(size=(1, 1, 16, 16)).astype(np.complex64)
    corners, weights = random.integers(0, 24, (40, 2)), np.ones((40, 1), np.float32)

    def misfits(of: Any, chosen: Any) -> np.ndarray:
        misfit = AmplitudeMisfit(xp, of, None, offset=0.1)
        return misfit.misfits(chosen, canvas, corners[chosen], basis, weights[chosen])

    for chosen in (slice(None), np.array([3, 8, 30])):
        assert np.allclose(misfits(kept, chosen), misfits(kept[:], chosen), rtol=1e-6)
    with_codes, with_floats = (AmplitudeMisfit(xp, of, None, offset=0.1) for of in (kept, kept[:]))
    assert np.array_equal(with_codes.seen(np.array([1, 6]))[0], with_floats.seen(np.array([1, 6]))[0])


def as_if_large(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let any scan be so large that its frames go into a file."""
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(ordered_frames, "IN_MEMORY_BYTES", 0)


@pytest.mark.parametrize(
    "config",
    [
        SolverConfig(effort="fast", seed=1),
        SolverConfig(effort="fast", seed=1, refine_positions=True, frame_intensity=True),
        SolverConfig(epochs=10, seed=1),
        SolverConfig(effort="fast", prior="log", seed=1),
    ],
    ids=["plain", "positions", "default", "prior"],
)
@pytest.mark.parametrize("kernel", ["auto", "off"])
def test_a_scan_is_solved_as_from_amplitudes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: SolverConfig, kernel: Any
) -> None:
    scan = simulate_scan(frames=40, frame_px=32, seed=4).scan
    execution = SolverExecutionConfig(arrays="numpy", kernel=kernel, accelerator="cpu")
    held = solve(scan, config, execution)
    as_if_large(monkeypatch, tmp_path)
    mapped = solve(scan, config, execution)
    assert abs(mapped.data_residual / held.data_residual - 1) < 1e-3
    seen = held.coverage > 0.1
    assert np.abs(mapped.object - held.object)[seen].max() < 1e-2
    assert any("two bytes a pixel" in event.message for event in mapped.events)
    assert list(tmp_path.iterdir()) == []


def test_few_photons_are_chosen_by_as_from_amplitudes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = simulate_scan(frames=36, frame_px=32, photons=2e3, seed=4).scan
    config = SolverConfig(seed=1)
    held = solve(scan, config)
    as_if_large(monkeypatch, tmp_path)
    mapped = solve(scan, config)
    assert abs(mapped.data_residual / held.data_residual - 1) < 1e-3


def test_ordered_frames_give_back_what_the_scan_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = simulate_scan(frames=30, frame_px=16, photons=1e5, seed=2).scan
    as_if_large(monkeypatch, tmp_path)
    order = np.random.default_rng(0).permutation(30)
    ordered = OrderedFrames.read(scan, order)
    assert ordered.in_file
    assert np.array_equal(ordered.as_measured().amplitude(slice(None)), scan.amplitude())
    again = OrderedFrames.read(scan.select(np.arange(20)), np.arange(20), at_hand=ordered.as_measured())
    assert np.array_equal(again.as_measured().amplitude(slice(0, 20)), scan.amplitude(slice(0, 20)))
    assert np.allclose(ordered.mean_pattern(16), np.square(scan.amplitude()).mean(axis=0), rtol=1e-6)
    kept, held = ordered.split_photons(np.random.default_rng(0))
    both = np.square(kept.as_measured().amplitude(slice(None))) + np.square(
        held.as_measured().amplitude(slice(None))
    )
    assert np.allclose(both, scan.counts(), rtol=1e-5)


@pytest.mark.parametrize("harm", [lambda c: c.codes, lambda c: c.step])
def test_what_is_read_is_a_copy(harm: Callable[[CodedFrames], np.ndarray]) -> None:
    kept = coded(np.ones((2, 3, 3), np.float32))
    read = kept[:]
    read[:] = 7
    assert (kept[:] == 1).all()
    assert not np.shares_memory(read, harm(kept))
