"""Between a trained network and the bundle on disk; what every core does with it is in `ptycho_core`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

import torch
from ptycho_config.errors import BundleError, ConfigError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_core.learning.bundles import SCALARS, read_stored, write_stored
from ptycho_core_torch.network import PtychoNetwork
from ptycho_core_torch.trained import TrainedNetwork

__all__ = ["load_network", "save_network"]


def save_network(trained: TrainedNetwork, path: str | Path) -> Path:
    """Write `wts.h5.zip`; tensors carry the canonical names of their architecture."""
    network = trained.network
    weights = {name: _array(tensor) for name, tensor in network.network.state_dict().items()}
    return write_stored(
        path,
        trained,
        weights=weights | {name: _array(getattr(network, name)) for name in SCALARS},
        probe=network.probe.cpu().numpy(),
        backend="pytorch",
        versions={"torch": version("torch")},
    )


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


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().to(torch.float32).contiguous().numpy()
