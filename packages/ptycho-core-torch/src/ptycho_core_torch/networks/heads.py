"""The last stage of the classic networks: from real channels to complex object patches.

Amplitude and phase are bounded apart, object = amplitude * exp(i phase), or the channels are taken as real
and imaginary part. Also here, because every classic network is made of it: the convolution.
"""

from __future__ import annotations

import math
from typing import Literal

from jaxtyping import Complex, Float
from torch.nn import functional

import torch
from ptycho_config.models import ModelConfig
from ptycho_core.learning.architectures import amplitude_ceiling, object_channels
from torch import Tensor, nn

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


def at_least_float32(values: Float[Tensor, "*size"]) -> Float[Tensor, "*size"]:
    """Widen half precision; complex numbers have none."""
    return values if values.dtype == torch.float64 else values.float()


def convolution(channels_in: int, channels_out: int, side_px: int = 3) -> nn.Conv2d:
    """Make a convolution that keeps the size, with Glorot-uniform weights and zero bias."""
    layer = nn.Conv2d(channels_in, channels_out, side_px, padding=side_px // 2)
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def bounded_amplitude(
    logits: Float[Tensor, "..."], activation: AmplitudeActivation = "sigmoid", *, ceiling: float = 1.0
) -> Float[Tensor, "..."]:
    """Turn channels into amplitudes.

    Args:
        activation: `sigmoid` gives (0, ceiling), `softplus` positive values, `relu` values from 0 up,
            `swish` values from -0.28 up.
        ceiling: largest amplitude of `sigmoid`; the others have none and ignore it.
    """
    if activation == "sigmoid":
        return ceiling * torch.sigmoid(logits)
    if activation == "swish":
        return functional.silu(logits)
    if activation == "softplus":
        return functional.softplus(logits)
    return functional.relu(logits)


def bounded_phase(logits: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Turn channels into phases within (-pi, pi), in rad."""
    return math.pi * torch.tanh(logits)


def complex_object(
    amplitude: Float[Tensor, "*size"], phase_rad: Float[Tensor, "*size"]
) -> Complex[Tensor, "*size"]:
    """Combine amplitude and phase: amplitude * exp(i phase).

    Not `torch.polar`: its gradient takes the direction from the product, which has none where the
    amplitude is 0 (`relu`, the border of a patch) and the wrong sign where it is negative (`swish`).
    """
    modulus, angle = at_least_float32(amplitude), at_least_float32(phase_rad)
    return torch.complex(modulus * torch.cos(angle), modulus * torch.sin(angle))


def output_layers(model: ModelConfig) -> dict[str, nn.Conv2d]:
    """Make the 1x1 convolutions that end an operator network, by their names in the state dict."""
    patches = object_channels(model)
    if model.generator_output_mode == "amp_phase":
        return {name: convolution(model.fno_width, patches, 1) for name in ("output_amp", "output_phase")}
    return {"output": convolution(model.fno_width, 2 * patches, 1)}


def object_from_outputs(
    outputs: Float[Tensor, "group outputs n n"], model: ModelConfig
) -> Complex[Tensor, "group object n n"]:
    """Read the object off the last channels, as `generator_output_mode` says.

    Args:
        outputs: real parts of all patches and then the imaginary parts (`real_imag`, unbounded), or the
            amplitudes of all patches and then the phases, before sigmoid and pi tanh (`amp_phase_logits`,
            `amp_phase`).
    """
    first, second = outputs.chunk(2, dim=1)
    if model.generator_output_mode == "real_imag":
        return torch.complex(at_least_float32(first), at_least_float32(second))
    return complex_object(bounded_amplitude(first, ceiling=amplitude_ceiling(model)), bounded_phase(second))
