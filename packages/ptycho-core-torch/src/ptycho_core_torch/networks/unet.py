"""The network of our own: a small U-net on amplitude and back-projection, one object patch a frame.

Half the resolution inside (pixel-unshuffle), three levels, group normalisation, nearest upsampling. The
last layer starts at zero, so that training starts from a nearly transparent object.

Source: the shape is that of O. Ronneberger, P. Fischer and T. Brox, MICCAI (2015) 234,
10.1007/978-3-319-24574-4_28; the inputs and the head are ours, docs/reference/physics.md, "Networks".
"""

from __future__ import annotations

import math

from torch.nn import functional

import torch
from torch import Tensor, nn

__all__ = ["LARGEST_AMPLITUDE", "Unet"]

#: |o| = 1.2 sigmoid(a + 2), so that a = 0 is nearly transparent and no pixel transmits much more than 1.
LARGEST_AMPLITUDE = 1.2
_AMPLITUDE_BIAS = 2.0
_GROUPS = 8


class Unet(nn.Module):
    """Maps (B, C_in, N, N) real to (B, C_out, N, N) complex; N a multiple of 16.

    Args:
        channels_in: 1 for amplitude alone, 3 with the back-projection.
        channels_out: complex patches per input; 1 for a network that sees frames one by one.
        width: channels of the stem; the levels have one, two and four times as many.
    """

    def __init__(self, channels_in: int, channels_out: int = 1, *, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4 * channels_in, width, 3, padding=1)
        self.down = nn.ModuleList([Block(width, width), Block(width, 2 * width), Block(2 * width, 4 * width)])
        self.middle = Block(4 * width, 4 * width)
        self.up = nn.ModuleList(
            [Block(8 * width, 2 * width), Block(4 * width, width), Block(2 * width, width)]
        )
        self.output = nn.Conv2d(width, 8 * channels_out, 3, padding=1)
        nn.init.zeros_(self.output.weight)
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the object patches."""
        x = functional.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        x = functional.gelu(self.stem(x))
        kept = []
        for block in self.down:
            x = block(x)
            kept.append(x)
            x = functional.avg_pool2d(x, 2)
        x = self.middle(x)
        for block, skip in zip(self.up, reversed(kept), strict=True):
            x = block(functional.interpolate(x, scale_factor=2), skip)
        amplitude, phase = functional.pixel_shuffle(self.output(x), 2).chunk(2, dim=1)
        amplitude = LARGEST_AMPLITUDE * torch.sigmoid(amplitude + _AMPLITUDE_BIAS)
        return torch.polar(amplitude.contiguous(), (math.pi * torch.tanh(phase)).contiguous())


class Block(nn.Module):
    """Two 3 x 3 convolutions with GELU, group normalisation before the second."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.norm = nn.GroupNorm(_GROUPS, channels_out)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Return features of the same size.

        Args:
            skip: further channels, after those of `x`. A convolution of both is the sum of one of each, which
                spares gluing them together.
        """
        if skip is None:
            first = self.conv1(x)
        else:
            weight, known = self.conv1.weight, x.shape[1]
            first = functional.conv2d(x, weight[:, :known], self.conv1.bias, padding=1)
            first = first + functional.conv2d(skip, weight[:, known:], padding=1)
        return functional.gelu(self.norm(self.conv2(functional.gelu(first))))
