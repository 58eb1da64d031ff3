"""The factorised Fourier neural operator: one pair of one-axis spectral convolutions shared by all blocks.

Source: A. Tran, A. Mathews, L. Xie and C. S. Ong, ICLR (2023), arXiv:2111.13802; the layers are those of
docs/reference/physics.md, "Networks".
"""

from __future__ import annotations

from jaxtyping import Float

from ptycho_config.models import ModelConfig
from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.fno import OperatorNetwork
from ptycho_core_tf.networks.fused import gelu
from ptycho_core_tf.networks.heads import convolution
from ptycho_core_tf.networks.layers import InstanceNorm
from ptycho_core_tf.networks.spectral import SpectralPair

__all__ = ["Ffno"]

#: Weight of what a block adds, at the start of training.
_GATE = 0.1


class Ffno(OperatorNetwork):
    """Blocks x + gate * project(GELU(expand(norm(F(x))))), then refiners x + conv2(GELU(conv1(x))).

    F, named `spectral`, and the scalar `gate` are shared by all blocks.
    """

    def __init__(self, model: ModelConfig, *, dtype: str = "float32") -> None:
        super().__init__(model, dtype=dtype)
        width = model.fno_width
        self.spectral = SpectralPair(width, model.fno_modes, dtype=dtype)
        self.gate = tf.Variable(_GATE, dtype=dtype, name="gate")
        self.blocks = [_Block(width, dtype) for _ in range(model.fno_blocks)]
        self.refiners = [_Refiner(width, dtype) for _ in range(model.fno_cnn_blocks)]

    def process(self, features: Float[tf.Tensor, "group n n w"]) -> Float[tf.Tensor, "group n n w"]:
        """Apply the blocks and the refiners."""
        for block in self.blocks:
            spectral = tf.cast(self.spectral(features), features.dtype)
            features = features + tf.cast(self.gate, features.dtype) * block(spectral)
        for refiner in self.refiners:
            features = refiner(features)
        return features


class _Block(tf.Module):
    """project(GELU(expand(norm(x)))) with a norm of each image and channel, no running statistics."""

    def __init__(self, width: int, dtype: str) -> None:
        super().__init__()
        self.norm = InstanceNorm(width, dtype=dtype)
        self.expand = convolution(width, 2 * width, 1, dtype=dtype)
        self.project = convolution(2 * width, width, 1, dtype=dtype)

    def __call__(self, features: Float[tf.Tensor, "group n n w"]) -> Float[tf.Tensor, "group n n w"]:
        return self.project(gelu(self.expand(self.norm(features))))


class _Refiner(tf.Module):
    """x + conv2(GELU(conv1(x)))."""

    def __init__(self, width: int, dtype: str) -> None:
        super().__init__()
        self.conv1 = convolution(width, width, dtype=dtype)
        self.conv2 = convolution(width, width, dtype=dtype)

    def __call__(self, features: Float[tf.Tensor, "group n n w"]) -> Float[tf.Tensor, "group n n w"]:
        return features + self.conv2(gelu(self.conv1(features)))
