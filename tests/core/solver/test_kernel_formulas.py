"""The compiled step is that of the formulas, whatever it finds."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_core.kernel import FusedStep, Steps, load_kernel, misfits_of_places
from ptycho_core.kernel.check import mixed_overlaps, reference_places, reference_step
from ptycho_core.kernel.strain import strain_products
from ptycho_core.kernel.structs import radices_of
from ptycho_core.solver.shifts import shift_filters, shift_lines, shift_weights
from ptycho_core.solver.strain import STRAIN_COUNT, quadratic_phases

FLOOR = 0.25
needs_kernel = pytest.mark.skipif(load_kernel().library is None, reason=load_kernel().message)


def step_of(amplitude: np.ndarray, filters: np.ndarray, **how: Any) -> FusedStep:
    """The compiled step of some frames; what is not said is plain."""
    plain = {"good": None, "offset": 0.3, "largest_batch": len(amplitude), "threads": 1}
    library = load_kernel().library
    assert library is not None
    return FusedStep(library, amplitude=amplitude, filters=filters, object_floor=FLOOR, **plain | how)


def complex_values(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)


@needs_kernel
@given(
    side=st.sampled_from([2, 6, 10, 16, 32, 48, 50, 64, 80, 84, 96, 98, 144, 160]),
    n_modes=st.integers(1, 4),
    n_variations=st.integers(0, 2),
    n_frames=st.integers(1, 11),
    threads=st.integers(1, 5),
    mask=st.sampled_from(["none", "shared", "each"]),
    moves=st.sampled_from([(0.7, 0.9), (0.0, 0.9), (0.7, 0.0)]),
    seed=st.integers(0, 1000),
)
def test_the_step_is_that_of_the_formulas(
    side: int,
    n_modes: int,
    n_variations: int,
    n_frames: int,
    threads: int,
    mask: str,
    moves: tuple[float, float],
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    n_filters, before = 4, 3
    n_basis = n_filters * (1 + n_variations)
    n_all = n_frames + before + 2
    frames = slice(before, before + n_frames)
    room = random.integers(0, 30, 2)
    canvas = tuple(int(side + extra + 7) for extra in room)
    corners = random.integers(3, room + 4, (n_all, 2))
    shapes = {"none": None, "shared": (side, side), "each": (n_all, side, side)}
    shape = shapes[mask]
    good = None if shape is None else (random.uniform(size=shape) > 0.2).astype(np.float32)
    amplitude = random.uniform(0, 3, (n_all, side, side)).astype(np.float32)
    filters, weights = complex_values(random, n_filters, side, side), random.normal(size=(n_all, n_basis))
    weights = weights.astype(np.float32)
    state = {
        "spectrum": complex_values(random, n_modes, side, side),
        "spectrum_velocity": complex_values(random, n_modes, side, side),
        "variations": complex_values(random, n_modes, n_variations, side, side),
        "obj": complex_values(random, *canvas),
        "object_velocity": complex_values(random, *canvas),
    }
    expected = {name: values.astype(np.complex128) for name, values in state.items()}
    steps = Steps(moves[0], moves[1], object_momentum=0.5, probe_momentum=0.8)
    first, last = corners[frames].min(axis=0), corners[frames].max(axis=0) + side
    window = (slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1])))
    fused = step_of(amplitude, filters, good=good, offset=0.02, largest_batch=n_frames, threads=threads)
    whole_mask = np.ones((side, side)) if good is None else good[frames] if good.ndim == 3 else good
    of_the_first = reference_step(
        amplitude=amplitude[frames][:1],
        good=whole_mask[:1] if whole_mask.ndim == 3 else whole_mask,
        filters=filters,
        weights=weights[frames][:1],
        corners=corners[frames][:1],
        offset=0.02,
        floor=FLOOR,
        steps=Steps(0.0, 0.0, 0.0, 0.0),
        **{name: values.copy() for name, values in expected.items()},
    ).misfit
    placed = {"corners": corners[frames], "weights": weights[frames]}
    found = fused(frames, window, steps, **placed, **state, with_overlaps=True, with_curvature=True)
    misfit = found.misfit
    assert fused.frame_misfit[before] == pytest.approx(of_the_first, rel=1e-5)
    assert fused.frame_misfit.sum(dtype=np.float64) == pytest.approx(misfit, rel=1e-5)
    assert not fused.frame_misfit[:before].any()
    outside = {name: expected[name].copy() for name in ("obj", "object_velocity")}
    right = reference_step(
        amplitude=amplitude[frames],
        good=whole_mask,
        filters=filters,
        weights=weights[frames],
        corners=corners[frames],
        offset=0.02,
        floor=FLOOR,
        steps=steps,
        **expected,
        window=window,
    )
    if not steps.object_step:
        expected |= outside
    if not steps.probe_step:
        expected["spectrum"] -= expected["spectrum_velocity"]
        expected["spectrum_velocity"] /= steps.probe_momentum
    for name, kept in outside.items():  # momentum acts within the window of the batch alone
        kept[window] = expected[name][window]
        expected[name] = kept
    assert misfit == pytest.approx(right.misfit, rel=1e-5)
    pairs = {name: (values, expected[name]) for name, values in state.items() if values.size}
    pairs["overlaps"] = found.overlaps, right.overlaps
    if steps.object_step:  # momentum alone was taken back above
        pairs["curvature"] = found.curvature, right.curvature
    for name, (values, wanted) in pairs.items():
        assert np.abs(values - wanted).max() <= 1e-5 * np.abs(wanted).max(), name


@needs_kernel
@given(
    side=st.sampled_from([6, 16, 32, 50, 64]),
    n_modes=st.integers(1, 2),
    n_variations=st.integers(1, 3),
    n_frames=st.integers(1, 9),
    threads=st.integers(1, 3),
    degree=st.integers(0, 4),
    probe_step=st.sampled_from([0.0, 0.9]),
    seed=st.integers(0, 1000),
)
def test_spectra_summed_up_first_are_the_sum_of_the_basis(
    side: int,
    n_modes: int,
    n_variations: int,
    n_frames: int,
    threads: int,
    degree: int,
    probe_step: float,
    seed: int,
) -> None:
    """Variations are mixed per frame where the filters are products of lines; the law is that of the sum."""
    random = np.random.default_rng(seed)
    canvas = (side + 9, side + 12)
    base = shift_weights(random.uniform(-0.5, 0.5, (n_frames, 2)), degree)
    mix = np.hstack([random.uniform(0.8, 1.2, (n_frames, 1)), random.normal(size=(n_frames, n_variations))])
    mix[0, 0] = 0  # a frame that has the variations alone
    weights = (mix[:, :, None] * base[:, None]).reshape(n_frames, -1).astype(np.float32)
    corners = random.integers(2, (8, 11), (n_frames, 2))
    amplitude = random.uniform(0, 3, (n_frames, side, side)).astype(np.float32)
    state = {
        "spectrum": complex_values(random, n_modes, side, side),
        "spectrum_velocity": complex_values(random, n_modes, side, side),
        "variations": complex_values(random, n_modes, n_variations, side, side),
        "obj": complex_values(random, *canvas),
        "object_velocity": complex_values(random, *canvas),
    }
    found = []
    for lines in (None, shift_lines(side, degree)):
        fused = step_of(amplitude, shift_filters(side, degree), threads=threads, lines=lines)
        moved = {name: values.copy() for name, values in state.items()}
        result = fused(
            slice(0, n_frames),
            (slice(0, canvas[0]), slice(0, canvas[1])),
            Steps(0.7, probe_step, 0.5, 0.8),
            corners=corners,
            weights=weights,
            **moved,
            with_overlaps=True,
        )
        overlaps = mixed_overlaps(result.overlaps, base, mix) if lines is None else result.overlaps
        found.append({**moved, "overlaps": overlaps, "misfit": np.array(result.misfit)})
    for name, summed in found[0].items():
        assert np.abs(found[1][name] - summed).max() <= 2e-5 * np.abs(summed).max(), name


@needs_kernel
@given(
    side=st.sampled_from([6, 16, 32, 50, 64]),
    n_modes=st.integers(1, 2),
    n_variations=st.integers(0, 2),
    n_frames=st.integers(1, 6),
    threads=st.integers(1, 3),
    mask=st.sampled_from(["none", "shared", "each"]),
    seed=st.integers(0, 1000),
)
def test_the_products_of_a_strain_are_those_of_the_arrays(
    side: int, n_modes: int, n_variations: int, n_frames: int, threads: int, mask: str, seed: int
) -> None:
    random, n_all, degree = np.random.default_rng(seed), 9, seed % 4
    shape = {"none": None, "shared": (side, side), "each": (n_all, side, side)}[mask]
    good = None if shape is None else (random.uniform(size=shape) > 0.2).astype(np.float32)
    amplitude = random.uniform(0, 3, (n_all, side, side)).astype(np.float32)
    frames = np.sort(random.permutation(n_all)[:n_frames])
    filters, phases = shift_filters(side, degree), quadratic_phases(side)
    spectrum = complex_values(random, n_modes, side, side)
    variations = complex_values(random, n_modes, n_variations, side, side)
    obj = complex_values(random, side + 9, side + 12)
    base = shift_weights(random.uniform(-0.5, 0.5, (n_frames, 2)), degree)
    mix = random.normal(size=(n_frames, 1 + n_variations))
    placed = {
        "corners": random.integers(2, (8, 11), (n_frames, 2)),
        "weights": (mix[:, :, None] * base[:, None]).reshape(n_frames, -1).astype(np.float32),
    }
    state = {"spectrum": spectrum, "variations": variations, "obj": obj}
    fused = step_of(amplitude, filters, good=good, threads=threads, lines=shift_lines(side, degree))
    found = fused.strain(frames, phases, **placed, **state, count=STRAIN_COUNT)
    right = strain_products(
        obj,
        np.concatenate([spectrum[:, None], variations], axis=1),
        filters,
        phases,
        **placed,
        amplitude=amplitude[frames],
        good=good if good is None or good.ndim == 2 else good[frames],
        offset=0.3,
        count=STRAIN_COUNT,
    )
    size = np.sqrt(np.diag(right))
    assert np.abs((found - right) / size / size[:, None]).max() < 1e-5


@needs_kernel
def test_a_window_beyond_the_canvas_is_refused() -> None:
    random, side = np.random.default_rng(0), 16
    fused = step_of(np.ones((1, side, side), np.float32), complex_values(random, 1, side, side))
    state = {name: complex_values(random, 1, side, side) for name in ("spectrum", "spectrum_velocity")}
    state |= {name: complex_values(random, side + 4, side + 4) for name in ("obj", "object_velocity")}
    for corner in ([-1, 0], [0, -1], [5, 0], [0, 5]):
        with pytest.raises(ValueError, match="canvas"):
            fused(
                slice(0, 1),
                (slice(0, side + 4), slice(0, side + 4)),
                Steps(1.0, 1.0, 0.0, 0.0),
                corners=np.array([corner]),
                weights=np.ones((1, 1), np.float32),
                **state,
            )


@given(st.integers(1, 1024))
def test_radices_multiply_to_the_length_or_there_are_none(length: int) -> None:
    radices = radices_of(length)
    assert set(radices) <= {2, 3, 4, 5, 7, 8}
    assert not radices or np.prod(radices) == length
    powers = itertools.product(range(11), range(7), range(5), range(4))
    known = any(length == 2**a * 3**b * 5**c * 7**d for a, b, c, d in powers)
    assert FusedStep.fits(length) == (known and length > 1)


@needs_kernel
@settings(max_examples=30)
@given(
    half=st.sampled_from([7, 8, 9, 10, 14, 15, 16, 18, 25, 32]),
    every=st.sampled_from([1, 2]),
    masks=st.sampled_from(["none", "one", "each"]),
    n_modes=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_misfits_at_other_places_are_those_of_whole_transforms(
    half: int, every: int, masks: str, n_modes: int, seed: int
) -> None:
    random, side, n_frames, n_places = np.random.default_rng(seed), 2 * half, 3, 4
    compared = side // every
    probes, obj = complex_values(random, n_modes, n_frames, side, side), complex_values(random, 70, 75)
    corners = random.integers(0, (70 - side + 1, 75 - side + 1), (n_places, n_frames, 2))
    good = (random.uniform(size=(n_frames, compared, compared)) > 0.2).astype(np.float32)
    mask = {"none": None, "one": good[0], "each": good}[masks]
    amplitude = random.uniform(0, 9, (n_frames, compared, compared)).astype(np.float32)
    amplitude *= 1 if mask is None else mask
    found = misfits_of_places(
        load_kernel().library, probes=probes, obj=obj, corners=corners, amplitude=amplitude, good=mask
    )
    right = reference_places(probes, obj, corners, amplitude, mask, every=every)
    np.testing.assert_allclose(found, right, rtol=1e-5)


@needs_kernel
def test_a_frame_without_light_is_no_worse_than_anything_else() -> None:
    dark = np.zeros((1, 8, 8), np.float32)
    found = misfits_of_places(
        load_kernel().library,
        probes=np.zeros((1, 1, 8, 8), np.complex64),
        obj=np.ones((8, 8), np.complex64),
        corners=np.zeros((1, 1, 2), np.int64),
        amplitude=dark,
        good=None,
    )
    assert np.isfinite(found).all()
