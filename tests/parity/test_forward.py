"""The forward model of both cores is the float64 reference, and its adjoint is its adjoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ptycho_core_torch.forward", reason="the PyTorch core is not installed")
pytest.importorskip("ptycho_core_tf.forward", reason="the TensorFlow core is not installed")

from ptycho_core import physics
from ptycho_core.physics.stitching import stitch

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
COMPLEX = {"float32": "complex64", "float64": "complex128"}

sides = st.sampled_from([32, 64, 128])
gridsizes = st.integers(1, 3)
modes = st.integers(1, 3)
seeds = st.integers(0, 2**32 - 1)
each_precision = pytest.mark.parametrize("precision", ["float32", "float64"])
a_few = settings(max_examples=12, deadline=None)


def waves(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(size=shape) + 1j * random.normal(size=shape)


def inner(a: np.ndarray, b: np.ndarray) -> complex:
    return complex(np.vdot(a.astype(np.complex128), b.astype(np.complex128)))


def scene(seed: int, n: int, gridsize: int, n_modes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random object, probe and the positions of a group, on a canvas that holds every window."""
    random = np.random.default_rng(seed)
    positions = random.uniform(n // 2 + 1, n // 2 + 18, (gridsize**2, 2))
    return waves(random, n + 21, n + 22), waves(random, n_modes, n, n), positions


@each_precision
@a_few
@given(seeds, sides, gridsizes, modes)
def test_predicted_intensity_is_the_reference(
    core: Any, agree: Any, precision: str, seed: int, n: int, gridsize: int, n_modes: int
) -> None:
    obj, probe, positions = scene(seed, n, gridsize, n_modes)
    whole, rests = core.forward.split_positions(core.tensor(positions))
    rests = core.tensor(core.numpy(rests).astype(precision))
    obj_there, probe_there = (core.tensor(field.astype(COMPLEX[precision])) for field in (obj, probe))
    patches = core.overlap.cut(obj_there, whole - n // 2, n)
    found = core.forward.detector_intensity(core.forward.move_probe(probe_there, rests), patches)
    expected = physics.intensity(obj, probe, positions)
    agree(f"forward model, {core.name} to NumPy", TOLERANCE[precision], core.numpy(found), expected)


@a_few
@given(seeds, sides, gridsizes, modes)
def test_the_derivative_of_the_forward_operator_is_its_adjoint(
    core: Any, agree: Any, seed: int, n: int, gridsize: int, n_modes: int
) -> None:
    obj, probe, positions = scene(seed, n, gridsize, n_modes)
    whole, rests = physics.whole_and_rest(positions)
    corners = core.tensor(whole - n // 2)
    probes = core.forward.move_probe(core.tensor(probe), core.tensor(rests))

    def operator(canvas: Any) -> Any:
        patches = core.overlap.cut(canvas, corners, n)
        return core.forward.propagate(probes * patches[:, None])

    seen = core.numpy(operator(core.tensor(obj)))
    other = waves(np.random.default_rng(seed + 1), *seen.shape)
    [back] = core.pull_back(operator, (obj,), other)
    left, right = inner(other, seen), inner(back, obj)
    size = np.linalg.norm(other) * np.linalg.norm(seen)
    agree.within(f"adjointness, {core.name}", 1e-10, seen, abs(left - right), size)


@each_precision
@a_few
@given(seeds, sides, gridsizes, modes)
def test_gradients_of_the_intensity_agree(
    cores: Any, agree: Any, precision: str, seed: int, n: int, gridsize: int, n_modes: int
) -> None:
    obj, probe, positions = scene(seed, n, gridsize, n_modes)
    whole, rests = physics.whole_and_rest(positions)
    weights = np.random.default_rng(seed).normal(size=(gridsize**2, n, n)).astype(precision)
    fields = (obj.astype(COMPLEX[precision]), probe.astype(COMPLEX[precision]))
    gradients = []
    for core in cores:

        def intensity(canvas: Any, modes: Any, core: Any = core) -> Any:
            patches = core.overlap.cut(canvas, core.tensor(whole - n // 2), n)
            probes = core.forward.move_probe(modes, core.tensor(rests.astype(precision)))
            return core.forward.detector_intensity(probes, patches)

        gradients.append(core.pull_back(intensity, fields, weights))
    for what, one, other in zip(("object", "probe"), *gradients, strict=True):
        agree(f"gradient of the intensity by the {what}", 10 * TOLERANCE[precision], other, one)


@each_precision
@a_few
@given(seeds, sides, gridsizes, modes)
def test_back_projections_agree(
    cores: Any, agree: Any, precision: str, seed: int, n: int, gridsize: int, n_modes: int
) -> None:
    random = np.random.default_rng(seed)
    frames = gridsize**2
    amplitude = random.random((frames, n, n)).astype(precision)
    # With some light everywhere, as a probe has it: the direction of a wave that vanishes is anybody's.
    patches = (1 + 0.3 * waves(random, frames, n, n)).astype(COMPLEX[precision])
    probes = waves(random, frames, n_modes, n, n).astype(COMPLEX[precision])
    for given_patches in (None, patches):
        one, other = (
            core.numpy(
                core.forward.back_project(
                    core.tensor(amplitude),
                    core.tensor(probes),
                    None if given_patches is None else core.tensor(given_patches),
                )
            )
            for core in cores
        )
        agree("back-projection", TOLERANCE[precision], other, one)


@each_precision
@a_few
@given(seeds, sides, gridsizes)
def test_merged_patches_are_those_of_the_stitching(
    core: Any, agree: Any, precision: str, seed: int, n: int, gridsize: int
) -> None:
    random = np.random.default_rng(seed)
    patches, weights = waves(random, gridsize**2, n, n), random.uniform(0.1, 1, (n, n))
    corners = random.integers(0, 20, (gridsize**2, 2))
    corners[0] = 0
    shape = tuple(int(side) for side in corners.max(0) + n)
    merged, covered = core.overlap.merge(
        core.tensor(patches.astype(COMPLEX[precision])),
        core.tensor(corners),
        core.tensor(weights.astype(precision)),
        shape,
    )
    reference = stitch(patches, (corners + n // 2).astype(np.float64), weights=weights)
    y, x = (int(-origin) for origin in np.floor(reference.origin_px))
    expected = reference.object[y : y + shape[0], x : x + shape[1]] * (core.numpy(covered) > 0)
    agree(f"merged patches, {core.name} to NumPy", TOLERANCE[precision], core.numpy(merged), expected)


@a_few
@given(seeds, gridsizes)
def test_place_and_cut_are_adjoint(core: Any, agree: Any, seed: int, gridsize: int) -> None:
    random = np.random.default_rng(seed)
    corners = core.tensor(random.integers(0, 20, (gridsize**2, 2)))
    canvas, patches = waves(random, 36, 37), waves(random, gridsize**2, 16, 16)
    placed = core.numpy(core.overlap.place(core.tensor(patches), corners, (36, 37)))
    taken = core.numpy(core.overlap.cut(core.tensor(canvas), corners, 16))
    size = np.linalg.norm(placed) * np.linalg.norm(canvas)
    agree.within("place and cut", 1e-12, taken, abs(inner(taken, patches) - inner(canvas, placed)), size)
