"""Fourier neural operators: a local 3x3 convolution and a spectral one side by side in every block.

Every stage keeps the size of the frames, so one network takes frames of any side that has the modes.
Input (B, C, N, N), features (B, N, N, w), outputs (B, N, N, 2C). GELU is the exact one, by erf.

Source: Z. Li et al., ICLR (2021), arXiv:2010.08895.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Complex, Float

from ptycho_config.models import ModelConfig
from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.fused import gelu
from ptycho_core_tf.networks.heads import convolution, object_from_outputs, output_layers
from ptycho_core_tf.networks.layers import standardised
from ptycho_core_tf.networks.spectral import SpectralConvolution

__all__ = ["Fno", "FnoVanilla", "Lifter", "OperatorNetwork"]


class OperatorNetwork(tf.Module, ABC):
    """What operator networks share: lift frames to features, process them, read the object off.

    Subclasses say what lies between lifter and output; the names of all layers are those of the weights.
    """

    def __init__(self, model: ModelConfig, *, dtype: str = "float32") -> None:
        super().__init__()
        self.model = model
        self.lifter = Lifter(model, dtype=dtype)
        layers = output_layers(model, dtype=dtype)
        self._outputs = tuple(layers)
        for name, layer in layers.items():
            setattr(self, name, layer)

    @abstractmethod
    def process(self, features: Float[tf.Tensor, "group n n w"]) -> Float[tf.Tensor, "group n n w"]:
        """Process the features between lifter and output."""

    def __call__(
        self, amplitude_unit: Float[tf.Tensor, "group channel n n"]
    ) -> Complex[tf.Tensor, "group object n n"]:
        """Return the object patches of groups of frames (unit amplitude, DC in the centre)."""
        features = self.process(self.lifter(amplitude_unit))
        outputs = [getattr(self, name)(features) for name in self._outputs]
        return object_from_outputs(tf.concat(outputs, -1), self.model)


class Fno(OperatorNetwork):
    """Fourier blocks, a mixing 1x1 convolution, and convolutions with GELU as refiners."""

    def __init__(self, model: ModelConfig, *, dtype: str = "float32") -> None:
        super().__init__(model, dtype=dtype)
        self.blocks = _fourier_blocks(model, dtype)
        self.mix = convolution(model.fno_width, model.fno_width, 1, dtype=dtype)
        self.refiners = [_Refiner(model.fno_width, dtype) for _ in range(model.fno_cnn_blocks)]

    def process(self, features: Float[tf.Tensor, "group n n w"]) -> Float[tf.Tensor, "group n n w"]:
        """Apply the blocks, the mixing and the refiners."""
        for block in self.blocks:
            features = block(features)
        features = self.mix(features)
        for refiner in self.refiners:
            features = refiner(features)
        return features


class FnoVanilla(OperatorNetwork):
    """Fourier blocks alone."""

    def __init__(self, model: ModelConfig, *, dtype: str = "float32") -> None:
        super().__init__(model, dtype=dtype)
        self.blocks = _fourier_blocks(model, dtype)

    def process(self, features: Float[tf.Tensor, "group n n w"]) -> Float[tf.Tensor, "group n n w"]:
        """Apply the blocks."""
        for block in self.blocks:
            features = block(features)
        return features


class Lifter(tf.Module):
    """Transform the amplitude and lift it to features: convolution, GELU, convolution."""

    def __init__(self, model: ModelConfig, *, dtype: str = "float32") -> None:
        super().__init__()
        self.transform = model.fno_input_transform
        self.conv1 = convolution(model.gridsize**2, model.fno_width, dtype=dtype)
        self.conv2 = convolution(model.fno_width, model.fno_width, dtype=dtype)

    def __call__(
        self, amplitude_unit: Float[tf.Tensor, "group channel n n"]
    ) -> Float[tf.Tensor, "group n n w"]:
        """Return the features of groups of frames."""
        amplitude = self._transformed(tf.transpose(amplitude_unit, [0, 2, 3, 1]))
        return self.conv2(gelu(self.conv1(amplitude)))

    def _transformed(
        self, amplitude: Float[tf.Tensor, "group n n channel"]
    ) -> Float[tf.Tensor, "group n n channel"]:
        if self.transform == "sqrt":
            return tf.sqrt(tf.maximum(amplitude, 0))
        if self.transform == "log1p":
            return tf.math.log1p(tf.maximum(amplitude, 0))
        if self.transform == "instancenorm":
            return standardised(amplitude)
        return amplitude


class _FourierBlock(tf.Module):
    """x + GELU(S(x) + conv(x)): S spectral, conv local."""

    def __init__(self, width: int, modes: int, dtype: str) -> None:
        super().__init__()
        self.spectral = SpectralConvolution(width, width, modes, dtype=dtype)
        self.local = convolution(width, width, dtype=dtype)

    def __call__(self, features: Float[tf.Tensor, "group n n w"]) -> Float[tf.Tensor, "group n n w"]:
        spectral = tf.cast(self.spectral(features), features.dtype)
        return features + gelu(spectral + self.local(features))


class _Refiner(tf.Module):
    """GELU(conv(x))."""

    def __init__(self, width: int, dtype: str) -> None:
        super().__init__()
        self.conv = convolution(width, width, dtype=dtype)

    def __call__(self, features: Float[tf.Tensor, "group n n w"]) -> Float[tf.Tensor, "group n n w"]:
        return gelu(self.conv(features))


def _fourier_blocks(model: ModelConfig, dtype: str) -> list[_FourierBlock]:
    return [_FourierBlock(model.fno_width, model.fno_modes, dtype) for _ in range(model.fno_blocks)]
