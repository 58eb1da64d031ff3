"""The choice among the classic networks, those that old scripts know by name."""

from __future__ import annotations

from ptycho_config.errors import ConfigError
from ptycho_config.models import ModelConfig
from ptycho_core.learning.architectures import check_classic_network
from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.cnn import Cnn
from ptycho_core_tf.networks.ffno import Ffno
from ptycho_core_tf.networks.fno import Fno, FnoVanilla

__all__ = ["classic_network"]

_NETWORKS = {"cnn": Cnn, "ffno": Ffno, "fno": Fno, "fno_vanilla": FnoVanilla}


def classic_network(model: ModelConfig, *, dtype: str = "float32") -> tf.Module:
    """Build the network that `architecture` names, with the initial weights that `first_weights` draws.

    Every one maps float32 (B, C, N, N), unit amplitude with the DC in the centre and C = gridsize^2, to
    complex64 object patches (B, C, N, N), or (B, 1, N, N) where `object_big` is off; both wider in float64.

    Raises:
        ConfigError: the architecture is not among them, or the rest of the configuration does not fit it.

    Source:
        docs/reference/physics.md, "Networks".
    """
    if model.architecture == "neuralop_uno":
        raise ConfigError(
            "`architecture` is `neuralop_uno`, which the TensorFlow core does not have; the PyTorch core has "
            f"it: use `--backend pytorch`, or one of {', '.join(_NETWORKS)}."
        )
    check_classic_network(model, _NETWORKS)
    return _NETWORKS[model.architecture](model, dtype=dtype)
