"""What the networks of both cores have in common and no framework computes: their sizes, and who fits whom.

Source: docs/reference/physics.md, "Networks".
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection

from ptycho_config.errors import ConfigError
from ptycho_config.models import ModelConfig

__all__ = [
    "amplitude_ceiling",
    "border_width",
    "check_classic_network",
    "check_network",
    "decoder_widths",
    "depth",
    "encoder_widths",
    "object_channels",
    "unet_channels",
    "warn_about_activation",
]

#: In the power gauge a transparent object has amplitude 1, which a plain sigmoid never reaches.
_POWER_GAUGE_CEILING = 1.2
_OPERATORS = ("ffno", "fno", "fno_vanilla")


# The whole network


def check_network(model: ModelConfig, probe_px: int) -> None:
    """Refuse a configuration whose parts contradict each other, or the probe.

    Args:
        probe_px: side of the probe's frame.
    Raises:
        ConfigError: names the settings, and what to type.
    """
    if model.overlap_constraint == "none" and not model.object_big and model.gridsize > 1:
        raise ConfigError("`--object-big false` needs `--overlap-constraint group`: one patch for a group.")
    if probe_px != model.N:
        raise ConfigError(
            f"`N` is {model.N} and the probe {probe_px} px wide. Leave `N` out, or give a scan of "
            f"{model.N} px frames."
        )
    if model.unet_passes == 1:
        return
    if model.architecture != "unet":
        raise ConfigError(
            f"`unet_passes` is {model.unet_passes}, and `{model.architecture}` sees each frame once. Use "
            "`--architecture unet`."
        )
    if model.input_channels != "backprojection":
        raise ConfigError(
            f"`unet_passes` {model.unet_passes} needs the back-projection. Use "
            "`--input-channels backprojection`."
        )


def object_channels(model: ModelConfig) -> int:
    """Give the number of object patches per group: one for each frame, or one for all of them."""
    return model.gridsize**2 if model.object_big else 1


def amplitude_ceiling(model: ModelConfig) -> float:
    """Give the largest amplitude of a sigmoid head: 1.2 in the power gauge, 1 in the legacy gauge.

    Source: docs/reference/physics.md, "Probe gauge".
    """
    return _POWER_GAUGE_CEILING if model.probe_gauge == "power" else 1.0


# unet


def unet_channels(model: ModelConfig) -> int:
    """Give the number of images that `unet` sees of a frame."""
    if model.input_channels == "amplitude":
        return 1
    return 5 if model.unet_passes > 1 else 3


# The classic networks


def check_classic_network(model: ModelConfig, known: Collection[str]) -> None:
    """Refuse what is no classic network, or does not fit the one that it names.

    Args:
        known: the names of those that there are.
    Raises:
        ConfigError: names the setting, and what to give instead.
    """
    name = model.architecture
    if name not in known:
        raise ConfigError(f"`architecture` is `{name}`, which is no classic network: {', '.join(known)}.")
    if model.N == 0:
        raise ConfigError(f"`N` is not known yet, and `{name}` needs it. Give the side of a frame in px.")
    if model.input_channels != "amplitude":
        raise ConfigError(
            f"`input_channels` is `{model.input_channels}`, and `{name}` sees the amplitude alone. Leave it "
            "out, or use `unet`."
        )
    if name in _OPERATORS and 2 * model.fno_modes > model.N:
        raise ConfigError(
            f"`fno_modes` is {model.fno_modes}, and frames of {model.N} px have {model.N // 2} modes of each "
            "sign. Give at most so many."
        )


def depth(frame_px: int) -> int:
    """Give the number of times that `cnn` halves frames: 3 at 64 px, 4 at 128, 5 at 256."""
    return round(math.log2(frame_px / 8))


def encoder_widths(levels: int, scale: int) -> list[int]:
    """Give the channels of the blocks of `cnn`'s encoder, the last 128 times the scale."""
    return [scale * 128 // 2 ** (levels - 1 - k) for k in range(levels)]


def decoder_widths(levels: int, scale: int) -> list[int]:
    """Give the channels of the blocks of a decoder: the last 32 times the scale, none above 256 times."""
    return [scale * min(32 * 2 ** (levels - 2 - k), 256) for k in range(levels - 1)]


def border_width(levels: int, scale: int) -> int:
    """Give the channels of the branch of `cnn` that draws the border."""
    return scale * 256 // 2**levels


def warn_about_activation(activation: str, *, stacklevel: int = 2) -> None:
    """Warn where amplitudes can be zero or negative.

    Args:
        stacklevel: as of `warnings.warn`, counted from here.
    """
    if activation in ("swish", "relu"):
        fault = "negative" if activation == "swish" else "zero"
        warnings.warn(
            f"`amp_activation` is `{activation}`, whose amplitudes can be {fault}, in the border too. "
            "`sigmoid` and `softplus` stay positive.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
