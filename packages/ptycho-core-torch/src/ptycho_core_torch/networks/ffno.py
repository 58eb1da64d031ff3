"""The factorised Fourier neural operator: one pair of one-axis spectral convolutions shared by all blocks.

Source: A. Tran, A. Mathews, L. Xie and C. S. Ong, ICLR (2023), arXiv:2111.13802; the layers are those of
docs/reference/physics.md, "Networks".
"""

from __future__ import annotations

from jaxtyping import Float
from torch.nn import functional

import torch
from ptycho_config.models import ModelConfig
from ptycho_core_torch.networks.fno import OperatorNetwork
from ptycho_core_torch.networks.heads import convolution
from ptycho_core_torch.networks.spectral import SpectralPair
from torch import Tensor, nn

__all__ = ["Ffno"]

#: Weight of what a block adds, at the start of training.
_GATE = 0.1


class Ffno(OperatorNetwork):
    """Blocks x + gate * project(GELU(expand(norm(F(x))))), then refiners x + conv2(GELU(conv1(x))).

    F, named `spectral`, and the scalar `gate` are shared by all blocks.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        width = model.fno_width
        self.spectral = SpectralPair(width, model.fno_modes)
        self.gate = nn.Parameter(torch.tensor(_GATE))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(model.fno_blocks))
        self.refiners = nn.ModuleList(_Refiner(width) for _ in range(model.fno_cnn_blocks))

    def process(self, features: Float[Tensor, "group w n n"]) -> Float[Tensor, "group w n n"]:
        """Apply the blocks and the refiners."""
        for block in self.blocks:
            features = features + self.gate * block(self.spectral(features))
        for refiner in self.refiners:
            features = refiner(features)
        return features


class _Block(nn.Module):
    """project(GELU(expand(norm(x)))) with a norm of each image and channel, no running statistics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(width, affine=True)
        self.expand = convolution(width, 2 * width, 1)
        self.project = convolution(2 * width, width, 1)

    def forward(self, features: Float[Tensor, "group w n n"]) -> Float[Tensor, "group w n n"]:
        return self.project(functional.gelu(self.expand(self.norm(features))))


class _Refiner(nn.Module):
    """x + conv2(GELU(conv1(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = convolution(width, width)
        self.conv2 = convolution(width, width)

    def forward(self, features: Float[Tensor, "group w n n"]) -> Float[Tensor, "group w n n"]:
        return features + self.conv2(functional.gelu(self.conv1(features)))
