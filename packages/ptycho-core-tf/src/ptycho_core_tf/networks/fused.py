"""What lies between convolutions, as a few loops that XLA compiles instead of many that TensorFlow runs.

Every operation of TensorFlow goes through memory once. GELU is five of them and its gradient ten more; on a
CPU that takes half as long as the convolution before it. Compiled, each of the two is one loop. Convolutions
are left as they are: those of oneDNN are faster than XLA's.

Nothing is compiled but within `compiled_parts`. The first call with each shape takes about a tenth of a
second, and on a GPU XLA needs libraries that not every installation has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from jaxtyping import Float

from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks import layers
from ptycho_core_tf.networks.layers import (
    EPSILON,
    GroupNorm,
    at_least_float32,
    mean_of_columns,
    mean_of_rows,
)

__all__ = ["compiled_parts", "gelu", "normalised_gelu"]

_COMPILED: ContextVar[bool] = ContextVar("compiled", default=False)

Gradient = Callable[[tf.Tensor], Any]


@contextmanager
def compiled_parts(wanted: bool) -> Iterator[None]:
    """Let the functions of this module use compiled loops meanwhile, or not."""
    token = _COMPILED.set(wanted)
    try:
        yield
    finally:
        _COMPILED.reset(token)


def gelu(features: Float[tf.Tensor, "*size"]) -> Float[tf.Tensor, "*size"]:
    """Return x Phi(x), exactly, by erf."""
    return _compiled_gelu(features) if _COMPILED.get() else layers.gelu(features)


def normalised_gelu(
    norm: GroupNorm, features: Float[tf.Tensor, "group h w c"]
) -> Float[tf.Tensor, "group h w c"]:
    """Return the GELU of normalised features."""
    if not _COMPILED.get():
        return layers.gelu(norm(features))

    @tf.custom_gradient
    def result(features: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        mean = norm.over_groups(_average(_values, features))
        variance = norm.over_groups(_average(_squares, features, mean))
        one_over_std = tf.math.rsqrt(variance + EPSILON)
        factor = one_over_std * weight
        summand = bias - mean * factor

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            inner = _run(_scaled_gelu_gradient, features, upstream, factor, summand)
            by_bias = _average(_values, inner)
            by_weight = _average(_products, features, inner, mean) * one_over_std
            # Normalising takes out of the gradient what shifts or scales all pixels of a group.
            slope = tf.square(one_over_std) * norm.over_groups(by_weight * weight)
            constant = slope * mean - one_over_std * norm.over_groups(by_bias * weight)
            by_features = _run(_combined, features, inner, factor, slope, constant)
            pixels = tf.cast(tf.reduce_prod(tf.shape(features)[1:3]), weight.dtype)
            return by_features, *(pixels * tf.reduce_sum(part, (0, 1, 2)) for part in (by_weight, by_bias))

        return _run(_scaled_gelu, features, factor, summand), gradient

    return result(features, tf.convert_to_tensor(norm.weight), tf.convert_to_tensor(norm.bias))


@tf.custom_gradient
def _compiled_gelu(features: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    return _run(_gelu, features), lambda upstream: _run(_gelu_gradient, features, upstream)


def _run(function: Callable[..., tf.Tensor], features: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
    """Compute something of the shape of the features, compiled."""
    return tf.ensure_shape(_compiled(function, features, *others), features.shape)


def _average(function: Callable[..., tf.Tensor], features: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
    """Average over each image and channel what a compiled function averages over rows."""
    batch, height, _, channels = features.shape
    return mean_of_rows(tf.ensure_shape(_compiled(function, features, *others), [batch, height, 1, channels]))


def _compiled(function: Callable[..., tf.Tensor], *arguments: tf.Tensor) -> tf.Tensor:
    return _traced(function, *((len(argument.shape), argument.dtype) for argument in arguments))(*arguments)


@cache
def _traced(function: Callable[..., tf.Tensor], *kinds: tuple[int, tf.DType]) -> Callable[..., tf.Tensor]:
    # Once, whatever the shapes; XLA then compiles for each shape by itself, and once for all layers.
    signature = [tf.TensorSpec([None] * rank, dtype) for rank, dtype in kinds]
    return tf.function(function, input_signature=signature, jit_compile=True, autograph=False)


def _gelu(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(layers.gelu(at_least_float32(x)), x.dtype)


def _gelu_gradient(x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    return tf.cast(at_least_float32(upstream) * _slope_of_gelu(at_least_float32(x)), x.dtype)


def _scaled_gelu(x: tf.Tensor, factor: tf.Tensor, summand: tf.Tensor) -> tf.Tensor:
    return tf.cast(layers.gelu(at_least_float32(x) * factor + summand), x.dtype)


def _scaled_gelu_gradient(
    x: tf.Tensor, upstream: tf.Tensor, factor: tf.Tensor, summand: tf.Tensor
) -> tf.Tensor:
    slope = _slope_of_gelu(at_least_float32(x) * factor + summand)
    return tf.cast(at_least_float32(upstream) * slope, x.dtype)


def _values(x: tf.Tensor) -> tf.Tensor:
    return mean_of_columns(at_least_float32(x))


def _squares(x: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    return mean_of_columns(tf.square(at_least_float32(x) - mean))


def _products(x: tf.Tensor, inner: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    return mean_of_columns(at_least_float32(inner) * (at_least_float32(x) - mean))


def _combined(
    x: tf.Tensor, inner: tf.Tensor, factor: tf.Tensor, slope: tf.Tensor, constant: tf.Tensor
) -> tf.Tensor:
    wide = at_least_float32(inner) * factor - at_least_float32(x) * slope + constant
    return tf.cast(wide, x.dtype)


def _slope_of_gelu(x: tf.Tensor) -> tf.Tensor:
    """Phi(x) + x phi(x)."""
    cumulated = 0.5 * (1 + tf.math.erf(x * tf.constant(math.sqrt(0.5), x.dtype)))
    density = tf.exp(-0.5 * tf.square(x)) * tf.constant(1 / math.sqrt(2 * math.pi), x.dtype)
    return cumulated + x * density
