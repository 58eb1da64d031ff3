"""Both canvases: exact where they can be, of the known size, and clear about what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.errors import ConfigError, DataError
from ptycho_core import physics
from ptycho_core.physics.stitching import reassemble_centred, stitch

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, deadline=None)
FIRST = np.array([[20, 20], [20, 26], [28, 20], [28, 26]])  # (y, x)
SECOND = np.array([[0.0, 0.0], [0.0, 7.5], [4.5, 0.0]])


def field(seed, *shape):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def test_the_first_worked_canvas():
    obj = field(0, 60, 60)
    patches = physics.cut_patches(obj, FIRST, 16)
    canvas = reassemble_centred(patches, FIRST.astype(float), 8)
    assert canvas.shape == (16, 16)
    covered = canvas != 0
    assert covered.sum() == 224
    # Canvas index k is object pixel k - (M/2 + p) + mean, (y, x) = (24, 23).
    np.testing.assert_allclose(canvas[covered], obj[16:32, 15:31][covered], atol=1e-6)


def test_positions_land_where_the_first_worked_canvas_says():
    for position, expected in zip(FIRST, [(4, 5), (4, 11), (12, 5), (12, 11)], strict=True):
        # Only the patch at this position is bright, and only at its index N/2.
        patches = np.zeros((4, 16, 16), complex)
        patches[(position == FIRST).all(axis=1).argmax(), 8, 8] = 1
        canvas = reassemble_centred(patches, FIRST.astype(float), 8)
        assert np.unravel_index(np.abs(canvas).argmax(), canvas.shape) == expected


def test_the_second_worked_canvas_has_22_pixels():
    assert reassemble_centred(np.ones((3, 16, 16), complex), SECOND, 10).shape == (22, 22)


@pytest.mark.parametrize(
    ("positions", "m", "origin", "shape"),
    [(FIRST, 8, (16, 16), (16, 14)), (SECOND + 20, 10, (15, 15), (15, 18))],
)
def test_own_canvas_has_the_known_shape_and_origin(positions, m, origin, shape):
    stitched = stitch(np.ones((len(positions), m, m), complex), positions.astype(float))
    assert stitched.object.shape == stitched.coverage.shape == shape
    assert tuple(stitched.origin_px) == origin


@few
@given(seed=seeds, far=st.integers(-(10**6), 10**6), margin=st.integers(0, 3), data=st.data())
def test_whole_pixel_positions_are_stitched_exactly(seed, far, margin, data):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(8, 24, (data.draw(st.integers(1, 9)), 2))
    obj = field(seed, 34, 34)
    weights = rng.random((10, 10)) + 0.1
    patches = physics.cut_patches(obj, pixels, 10)
    stitched = stitch(patches, pixels + float(far), weights=weights, margin_px=margin)
    y, x = (stitched.origin_px - far).astype(int)
    h, w = stitched.object.shape
    rows, columns = np.mgrid[y : y + h, x : x + w]
    covered = stitched.coverage > 0
    np.testing.assert_allclose(stitched.object[covered], obj[rows[covered], columns[covered]], atol=1e-12)
    assert (stitched.object[~covered] == 1).all()
    assert stitched.coverage.sum() == pytest.approx(len(pixels) * weights.sum())


@few
@given(seed=seeds, count=st.integers(1, 9))
def test_a_constant_object_stays_constant_at_positions_between_pixels(seed, count):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-30, 30, (count, 2))
    weights = rng.random((8, 8)) + 1e-3
    constant = 0.6 * np.exp(1.1j)
    stitched = stitch(np.full((count, 8, 8), constant), positions, weights=weights)
    covered = stitched.coverage > 0
    np.testing.assert_allclose(stitched.object[covered], constant, rtol=1e-9)
    assert stitched.coverage.sum() == pytest.approx(count * weights.sum(), rel=1e-5)


@few
@given(seed=seeds)
def test_the_order_of_the_patches_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    positions, patches = rng.uniform(0, 20, (6, 2)), field(seed, 6, 8, 8)
    order = rng.permutation(6)
    one, other = stitch(patches, positions), stitch(patches[order], positions[order])
    np.testing.assert_allclose(other.object, one.object, atol=1e-9)
    np.testing.assert_allclose(other.coverage, one.coverage, atol=1e-12)


def test_the_crop_limits_the_weights_and_not_the_canvas():
    patches = np.ones((1, 12, 12), complex)
    cropped = stitch(patches, np.array([[6.0, 6.0]]), crop_px=4)
    assert cropped.object.shape == (12, 12)
    assert cropped.coverage.sum() == 16
    assert (cropped.coverage[4:8, 4:8] == 1).all()


def test_repeated_positions_are_averaged():
    patches = np.stack([np.full((4, 4), 1 + 0j), np.full((4, 4), 3 + 0j)])
    stitched = stitch(patches, np.full((2, 2), 7.0))
    assert (stitched.object == 2).all()
    assert (stitched.coverage == 2).all()


@pytest.mark.parametrize("crop", [7, 0, 18])
def test_a_crop_that_is_odd_or_too_large_is_refused(crop):
    patches, positions = np.ones((1, 16, 16), complex), np.zeros((1, 2))
    with pytest.raises(ConfigError, match=f"crop is {crop} px; use an even number"):
        reassemble_centred(patches, positions, crop)
    with pytest.raises(ConfigError, match="even number"):
        stitch(patches, positions, crop_px=crop)


def test_patches_without_positions_are_refused():
    empty = np.ones((0, 8, 8), complex)
    for canvas in (stitch, reassemble_centred):
        with pytest.raises(DataError, match="at least one patch"):
            canvas(empty, np.zeros((0, 2)))
