"""The reference optics: worked numbers, and what the laws over all implementations leave out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.errors import DataError
from ptycho_core import physics
from ptycho_core.physics import group_object

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)


def field(seed, *shape):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


# Moving


@pytest.mark.parametrize("shape", [(6, 6), (5, 9)])
def test_half_a_pixel_splits_a_dot_among_its_neighbours(shape):
    dot = np.zeros(shape, complex)
    dot[2, 2] = 1j
    moved = physics.translate(dot, np.array([0.5, 1.5]))
    expected = np.zeros(shape, complex)
    expected[2:4, 3:5] = 0.25j
    np.testing.assert_allclose(moved, expected)


def test_each_neighbour_outside_the_image_is_dropped_by_itself():
    ones = np.ones((3, 3))
    moved = physics.translate(ones, np.array([0.25, 0.0]))
    np.testing.assert_allclose(moved, [[0.75] * 3, [1.0] * 3, [1.0] * 3])
    assert (physics.translate(ones, np.array([7.5, 0.0])) == 0).all()


@few
@given(seed=seeds, shift=st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
def test_probe_shift_keeps_energy_and_is_undone_by_its_adjoint(seed, shift):
    probe = field(seed, 2, 12, 12)
    moved = physics.shift_probe(probe, np.array(shift))
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(probe))
    np.testing.assert_allclose(physics.shift_probe_adjoint(moved, np.array(shift)), probe, atol=1e-12)


def test_whole_probe_shifts_move_content_by_plus_the_shift():
    probe = field(1, 8, 8)
    np.testing.assert_allclose(
        physics.shift_probe(probe, np.array([2.0, -1.0])), np.roll(probe, (2, -1), (0, 1)), atol=1e-12
    )


# Patches


def test_index_half_of_a_patch_lies_on_the_position():
    obj = np.arange(20.0 * 30).reshape(20, 30) + 0j
    patches = physics.cut_patches(obj, np.array([[9, 14]]), 8)
    assert patches[0, 4, 4] == obj[9, 14]
    assert patches[0, 0, 0] == obj[5, 10]


@few
@given(seed=seeds)
def test_placing_is_the_adjoint_of_cutting(seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(3, 12, (7, 2))
    obj, patches = field(seed, 15, 17), field(seed + 1, 7, 6, 6)
    left = np.vdot(patches, physics.cut_patches(obj, pixels, 6))
    right = np.vdot(physics.place_patches(patches, pixels, (15, 17)), obj)
    assert left == pytest.approx(right)


def test_a_patch_that_leaves_the_canvas_is_refused():
    with pytest.raises(DataError, match=r"window of frame 1 around pixel \(1, 9\) leaves the canvas"):
        physics.cut_patches(np.ones((20, 20), complex), np.array([[9, 9], [1, 9]]), 8)


@given(
    positions=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=5).map(
        np.array
    )
)
@few
def test_whole_and_rest_add_up_to_the_position(positions):
    whole, rest = physics.whole_and_rest(positions)
    np.testing.assert_allclose(whole + rest, positions, rtol=0, atol=1e-9)
    assert ((rest >= -0.5) & (rest < 0.5)).all()


# The whole way


@few
@given(seed=seeds, modes=st.integers(1, 3))
def test_a_transparent_object_passes_the_power_of_the_probe_on_to_every_frame(seed, modes):
    rng = np.random.default_rng(seed)
    probe = field(seed, modes, 8, 8)
    frames = physics.intensity(np.ones((30, 30), complex), probe, rng.uniform(6, 22, (3, 2)))
    np.testing.assert_allclose(frames.sum(axis=(1, 2)), np.sum(np.abs(probe) ** 2))


def test_two_equal_modes_of_half_the_power_are_one_mode():
    probe, obj = field(2, 8, 8), field(3, 20, 20)
    positions = np.array([[8.3, 9.1], [10.0, 11.7]])
    np.testing.assert_allclose(
        physics.intensity(obj, np.stack([probe, probe]) / np.sqrt(2), positions),
        physics.intensity(obj, probe, positions),
    )


@few
@given(seed=seeds, factor=st.floats(0.1, 10))
def test_what_the_object_gains_the_probe_may_lose(seed, factor):
    probe, obj = field(seed, 8, 8), field(seed + 1, 20, 20)
    positions = np.array([[8.3, 9.1], [10.0, 11.7]])
    np.testing.assert_allclose(
        physics.intensity(factor * obj, probe / factor, positions), physics.intensity(obj, probe, positions)
    )


def test_the_gradient_through_all_steps_is_the_slope_of_the_loss():
    obj_patch, probe = field(4, 8, 8), field(5, 2, 8, 8)
    target = np.random.default_rng(6).random((8, 8))

    def loss(patch):
        wave = physics.propagate(physics.interact(probe, patch))
        return 0.5 * np.sum((physics.measure(wave) - target) ** 2)

    wave = physics.propagate(physics.interact(probe, obj_patch))
    by_wave = physics.measure_gradient(wave, physics.measure(wave) - target)
    by_patch = physics.interact_adjoint_object(probe, physics.propagate_adjoint(by_wave))
    direction, step = field(7, 8, 8), 1e-6
    slope = (loss(obj_patch + step * direction) - loss(obj_patch - step * direction)) / (2 * step)
    assert np.vdot(by_patch, direction).real == pytest.approx(slope, rel=1e-6)


# Groups that share one object


def test_the_worked_group_merges_to_the_true_object():
    positions = np.array([[40, 30], [40, 34], [46, 30], [46, 34]])  # (y, x)
    obj = field(8, 80, 80)
    patches = physics.cut_patches(obj, positions, 16)
    relative = positions - positions.mean(axis=0)
    merged = group_object.merge(patches, relative, pad_px=8)
    assert merged.shape == (32, 32)
    covered = merged != 0
    assert covered.sum() == 440
    np.testing.assert_allclose(
        merged[covered], obj[43 - 16 : 43 + 16, 32 - 16 : 32 + 16][covered], atol=1e-12
    )
    np.testing.assert_allclose(group_object.extract(merged, relative, 16), patches, atol=1e-12)


def test_the_anchor_makes_whole_steps_about_a_broken_mean_exact():
    positions = np.array([[40, 40], [38, 47], [46, 36], [47, 45]])  # (y, x); the mean is (42.75, 42)
    obj = field(9, 90, 90)
    patches = physics.cut_patches(obj, positions, 16)
    relative = positions - positions.mean(axis=0)
    back = group_object.extract(group_object.merge(patches, relative), relative, 16)
    np.testing.assert_allclose(back, patches, atol=1e-12)


@few
@given(seed=seeds, g=st.sampled_from([2, 3]))
def test_the_padding_takes_in_every_member(seed, g):
    relative = np.random.default_rng(seed).uniform(-20, 20, (g * g, 2))
    pad = group_object.padding_px(relative)
    steps = relative - group_object.anchor(relative)
    assert np.abs(steps).max() <= pad
    assert group_object.merge(np.ones((g * g, 8, 8), complex), relative).shape == (8 + 2 * pad, 8 + 2 * pad)


def test_a_padding_that_clips_members_is_refused():
    with pytest.raises(DataError, match="padding of 2 px clips"):
        group_object.merge(np.ones((2, 8, 8), complex), np.array([[0.0, 5.0], [0.0, -5.0]]), pad_px=2)


def test_probe_weights_follow_the_power_of_all_modes():
    probe = np.zeros((2, 4, 4), complex)
    probe[0, 1, 1], probe[1, 2, 2] = 2, 1j
    weights = group_object.probe_weights(probe)
    assert weights[1, 1] == pytest.approx(1.001)
    assert weights[2, 2] == pytest.approx(0.251)
    assert weights[0, 0] == pytest.approx(0.001)


def test_the_trimmed_object_is_the_middle_of_the_merged_one():
    merged = field(10, 14, 14)
    np.testing.assert_array_equal(group_object.trimmed(merged, 8), merged[3:11, 3:11])
