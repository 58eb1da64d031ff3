"""The network of our own: a small U-net on amplitude and back-projection, one object patch a frame.

Half the resolution inside (pixel-unshuffle), three levels, group normalisation, nearest upsampling. The
last layer starts at zero, so that training starts from a nearly transparent object.

Source: the shape is that of O. Ronneberger, P. Fischer and T. Brox, MICCAI (2015) 234,
10.1007/978-3-319-24574-4_28; the inputs and the head are ours, docs/reference/physics.md, "Networks".
"""

from __future__ import annotations

import math

from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.fused import gelu, normalised_gelu
from ptycho_core_tf.networks.layers import Convolution, GroupNorm, at_least_float32, up_convolved

__all__ = ["LARGEST_AMPLITUDE", "Unet"]

#: |o| = 1.2 sigmoid(a + 2), so that a = 0 is nearly transparent and no pixel transmits much more than 1.
LARGEST_AMPLITUDE = 1.2
_AMPLITUDE_BIAS = 2.0
_GROUPS = 8


class Unet(tf.Module):
    """Maps (B, C_in, N, N) real to (B, C_out, N, N) complex; N a multiple of 16.

    Args:
        channels_in: 1 for amplitude alone, 3 with the back-projection.
        channels_out: complex patches per input; 1 for a network that sees frames one by one.
        width: channels of the stem; the levels have one, two and four times as many.
        dtype: of the weights.
    """

    def __init__(
        self, channels_in: int, channels_out: int = 1, *, width: int = 32, dtype: str = "float32"
    ) -> None:
        super().__init__()
        self.stem = Convolution(4 * channels_in, width, dtype=dtype)
        self.down = [
            Block(before, after, dtype=dtype)
            for before, after in ((width, width), (width, 2 * width), (2 * width, 4 * width))
        ]
        self.middle = Block(4 * width, 4 * width, dtype=dtype)
        self.up = [
            Block(before, after, dtype=dtype)
            for before, after in ((8 * width, 2 * width), (4 * width, width), (2 * width, width))
        ]
        self.output = Convolution(width, 8 * channels_out, dtype=dtype)
        for variable in (self.output.weight, self.output.bias):
            variable.assign(tf.zeros_like(variable))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Return the object patches."""
        x = gelu(self.stem(_unshuffled(x)))
        kept = []
        for block in self.down:
            x = block(x)
            kept.append(x)
            x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
        x = self.middle(x)
        for block, skip in zip(self.up, reversed(kept), strict=True):
            x = block(x, skip)
        amplitude, phase = tf.split(at_least_float32(_shuffled(self.output(x))), 2, axis=1)
        amplitude = LARGEST_AMPLITUDE * tf.sigmoid(amplitude + _AMPLITUDE_BIAS)
        phase = math.pi * tf.tanh(phase)
        return tf.complex(amplitude * tf.cos(phase), amplitude * tf.sin(phase))


class Block(tf.Module):
    """Two 3 x 3 convolutions with GELU, group normalisation before the second."""

    def __init__(self, channels_in: int, channels_out: int, *, dtype: str) -> None:
        super().__init__()
        self.conv1 = Convolution(channels_in, channels_out, dtype=dtype)
        self.conv2 = Convolution(channels_out, channels_out, dtype=dtype)
        self.norm = GroupNorm(_GROUPS, channels_out, dtype=dtype)

    def __call__(self, x: tf.Tensor, skip: tf.Tensor | None = None) -> tf.Tensor:
        """Return features of the same size.

        Args:
            skip: further channels, after those of `x`, which is drawn twice as large to fit. A convolution of
                both is the sum of one of each.
        """
        first = self.conv1(x) if skip is None else self._of_both(x, skip)
        return normalised_gelu(self.norm, self.conv2(gelu(first)))

    def _of_both(self, x: tf.Tensor, skip: tf.Tensor) -> tf.Tensor:
        of_x, of_skip = tf.split(self.conv1.weight, [x.shape[-1], skip.shape[-1]], 2)
        bias, of_skip = (tf.cast(part, skip.dtype) for part in (self.conv1.bias, of_skip))
        return tf.nn.bias_add(tf.nn.conv2d(skip, of_skip, 1, "SAME"), bias) + up_convolved(x, of_x)


def _unshuffled(images: tf.Tensor) -> tf.Tensor:
    """Images (B, C, N, N) to features (B, N/2, N/2, 4 C): four pixels to as many channels, image by image."""
    _, channels, height, width = images.shape
    split = tf.reshape(images, [-1, channels, height // 2, 2, width // 2, 2])
    return tf.reshape(tf.transpose(split, [0, 2, 4, 1, 3, 5]), [-1, height // 2, width // 2, 4 * channels])


def _shuffled(features: tf.Tensor) -> tf.Tensor:
    """Undo `_unshuffled`."""
    _, height, width, channels = features.shape
    split = tf.reshape(features, [-1, height, width, channels // 4, 2, 2])
    return tf.reshape(tf.transpose(split, [0, 3, 1, 4, 2, 5]), [-1, channels // 4, 2 * height, 2 * width])
