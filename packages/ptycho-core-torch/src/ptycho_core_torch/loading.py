"""Between a trained network and the bundle on disk; what every core does with it is in `ptycho_core`."""

from __future__ import annotations

from pathlib import Path

import torch
from ptycho_config.errors import BundleError, ConfigError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_core.learning.stored import read_stored
from ptycho_core_torch.network import PtychoNetwork
from ptycho_core_torch.trained import TrainedNetwork

__all__ = [
    "load_network",
]


def load_network(path: str | Path, execution: PyTorchExecutionConfig) -> TrainedNetwork:
    """Read a bundle of any core and put its weights into the same network here.

    Raises:
        BundleError: the bundle is refused, or its tensors are not those of its architecture.
    """
    stored = read_stored(path)
    bundle = stored.bundle
    try:
        network = PtychoNetwork(stored.model, bundle.probe, bundle.scaling.intensity_scale)
    except ConfigError as error:
        raise BundleError(f"{path}: {error}") from error
    stored.check({name: tuple(tensor.shape) for name, tensor in network.network.state_dict().items()})
    network.network.load_state_dict({name: torch.from_numpy(array) for name, array in stored.tensors.items()})
    with torch.no_grad():
        network.probe.copy_(torch.from_numpy(bundle.probe))
        for name, value in stored.scalars.items():
            getattr(network, name).copy_(torch.from_numpy(value))
    return TrainedNetwork(
        network=network.eval(),
        training=stored.training,
        execution=execution,
        scaling=bundle.scaling,
        probe_given=bundle.probe_given,
        history=bundle.history,
        provenance=dict(bundle.provenance),
    )
