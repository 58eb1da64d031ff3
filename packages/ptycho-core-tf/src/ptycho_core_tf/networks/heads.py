"""The last stage of the classic networks: from real channels to complex object patches.

Amplitude and phase are bounded apart, object = amplitude * exp(i phase), or the channels are taken as real
and imaginary part. Also here, because every classic network is made of it: the convolution.
"""

from __future__ import annotations

import math
from typing import Literal

from jaxtyping import Complex, Float

from ptycho_config.models import ModelConfig
from ptycho_core.learning.architectures import amplitude_ceiling, object_channels
from ptycho_core_tf.first_weights import uniform
from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.layers import Convolution, at_least_float32

__all__ = [
    "AmplitudeActivation",
    "at_least_float32",
    "bounded_amplitude",
    "bounded_phase",
    "complex_object",
    "convolution",
    "object_from_outputs",
    "output_layers",
]

AmplitudeActivation = Literal["sigmoid", "swish", "softplus", "relu"]


def convolution(
    channels_in: int, channels_out: int, side_px: int = 3, *, dtype: str = "float32"
) -> Convolution:
    """Make a convolution that keeps the size, with Glorot-uniform weights and zero bias."""
    layer = Convolution(channels_in, channels_out, side_px, dtype=dtype)
    limit = math.sqrt(6 / (side_px**2 * (channels_in + channels_out)))
    layer.weight.assign(uniform(tuple(layer.weight.shape), limit, dtype))
    layer.bias.assign(tf.zeros_like(layer.bias))
    return layer


def bounded_amplitude(
    logits: Float[tf.Tensor, "..."], activation: AmplitudeActivation = "sigmoid", *, ceiling: float = 1.0
) -> Float[tf.Tensor, "..."]:
    """Turn channels into amplitudes.

    Args:
        activation: `sigmoid` gives (0, ceiling), `softplus` positive values, `relu` values from 0 up,
            `swish` values from -0.28 up.
        ceiling: largest amplitude of `sigmoid`; the others have none and ignore it.
    """
    if activation == "sigmoid":
        return ceiling * tf.sigmoid(logits)
    if activation == "swish":
        return tf.nn.silu(logits)
    if activation == "softplus":
        return tf.nn.softplus(logits)
    return tf.nn.relu(logits)


def bounded_phase(logits: Float[tf.Tensor, "..."]) -> Float[tf.Tensor, "..."]:
    """Turn channels into phases within (-pi, pi), in rad."""
    return math.pi * tf.tanh(logits)


def complex_object(
    amplitude: Float[tf.Tensor, "*size"], phase_rad: Float[tf.Tensor, "*size"]
) -> Complex[tf.Tensor, "*size"]:
    """Combine amplitude and phase: amplitude * exp(i phase)."""
    modulus, angle = at_least_float32(amplitude), at_least_float32(phase_rad)
    return tf.complex(modulus * tf.cos(angle), modulus * tf.sin(angle))


def output_layers(model: ModelConfig, *, dtype: str = "float32") -> dict[str, Convolution]:
    """Make the 1x1 convolutions that end an operator network, by their names in the canonical weights."""
    patches = object_channels(model)
    if model.generator_output_mode == "amp_phase":
        names = ("output_amp", "output_phase")
        return {name: convolution(model.fno_width, patches, 1, dtype=dtype) for name in names}
    return {"output": convolution(model.fno_width, 2 * patches, 1, dtype=dtype)}


def object_from_outputs(
    outputs: Float[tf.Tensor, "group n n outputs"], model: ModelConfig
) -> Complex[tf.Tensor, "group object n n"]:
    """Read the object off the last channels, as `generator_output_mode` says.

    Args:
        outputs: real parts of all patches and then the imaginary parts (`real_imag`, unbounded), or the
            amplitudes of all patches and then the phases, before sigmoid and pi tanh (`amp_phase_logits`,
            `amp_phase`).
    """
    first, second = tf.split(tf.transpose(outputs, [0, 3, 1, 2]), 2, axis=1)
    if model.generator_output_mode == "real_imag":
        return tf.complex(at_least_float32(first), at_least_float32(second))
    return complex_object(bounded_amplitude(first, ceiling=amplitude_ceiling(model)), bounded_phase(second))
