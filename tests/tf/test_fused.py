"""What is compiled or rearranged for speed computes what the plain layers compute, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.fused import compiled_parts, gelu, normalised_gelu
from ptycho_core_tf.networks.layers import GroupNorm, doubled, up_convolved

#: Rounding, a few operations long; half precision is rounded at other places.
TOLERANCE = {"float64": 1e-13, "float32": 3e-6, "bfloat16": 3e-2}
each_precision = pytest.mark.parametrize("precision", TOLERANCE)
# One image alone, few columns, one channel a group: what a wrong axis would show in.
each_shape = pytest.mark.parametrize("shape", [(2, 6, 4, 16), (1, 5, 7, 8)], ids=str)


def drawn(*shape: int, seed: int = 1, spread: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape, scale=spread)


def with_gradients(
    function: Callable[..., tf.Tensor], arguments: list[Any], upstream: np.ndarray
) -> list[np.ndarray]:
    """Give the result, and what becomes of `upstream` on the way back to each argument."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        result = function(*arguments)
    gradients = tape.gradient(result, arguments, tf.cast(tf.constant(upstream), result.dtype))
    return [tf.cast(part, tf.float64).numpy() for part in (result, *gradients)]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


@each_precision
@each_shape
def test_compiled_gelu_is_gelu(precision: str, shape: tuple[int, ...]) -> None:
    features = tf.cast(tf.constant(drawn(*shape)), precision)
    plain = with_gradients(gelu, [features], drawn(*shape, seed=2))
    with compiled_parts(True):
        compiled = with_gradients(gelu, [features], drawn(*shape, seed=2))
    assert_same(compiled, plain, TOLERANCE[precision])


def test_gelu_far_from_zero_is_the_identity_or_nothing() -> None:
    with compiled_parts(True):
        value, slope = with_gradients(gelu, [tf.constant([-40.0, -9.0, 0.0, 9.0, 40.0])], np.ones(5))
    assert value == pytest.approx([0, 0, 0, 9, 40], abs=1e-5)
    assert slope == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-5)


@each_precision
@each_shape
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_compiled_normalisation_is_that_of_the_layers(
    precision: str, shape: tuple[int, ...], offset: float
) -> None:
    weights = "float32" if precision == "bfloat16" else precision
    norm = GroupNorm(8, shape[-1], dtype=weights)
    norm.weight.assign(drawn(shape[-1], seed=3))
    norm.bias.assign(drawn(shape[-1], seed=4))
    features = tf.cast(tf.constant(offset + drawn(*shape)), precision)

    def results() -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            tape.watch(features)
            result = normalised_gelu(norm, features)
        sources = [features, norm.weight, norm.bias]
        gradients = tape.gradient(result, sources, tf.cast(tf.constant(drawn(*shape, seed=2)), result.dtype))
        return [tf.cast(part, tf.float64).numpy() for part in (result, *gradients)]

    plain = results()
    with compiled_parts(True):
        compiled = results()
    # Both subtract the mean, and lose as many digits as it is larger than what is left.
    assert_same(compiled, plain, TOLERANCE[precision] * (1 + offset))


def test_compiled_layers_take_any_number_of_images_in_a_graph() -> None:
    norm = GroupNorm(8, 16, dtype="float32")

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 4, 16])], autograph=False)
    def in_graph(features: tf.Tensor) -> tf.Tensor:
        with compiled_parts(True), tf.GradientTape() as tape:
            tape.watch(features)
            result = normalised_gelu(norm, gelu(features))
        return tape.gradient(result, features)

    four = tf.constant(drawn(4, 6, 4, 16).astype(np.float32))
    together = in_graph(four).numpy()
    apart = np.concatenate([in_graph(four[:3]).numpy(), in_graph(four[3:]).numpy()])
    assert together.shape == four.shape
    assert np.abs(together).max() > 0
    assert np.abs(together - apart).max() <= 1e-6 * np.abs(together).max()


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(("height", "width"), [(4, 6), (1, 1)])
def test_convolving_upwards_is_drawing_twice_as_large_and_convolving(
    precision: str, height: int, width: int
) -> None:
    features = tf.constant(drawn(2, height, width, 5).astype(precision))
    kernel = tf.constant(drawn(3, 3, 5, 7, seed=2).astype(precision))
    upstream = drawn(2, 2 * height, 2 * width, 7, seed=3)
    drawn_first = with_gradients(
        lambda features, kernel: tf.nn.conv2d(doubled(features), kernel, 1, "SAME"),
        [features, kernel],
        upstream,
    )
    assert_same(with_gradients(up_convolved, [features, kernel], upstream), drawn_first, TOLERANCE[precision])
