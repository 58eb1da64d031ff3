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

from jaxtyping import Complex, Float
from torch.nn import functional

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
from ptycho_core_torch.networks.heads import (
    bounded_amplitude,
    bounded_phase,
    complex_object,
    convolution,
)
from torch import Tensor, nn

__all__ = ["Cnn"]

#: Channels of the decoder's last block that draw the border, and nothing else.
_BORDER_CHANNELS = 4


class Cnn(nn.Module):
    """Maps unit amplitude (B, C, N, N), DC in the centre, to complex object patches of the same size.

    There are C patches, or one for the whole group where `object_big` is off.

    Warns:
        UserWarning: the amplitude can be zero or negative, with `relu` or `swish`.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        warn_about_activation(model.amp_activation)
        levels = depth(model.N)
        widths = encoder_widths(levels, model.n_filters_scale)
        self.frame_px = model.N
        self.margin_px = (-model.N % 2**levels) // 2
        self.encoder = _chain(model.gridsize**2, widths)
        amplitude = partial(
            bounded_amplitude, activation=model.amp_activation, ceiling=amplitude_ceiling(model)
        )
        self.amp = _Decoder(model, widths[-1], amplitude)
        self.phase = _Decoder(model, widths[-1], bounded_phase)

    def forward(
        self, amplitude_unit: Float[Tensor, "group channel n n"]
    ) -> Complex[Tensor, "group object n n"]:
        """Return the object patches of groups of frames."""
        if amplitude_unit.shape[-1] != self.frame_px:
            raise DataError(
                f"`amplitude_unit` has shape {tuple(amplitude_unit.shape)}, and this network was built for "
                f"frames of {self.frame_px} x {self.frame_px} px. Use a model with `N` "
                f"{amplitude_unit.shape[-1]}."
            )
        features = functional.pad(amplitude_unit, (self.margin_px,) * 4)
        for block in self.encoder:
            features = functional.max_pool2d(block(features), 2)
        return complex_object(self.amp(features), self.phase(features))


class _Convolutions(nn.Module):
    """Two convolutions with ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels_in, channels_out)
        self.conv2 = convolution(channels_out, channels_out)

    def forward(self, features: Float[Tensor, "group before h w"]) -> Float[Tensor, "group after h w"]:
        return functional.relu(self.conv2(functional.relu(self.conv1(features))))


class _Outer(nn.Module):
    """A decoder block and the convolution from it to the object's channels."""

    def __init__(self, channels_in: int, width: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels_in, width)
        self.conv2 = convolution(width, width)
        self.head = convolution(width, channels_out)

    def forward(self, features: Float[Tensor, "group before h w"]) -> Float[Tensor, "group object h2 w2"]:
        features = functional.relu(self.conv2(functional.relu(self.conv1(features))))
        return self.head(_doubled(features))


class _Decoder(nn.Module):
    """From the bottleneck to the amplitude or the phase of the object, bounded by `activation`.

    `inner` draws the inner half of a frame, `outer` the border or, without `pad_object`, the whole frame.
    Only those that the configuration needs exist.
    """

    def __init__(self, model: ModelConfig, channels_in: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        levels, scale = depth(model.N), model.n_filters_scale
        widths = decoder_widths(levels, scale)
        patches = object_channels(model)
        self.frame_px = model.N
        self.activation = activation
        self.up = _chain(channels_in, widths)
        # Any: the checker cannot know that one of the two is always there.
        self.inner: Any = None
        self.outer: Any = None
        if model.pad_object:
            self.inner = convolution(widths[-1] - _BORDER_CHANNELS, patches)
        if model.probe_big or not model.pad_object:
            channels = _BORDER_CHANNELS if model.pad_object else widths[-1]
            self.outer = _Outer(channels, border_width(levels, scale), patches)

    def forward(self, features: Float[Tensor, "group bottleneck h w"]) -> Float[Tensor, "group object n n"]:
        for block in self.up:
            features = _doubled(block(features))
        if self.inner is None:
            return self._drawn_by(self.outer, features, self.frame_px)
        inner = self._drawn_by(self.inner, features[:, :-_BORDER_CHANNELS], self.frame_px // 2)
        quarter = self.frame_px // 4
        if self.outer is None:
            return functional.pad(inner, (quarter,) * 4)
        # The border gets the activation of the middle, so that no amplitude turns negative and no phase
        # leaves (-pi, pi) there.
        whole = self._drawn_by(self.outer, features[:, -_BORDER_CHANNELS:], self.frame_px).clone()
        whole[..., quarter:-quarter, quarter:-quarter] = inner
        return whole

    def _drawn_by(
        self, layers: Callable[[Tensor], Tensor], features: Float[Tensor, "group before h w"], side_px: int
    ) -> Float[Tensor, "group object n n"]:
        return self.activation(_middle(layers(features), side_px))


def _chain(channels: int, widths: list[int]) -> nn.ModuleList:
    pairs = zip([channels, *widths[:-1]], widths, strict=True)
    return nn.ModuleList(_Convolutions(before, after) for before, after in pairs)


def _doubled(features: Float[Tensor, "group channel h w"]) -> Float[Tensor, "group channel h2 w2"]:
    return functional.interpolate(features, scale_factor=2, mode="nearest")


def _middle(images: Float[Tensor, "group object h h"], side_px: int) -> Float[Tensor, "group object n n"]:
    margin = (images.shape[-1] - side_px) // 2
    return images[..., margin : margin + side_px, margin : margin + side_px]
