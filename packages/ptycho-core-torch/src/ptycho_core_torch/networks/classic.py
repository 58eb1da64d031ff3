"""The choice among the classic networks, those that old scripts know by name."""

from __future__ import annotations

from ptycho_config.models import ModelConfig
from ptycho_core.learning.architectures import check_classic_network
from ptycho_core_torch.networks.cnn import Cnn
from ptycho_core_torch.networks.ffno import Ffno
from ptycho_core_torch.networks.fno import Fno, FnoVanilla
from ptycho_core_torch.networks.uno import Uno
from torch import nn

__all__ = ["classic_network"]

_NETWORKS = {"cnn": Cnn, "ffno": Ffno, "fno": Fno, "fno_vanilla": FnoVanilla, "neuralop_uno": Uno}


def classic_network(model: ModelConfig) -> nn.Module:
    """Build the network that `architecture` names, with the initial weights that torch's seed gives.

    Every one maps float32 (B, C, N, N), unit amplitude with the DC in the centre and C = gridsize^2, to
    complex64 object patches (B, C, N, N), or (B, 1, N, N) where `object_big` is off.

    Raises:
        ConfigError: the architecture is not among them, or the rest of the configuration does not fit it.
        BackendUnavailableError: `neuralop_uno` without its package.

    Source:
        docs/reference/physics.md, "Networks".
    """
    check_classic_network(model, _NETWORKS)
    return _NETWORKS[model.architecture](model)
