"""The layers that every network here is made of; the PyTorch core takes them from torch.nn.

Features are (B, H, W, channels). A layer computes in the number type of its features, whatever its weights
have; norms alone compute in float32 at least.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from ptycho_core_tf.first_weights import uniform
from ptycho_core_tf.framework import tf
from ptycho_core_tf.weights import KERNEL

__all__ = [
    "EPSILON",
    "Convolution",
    "GroupNorm",
    "InstanceNorm",
    "at_least_float32",
    "doubled",
    "gelu",
    "mean_of_columns",
    "mean_of_rows",
    "standardised",
    "up_convolved",
]

#: As in torch.nn.
EPSILON = 1e-5
#: Which taps of a kernel of 3 add up in each tap of the transposed one of 4.
_SPREAD = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))


class Convolution(tf.Module):
    """A convolution that keeps the size; it starts uniform within 1 / sqrt(fan-in), as torch's does."""

    def __init__(self, channels_in: int, channels_out: int, side_px: int = 3, *, dtype: str) -> None:
        super().__init__()
        limit = 1 / math.sqrt(channels_in * side_px**2)
        shape = (side_px, side_px, channels_in, channels_out)
        self.weight = tf.Variable(uniform(shape, limit, dtype), name=KERNEL)
        self.bias = tf.Variable(uniform(shape[-1:], limit, dtype), name="bias")

    def __call__(self, features: Float[tf.Tensor, "group h w before"]) -> Float[tf.Tensor, "group h w after"]:
        """Return features of the same size."""
        kernel, bias = (tf.cast(variable, features.dtype) for variable in (self.weight, self.bias))
        return tf.nn.bias_add(tf.nn.conv2d(features, kernel, 1, "SAME"), bias)


class GroupNorm(tf.Module):
    """Mean 0 and variance 1 (biased) over each image and group of channels, then a scale and a shift."""

    def __init__(self, groups: int, channels: int, *, dtype: str) -> None:
        super().__init__()
        self._groups = groups
        self.weight = tf.Variable(tf.ones(channels, dtype), name="weight")
        self.bias = tf.Variable(tf.zeros(channels, dtype), name="bias")

    def __call__(self, features: Float[tf.Tensor, "group h w c"]) -> Float[tf.Tensor, "group h w c"]:
        """Return features of the same size."""
        wide = at_least_float32(features)
        mean = self.over_groups(_mean_of_images(wide))
        variance = self.over_groups(_mean_of_images(tf.square(wide - mean)))
        # One factor and one summand for each image and channel: the features are gone through once.
        factor = tf.math.rsqrt(variance + EPSILON) * self.weight
        return tf.cast(wide * factor + (self.bias - mean * factor), features.dtype)

    def over_groups(self, means: Float[tf.Tensor, "group 1 1 c"]) -> Float[tf.Tensor, "group 1 1 c"]:
        """Give every channel the mean of its group."""
        channels = means.shape[-1]
        grouped = tf.reshape(means, [-1, 1, 1, self._groups, channels // self._groups])
        shared = tf.reduce_mean(grouped, -1, keepdims=True)
        return tf.reshape(tf.repeat(shared, channels // self._groups, -1), [-1, 1, 1, channels])


class InstanceNorm(tf.Module):
    """Mean 0 and variance 1 (biased) over each image and channel, then a scale and a shift."""

    def __init__(self, channels: int, *, dtype: str) -> None:
        super().__init__()
        self.weight = tf.Variable(tf.ones(channels, dtype), name="weight")
        self.bias = tf.Variable(tf.zeros(channels, dtype), name="bias")

    def __call__(self, features: Float[tf.Tensor, "group h w c"]) -> Float[tf.Tensor, "group h w c"]:
        """Return features of the same size."""
        wide = standardised(at_least_float32(features))
        return tf.cast(wide * self.weight + self.bias, features.dtype)


def standardised(images: Float[tf.Tensor, "group h w c"]) -> Float[tf.Tensor, "group h w c"]:
    """Give each image and channel mean 0 and variance 1 (biased)."""
    deviation = images - _mean_of_images(images)
    return deviation * tf.math.rsqrt(_mean_of_images(tf.square(deviation)) + EPSILON)


def _mean_of_images(images: Float[tf.Tensor, "group h w c"]) -> Float[tf.Tensor, "group 1 1 c"]:
    """Average over an image, first along its rows.

    Both axes at once are added up one pixel after the other, in float32 to four digits only.
    """
    return mean_of_rows(mean_of_columns(images))


def mean_of_columns(images: Float[tf.Tensor, "group h w c"]) -> Float[tf.Tensor, "group h 1 c"]:
    """Average along each row."""
    return tf.reduce_mean(images, 2, keepdims=True)


def mean_of_rows(images: Float[tf.Tensor, "group h w c"]) -> Float[tf.Tensor, "group 1 w c"]:
    """Average along each column."""
    return tf.reduce_mean(images, 1, keepdims=True)


def gelu(features: Float[tf.Tensor, "*size"]) -> Float[tf.Tensor, "*size"]:
    """Return x Phi(x), exactly, by erf.

    Not `tf.nn.gelu`, which rounds the root of 2 to float32 whatever the features are.
    """
    half, root = (tf.constant(number, features.dtype) for number in (0.5, math.sqrt(0.5)))
    return half * features * (1 + tf.math.erf(features * root))


def up_convolved(
    features: Float[tf.Tensor, "group h w before"], kernel: Float[tf.Tensor, "3 3 before after"]
) -> Float[tf.Tensor, "group h2 w2 after"]:
    """Convolve what `doubled` draws, without drawing it.

    Of four equal pixels a kernel of 3 x 3 sees one, two or all at once. What it makes of them is what a
    transposed convolution makes of the one pixel, with less than half the multiplications.
    """
    (_, height, width, before), after = features.shape, kernel.shape[-1]
    spread = tf.constant(np.kron(_SPREAD, _SPREAD), kernel.dtype)
    transposed = tf.reshape(tf.matmul(spread, tf.reshape(kernel, [9, -1])), [4, 4, before, after])
    shape = tf.stack([tf.shape(features)[0], 2 * height, 2 * width, after])
    return tf.nn.conv2d_transpose(features, tf.transpose(transposed, [0, 1, 3, 2]), shape, 2, "SAME")


def doubled(features: Float[tf.Tensor, "group h w c"]) -> Float[tf.Tensor, "group h2 w2 c"]:
    """Draw every pixel as four: nearest-neighbour upsampling, whose gradient is a sum of slices."""
    _, height, width, channels = features.shape
    rows = tf.reshape(tf.concat([features, features], -1), [-1, height, 2 * width * channels])
    return tf.reshape(tf.concat([rows, rows], -1), [-1, 2 * height, 2 * width, channels])


def at_least_float32(values: Float[tf.Tensor, "*size"]) -> Float[tf.Tensor, "*size"]:
    """Widen half precision; complex numbers have none."""
    return values if values.dtype == tf.float64 else tf.cast(values, tf.float32)
