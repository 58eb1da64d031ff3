"""The choice among the classic networks, those that old scripts know by name."""

from __future__ import annotations

from ptycho_config.errors import ConfigError
from ptycho_config.models import ModelConfig
from ptycho_core_torch.networks.cnn import Cnn
from ptycho_core_torch.networks.ffno import Ffno
from ptycho_core_torch.networks.fno import Fno, FnoVanilla
from ptycho_core_torch.networks.uno import Uno
from torch import nn

__all__ = ["classic_network"]

_NETWORKS = {"cnn": Cnn, "ffno": Ffno, "fno": Fno, "fno_vanilla": FnoVanilla, "neuralop_uno": Uno}
_OPERATORS = ("ffno", "fno", "fno_vanilla")


def classic_network(model: ModelConfig) -> nn.Module:
    """Build the network that `architecture` names, with the initial weights that torch's seed gives.

    Every one maps float32 (B, C, N, N), unit amplitude with the DC in the centre and C = gridsize^2, to
    complex64 object patches (B, C, N, N), or (B, 1, N, N) where `object_big` is off.

    Raises:
        ConfigError: the architecture is not among them, or the rest of the configuration does not fit it.
        BackendUnavailableError: `neuralop_uno` without its package.

    Source:
        `physics.md` section 7.
    """
    name = model.architecture
    if name not in _NETWORKS:
        raise ConfigError(f"`architecture` is `{name}`, which is no classic network: {', '.join(_NETWORKS)}.")
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
    return _NETWORKS[name](model)
