"""The classic convolutional network: one encoder, one decoder each for amplitude and phase.

Frames (B, C, N, N) are halved d = round(log2(N/8)) times, so the bottleneck is 8x8 at N = 64, 128, 256. The
decoders end at N/2 x N/2. With `pad_object` the object is drawn there, in the inner half of the frame; the
border around it is zero or, with `probe_big`, drawn by a small branch of its own which takes the last four
channels. Without `pad_object` such a branch takes all channels and draws the whole frame.

Where N is no multiple of 2^d, frames are padded with zeros, the same on all sides, and what the decoders
give is cropped to its middle, so the centre stays the centre.

Source: one encoder with a decoder each for amplitude and phase is the network of M. J. Cherukara et al.,
Appl. Phys. Lett. 117 (2020) 044103, 10.1063/5.0013065.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from ptycho_config.errors import DataError
from ptycho_config.models import ModelConfig
from ptycho_core.learning.architectures import (
    amplitude_ceiling,
    border_width,
    decoder_widths,
    depth,
    encoder_widths,
    object_channels,
    warn_about_activation,
)
from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.heads import (
    bounded_amplitude,
    bounded_phase,
    complex_object,
    convolution,
)
from ptycho_core_tf.networks.layers import doubled
from ptycho_core_tf.networks.pooling import largest_of_four

__all__ = ["Cnn"]

#: Channels of the decoder's last block that draw the border, and nothing else.
_BORDER_CHANNELS = 4


class Cnn(tf.Module):
    """Maps unit amplitude (B, C, N, N), DC in the centre, to complex object patches of the same size.

    There are C patches, or one for the whole group where `object_big` is off.

    Warns:
        UserWarning: the amplitude can be zero or negative, with `relu` or `swish`.
    """

    def __init__(self, model: ModelConfig, *, dtype: str = "float32") -> None:
        super().__init__()
        warn_about_activation(model.amp_activation)
        levels = depth(model.N)
        widths = encoder_widths(levels, model.n_filters_scale)
        self.frame_px = model.N
        self.margin_px = (-model.N % 2**levels) // 2
        self.encoder = _chain(model.gridsize**2, widths, dtype)
        amplitude = partial(
            bounded_amplitude, activation=model.amp_activation, ceiling=amplitude_ceiling(model)
        )
        self.amp = _Decoder(model, widths[-1], amplitude, dtype)
        self.phase = _Decoder(model, widths[-1], bounded_phase, dtype)

    def __call__(
        self, amplitude_unit: Float[tf.Tensor, "group channel n n"]
    ) -> Complex[tf.Tensor, "group object n n"]:
        """Return the object patches of groups of frames."""
        if amplitude_unit.shape[-1] != self.frame_px:
            raise DataError(
                f"`amplitude_unit` has shape {tuple(amplitude_unit.shape)}, and this network was built for "
                f"frames of {self.frame_px} x {self.frame_px} px. Use a model with `N` "
                f"{amplitude_unit.shape[-1]}."
            )
        features = _padded(tf.transpose(amplitude_unit, [0, 2, 3, 1]), self.margin_px)
        for block in self.encoder:
            features = largest_of_four(block(features))
        drawn = complex_object(self.amp(features), self.phase(features))
        return tf.transpose(drawn, [0, 3, 1, 2])


class _Convolutions(tf.Module):
    """Two convolutions with ReLU."""

    def __init__(self, channels_in: int, channels_out: int, dtype: str) -> None:
        super().__init__()
        self.conv1 = convolution(channels_in, channels_out, dtype=dtype)
        self.conv2 = convolution(channels_out, channels_out, dtype=dtype)

    def __call__(self, features: Float[tf.Tensor, "group h w before"]) -> Float[tf.Tensor, "group h w after"]:
        return tf.nn.relu(self.conv2(tf.nn.relu(self.conv1(features))))


class _Outer(tf.Module):
    """A decoder block and the convolution from it to the object's channels."""

    def __init__(self, channels_in: int, width: int, channels_out: int, dtype: str) -> None:
        super().__init__()
        self.conv1 = convolution(channels_in, width, dtype=dtype)
        self.conv2 = convolution(width, width, dtype=dtype)
        self.head = convolution(width, channels_out, dtype=dtype)

    def __call__(
        self, features: Float[tf.Tensor, "group h w before"]
    ) -> Float[tf.Tensor, "group h2 w2 object"]:
        features = tf.nn.relu(self.conv2(tf.nn.relu(self.conv1(features))))
        return self.head(doubled(features))


class _Decoder(tf.Module):
    """From the bottleneck to the amplitude or the phase of the object, bounded by `activation`.

    `inner` draws the inner half of a frame, `outer` the border or, without `pad_object`, the whole frame.
    Only those that the configuration needs exist.
    """

    def __init__(
        self, model: ModelConfig, channels_in: int, activation: Callable[[tf.Tensor], tf.Tensor], dtype: str
    ) -> None:
        super().__init__()
        levels, scale = depth(model.N), model.n_filters_scale
        widths = decoder_widths(levels, scale)
        patches = object_channels(model)
        self.frame_px = model.N
        self.activation = activation
        self.up = _chain(channels_in, widths, dtype)
        # Any: the checker cannot know that one of the two is always there.
        self.inner: Any = None
        self.outer: Any = None
        if model.pad_object:
            self.inner = convolution(widths[-1] - _BORDER_CHANNELS, patches, dtype=dtype)
        if model.probe_big or not model.pad_object:
            channels = _BORDER_CHANNELS if model.pad_object else widths[-1]
            self.outer = _Outer(channels, border_width(levels, scale), patches, dtype)

    def __call__(
        self, features: Float[tf.Tensor, "group h w bottleneck"]
    ) -> Float[tf.Tensor, "group n n object"]:
        for block in self.up:
            features = doubled(block(features))
        if self.inner is None:
            return self._drawn_by(self.outer, features, self.frame_px)
        inner = self._drawn_by(self.inner, features[..., :-_BORDER_CHANNELS], self.frame_px // 2)
        quarter = self.frame_px // 4
        if self.outer is None:
            return _padded(inner, quarter)
        # The border gets the activation of the middle, so that no amplitude turns negative and no phase
        # leaves (-pi, pi) there.
        whole = self._drawn_by(self.outer, features[..., -_BORDER_CHANNELS:], self.frame_px)
        is_inner = np.pad(
            np.ones((self.frame_px // 2, self.frame_px // 2, 1), bool), ((quarter,) * 2,) * 2 + ((0, 0),)
        )
        return tf.where(tf.constant(is_inner), _padded(inner, quarter), whole)

    def _drawn_by(
        self,
        layers: Callable[[tf.Tensor], tf.Tensor],
        features: Float[tf.Tensor, "group h w before"],
        side_px: int,
    ) -> Float[tf.Tensor, "group n n object"]:
        return self.activation(_middle(layers(features), side_px))


def _chain(channels: int, widths: list[int], dtype: str) -> list[_Convolutions]:
    pairs = zip([channels, *widths[:-1]], widths, strict=True)
    return [_Convolutions(before, after, dtype) for before, after in pairs]


def _padded(images: Float[tf.Tensor, "group h h c"], margin_px: int) -> Float[tf.Tensor, "group n n c"]:
    return tf.pad(images, [[0, 0], [margin_px] * 2, [margin_px] * 2, [0, 0]])


def _middle(
    images: Float[tf.Tensor, "group h h object"], side_px: int
) -> Float[tf.Tensor, "group n n object"]:
    margin = (images.shape[1] - side_px) // 2
    return images[:, margin : margin + side_px, margin : margin + side_px]
