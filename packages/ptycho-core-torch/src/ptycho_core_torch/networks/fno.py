"""Fourier neural operators: a local 3x3 convolution and a spectral one side by side in every block.

Every stage keeps the size of the frames, so one network takes frames of any side that has the modes.
Input (B, C, N, N), features (B, w, N, N), outputs (B, 2C, N, N). GELU is the exact one, by erf.

Source: Z. Li et al., ICLR (2021), arXiv:2010.08895.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Complex, Float
from torch.nn import functional

import torch
from ptycho_config.models import ModelConfig
from ptycho_core_torch.networks.heads import convolution, object_from_outputs, output_layers
from ptycho_core_torch.networks.spectral import SpectralConvolution
from torch import Tensor, nn

__all__ = ["Fno", "FnoVanilla", "Lifter", "OperatorNetwork"]


class OperatorNetwork(nn.Module, ABC):
    """What operator networks share: lift frames to features, process them, read the object off.

    Subclasses say what lies between lifter and output; the names of all layers are those of the state dict.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.model = model
        self.lifter = Lifter(model)
        for name, layer in output_layers(model).items():
            self.add_module(name, layer)

    @abstractmethod
    def process(self, features: Float[Tensor, "group w n n"]) -> Float[Tensor, "group w n n"]:
        """Process the features between lifter and output."""

    def forward(
        self, amplitude_unit: Float[Tensor, "group channel n n"]
    ) -> Complex[Tensor, "group object n n"]:
        """Return the object patches of groups of frames (unit amplitude, DC in the centre)."""
        features = self.process(self.lifter(amplitude_unit))
        layers = [layer for name, layer in self.named_children() if name.startswith("output")]
        return object_from_outputs(torch.cat([layer(features) for layer in layers], dim=1), self.model)


class Fno(OperatorNetwork):
    """Fourier blocks, a mixing 1x1 convolution, and convolutions with GELU as refiners."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self.blocks = _fourier_blocks(model)
        self.mix = convolution(model.fno_width, model.fno_width, 1)
        self.refiners = nn.ModuleList(_Refiner(model.fno_width) for _ in range(model.fno_cnn_blocks))

    def process(self, features: Float[Tensor, "group w n n"]) -> Float[Tensor, "group w n n"]:
        """Apply the blocks, the mixing and the refiners."""
        for block in self.blocks:
            features = block(features)
        features = self.mix(features)
        for refiner in self.refiners:
            features = refiner(features)
        return features


class FnoVanilla(OperatorNetwork):
    """Fourier blocks alone."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self.blocks = _fourier_blocks(model)

    def process(self, features: Float[Tensor, "group w n n"]) -> Float[Tensor, "group w n n"]:
        """Apply the blocks."""
        for block in self.blocks:
            features = block(features)
        return features


class Lifter(nn.Module):
    """Transform the amplitude and lift it to features: convolution, GELU, convolution."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.transform = model.fno_input_transform
        self.conv1 = convolution(model.gridsize**2, model.fno_width)
        self.conv2 = convolution(model.fno_width, model.fno_width)

    def forward(self, amplitude_unit: Float[Tensor, "group channel n n"]) -> Float[Tensor, "group w n n"]:
        """Return the features of groups of frames."""
        return self.conv2(functional.gelu(self.conv1(self._transformed(amplitude_unit))))

    def _transformed(self, amplitude: Float[Tensor, "*size"]) -> Float[Tensor, "*size"]:
        if self.transform == "sqrt":
            return torch.sqrt(amplitude.clamp_min(0))
        if self.transform == "log1p":
            return torch.log1p(amplitude.clamp_min(0))
        if self.transform == "instancenorm":
            return functional.instance_norm(amplitude)
        return amplitude


class _FourierBlock(nn.Module):
    """x + GELU(S(x) + conv(x)): S spectral, conv local."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.spectral = SpectralConvolution(width, width, modes)
        self.local = convolution(width, width)

    def forward(self, features: Float[Tensor, "group w n n"]) -> Float[Tensor, "group w n n"]:
        return features + functional.gelu(self.spectral(features) + self.local(features))


class _Refiner(nn.Module):
    """GELU(conv(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = convolution(width, width)

    def forward(self, features: Float[Tensor, "group w n n"]) -> Float[Tensor, "group w n n"]:
        return functional.gelu(self.conv(features))


def _fourier_blocks(model: ModelConfig) -> nn.ModuleList:
    return nn.ModuleList(_FourierBlock(model.fno_width, model.fno_modes) for _ in range(model.fno_blocks))
