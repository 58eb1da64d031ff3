"""Spectral convolutions: a linear map of the channels for each low spatial frequency, zero for the others.

An image (B, C, H, W) is transformed with `rfft`, norm "backward": axis -1 holds the frequencies from 0 up,
axis -2, of the two-dimensional transform, both signs. Weights are real, with the real and the imaginary
part in a last axis of length two, so that they can be stored and read anywhere. Transforms run in float32
also where the rest runs in half precision, and in float64 where all does.

Weights start Glorot-uniform: real and imaginary part each uniform within sqrt(3 / (in + out)), which gives
a complex weight the variance 2 / (in + out), so a kept frequency keeps its energy.
"""

from __future__ import annotations

import math

from jaxtyping import Float

import torch
from ptycho_config.errors import DataError
from ptycho_core_torch.networks.heads import at_least_float32
from torch import Tensor, nn

__all__ = ["AxisConvolution", "SpectralConvolution", "SpectralPair"]


class SpectralConvolution(nn.Module):
    """Two-dimensional spectral convolution over the lowest columns and the lowest rows of both signs.

    With the non-negative rows alone, a structure along one of the two diagonals could not pass.

    `weight` is (2, in, out, m, m, 2): sign, channels, channels, row, column, (re, im). Sign 0 holds the
    rows 0, 1, ... m - 1, sign 1 the rows -m, ... -1, in this order.

    Args:
        modes: number m of columns and of rows of each sign; at most half the side of an image.
    """

    def __init__(self, channels_in: int, channels_out: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.weight = _glorot_weight(channels_in, channels_out, 2, channels_in, channels_out, modes, modes)

    def forward(self, images: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs h w"]:
        """Return the images filtered and mixed, of the same size."""
        _check_side(images, self.modes)
        m = self.modes
        height, width = images.shape[-2:]
        spectrum = torch.fft.rfft2(at_least_float32(images))
        upper, lower = torch.view_as_complex(self.weight)
        filtered = spectrum.new_zeros(len(images), self.weight.shape[2], height, spectrum.shape[-1])
        filtered[..., :m, :m] = torch.einsum("birc,iorc->borc", spectrum[..., :m, :m], upper)
        filtered[..., -m:, :m] = torch.einsum("birc,iorc->borc", spectrum[..., -m:, :m], lower)
        return torch.fft.irfft2(filtered, s=(height, width))


class AxisConvolution(nn.Module):
    """Spectral convolution along the last axis; `weight` is (in, out, m, 2), frequencies 0 to m - 1."""

    def __init__(self, channels_in: int, channels_out: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.weight = _glorot_weight(channels_in, channels_out, channels_in, channels_out, modes)

    def forward(self, images: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs h w"]:
        """Return the images filtered along their rows and mixed, of the same size."""
        _check_side(images, self.modes)
        spectrum = torch.fft.rfft(at_least_float32(images))
        weight = torch.view_as_complex(self.weight)
        low = torch.einsum("bihm,iom->bohm", spectrum[..., : self.modes], weight)
        # irfft fills what is missing above the last kept frequency with zeros.
        return torch.fft.irfft(low, n=images.shape[-1])


class SpectralPair(nn.Module):
    """Sum of two one-axis spectral convolutions: `x` along the columns' index, `y` along the rows' index."""

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.x = AxisConvolution(channels, channels, modes)
        self.y = AxisConvolution(channels, channels, modes)

    def forward(self, images: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel h w"]:
        """Return the sum of both filtered images."""
        return self.x(images) + self.y(images.transpose(-1, -2)).transpose(-1, -2)


def _glorot_weight(channels_in: int, channels_out: int, *shape: int) -> nn.Parameter:
    """Draw complex weights of the given shape, with a last axis for (re, im)."""
    limit = math.sqrt(3 / (channels_in + channels_out))
    return nn.Parameter(torch.empty(*shape, 2).uniform_(-limit, limit))


def _check_side(images: Float[Tensor, "batch channel h w"], modes: int) -> None:
    if 2 * modes > min(images.shape[-2:]):
        raise DataError(
            f"Images of shape {tuple(images.shape)} have fewer than {modes} modes of each sign. Give images "
            f"of at least {2 * modes} px, or lower `fno_modes`."
        )
