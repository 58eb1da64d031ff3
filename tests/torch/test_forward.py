"""The differentiable forward model is the float64 reference, and its gradients are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import torch
from ptycho_core import physics
from ptycho_core.physics.stitching import stitch
from ptycho_core_torch.forward import (
    back_project,
    detector_intensity,
    move_probe,
    propagate,
    split_positions,
)
from ptycho_core_torch.losses import (
    amplitude_mae,
    complex_mae,
    negative_log_likelihood,
    poisson_deviance,
    total_variation,
)
from ptycho_core_torch.overlap import cut, merge, place


def waves(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(size=shape) + 1j * random.normal(size=shape)


def tensor(values: np.ndarray) -> torch.Tensor:
    kind = {"c": torch.complex64, "f": torch.float32, "i": torch.int64}[values.dtype.kind]
    return torch.from_numpy(np.ascontiguousarray(values)).to(kind)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([32, 48, 64, 128]),
    st.integers(1, 3),
    st.integers(1, 5),
    st.booleans(),
    st.integers(0, 99),
)
def test_predicted_intensity_equals_the_reference(
    n: int, modes: int, frames: int, masked: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    probe, obj = waves(random, modes, n, n), waves(random, n + 20, n + 20)
    positions = random.uniform(n // 2 + 1, n // 2 + 18, (frames, 2))
    if masked:
        probe *= random.random((n, n)) > 0.2
    expected = []
    for position in positions:
        whole, rest = physics.whole_and_rest(position[None])
        patch = physics.cut_patches(obj, whole, n)[0]
        exit_waves = physics.interact(physics.shift_probe(probe, rest[0]), patch)
        expected.append((np.abs(physics.propagate(exit_waves)) ** 2).sum(axis=0))
    whole, rests = split_positions(torch.from_numpy(positions))
    patches = cut(tensor(obj), whole - n // 2, n)
    found = detector_intensity(move_probe(tensor(probe), rests.float()), patches).numpy()
    assert np.abs(found - np.stack(expected)).max() <= 1e-5 * np.max(expected)


def test_energy_is_kept_and_zero_frequency_lands_in_the_middle() -> None:
    wave = propagate(torch.ones(1, 32, 32, dtype=torch.complex64))
    assert wave.abs().square().sum() == pytest.approx(32 * 32, rel=1e-6)
    assert wave.abs().argmax() == 16 * 32 + 16


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 99))
def test_place_and_cut_are_adjoint(frames: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    corners = torch.from_numpy(random.integers(0, 20, (frames, 2)))
    canvas, patches = tensor(waves(random, 30, 31)), tensor(waves(random, frames, 8, 8))
    left = torch.vdot(cut(canvas, corners, 8).reshape(-1), patches.reshape(-1))
    right = torch.vdot(canvas.reshape(-1), place(patches, corners, (30, 31)).reshape(-1))
    assert torch.allclose(left, right, rtol=1e-4, atol=1e-3)


def test_the_gradients_of_place_cut_and_rates_are_right() -> None:
    random = np.random.default_rng(0)
    corners = torch.tensor([[0, 1], [2, 0]])
    patches = torch.from_numpy(waves(random, 2, 4, 4)).requires_grad_()
    canvas = torch.from_numpy(waves(random, 7, 6)).requires_grad_()
    probe = torch.from_numpy(waves(random, 2, 4, 4)).requires_grad_()
    shifts = torch.tensor([[0.3, -0.4], [0.1, 0.2]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: place(p, corners, (7, 6)), (patches,))
    assert torch.autograd.gradcheck(lambda c: cut(c, corners, 4), (canvas,))
    assert torch.autograd.gradcheck(
        lambda p, o: detector_intensity(move_probe(p, shifts), o), (probe, patches)
    )


def test_merging_true_patches_gives_the_true_object_whatever_the_weights() -> None:
    random = np.random.default_rng(1)
    obj = tensor(waves(random, 40, 44))
    corners = torch.from_numpy(random.integers(0, 24, (12, 2)))
    weights = torch.from_numpy(random.uniform(0.1, 1, (16, 16)).astype(np.float32))
    merged, covered = merge(cut(obj, corners, 16), corners, weights, (40, 44))
    assert torch.allclose(merged[covered > 0], obj[covered > 0], atol=1e-5)
    assert (merged[covered == 0] == 0).all()


def test_merging_equals_the_stitching_of_the_core() -> None:
    random = np.random.default_rng(2)
    patches = waves(random, 5, 16, 16).astype(np.complex64)
    corners = random.integers(0, 20, (5, 2))
    weights = random.uniform(0.1, 1, (16, 16))
    reference = stitch(patches, (corners + 8).astype(np.float64), weights=weights)
    origin = np.round(reference.origin_px).astype(int)
    shape = tuple(int(side) for side in corners.max(0) + 16)
    merged, covered = merge(tensor(patches), torch.from_numpy(corners), tensor(weights), shape)
    for (y, x), value in np.ndenumerate(merged.numpy()):
        if covered[y, x] > 0:
            assert abs(reference.object[y - origin[0], x - origin[1]] - value) < 1e-4


def test_the_back_projection_of_an_empty_object_is_nothing() -> None:
    random = np.random.default_rng(3)
    probe = tensor(waves(random, 2, 32, 32))
    amplitude = detector_intensity(probe[None], torch.ones(1, 32, 32, dtype=torch.complex64)).sqrt()
    assert back_project(amplitude, probe).abs().max() < 1e-5


def test_losses_are_those_of_the_design() -> None:
    rate, counts = torch.full((1, 2, 2), 8.0), torch.full((1, 2, 2), 9.0)
    assert negative_log_likelihood(rate, counts) == pytest.approx(8 - 9 * math.log(8), abs=1e-5)
    assert poisson_deviance(counts, counts) == pytest.approx(0, abs=1e-6)
    assert poisson_deviance(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)) == pytest.approx(0, abs=1e-6)
    assert amplitude_mae(rate, torch.full((1, 2, 2), 3.0)) == pytest.approx(3 - math.sqrt(8), abs=1e-5)
    obj = torch.tensor([[1 + 1j, 2 + 1j], [1 + 3j, 2 + 3j]])
    assert total_variation(obj) == pytest.approx(2 * 1 + 2 * 4)
    around = torch.polar(torch.ones(1), torch.tensor([math.pi - 0.1]))
    back = torch.polar(torch.ones(1), torch.tensor([-math.pi + 0.1]))
    assert complex_mae(around, back) == pytest.approx(0.2, abs=1e-5)


def test_likelihood_and_deviance_have_the_same_gradient() -> None:
    random = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 9, (2, 8, 8), generator=random).float()
    gradients = []
    for loss in (negative_log_likelihood, poisson_deviance):
        rate = (torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(1)) + 0.1).requires_grad_()
        loss(rate, counts).backward()
        gradients.append(rate.grad)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_bad_pixels_have_no_weight_in_any_loss() -> None:
    good = torch.ones(1, 4, 4)
    good[0, 1, 2] = 0
    counts, rate = torch.full((3, 4, 4), 5.0), torch.full((3, 4, 4), 4.0)
    spoilt = counts.clone()
    spoilt[:, 1, 2] = 1e6
    for loss in (negative_log_likelihood, poisson_deviance, amplitude_mae):
        assert loss(rate, counts, good) == pytest.approx(float(loss(rate, spoilt, good)))
