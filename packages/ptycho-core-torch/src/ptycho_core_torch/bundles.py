"""Between a trained network and the bundle on disk; the format itself lives in `ptycho_core.bundle`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

import torch
from ptycho_config.errors import BundleError, ConfigError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.bundle import Bundle, read_bundle, write_bundle
from ptycho_core_torch.network import PtychoNetwork
from ptycho_core_torch.trained import TrainedNetwork

__all__ = ["load_network", "save_network"]

#: Scalars of a `PtychoNetwork` that are stored beside the tensors of its architecture.
_SCALARS = ("log_scale", "back_projection_std")


def save_network(trained: TrainedNetwork, path: str | Path) -> Path:
    """Write `wts.h5.zip`; tensors carry the canonical names of their architecture."""
    network = trained.network
    weights = {name: _array(tensor) for name, tensor in network.network.state_dict().items()}
    weights |= {name: _array(getattr(network, name)) for name in _SCALARS}
    bundle = Bundle(
        architecture=network.model.architecture,
        model=network.model.model_dump(mode="json"),
        training=trained.training.model_dump(mode="json", exclude={"model"}),
        weights=weights,
        scaling=trained.scaling,
        probe=network.probe.cpu().numpy(),
        probe_given=trained.probe_given.astype(np.complex64),
        history=trained.history,
        provenance={**trained.provenance, "backend": "pytorch", "torch": version("torch")},
    )
    return write_bundle(path, bundle)


def load_network(path: str | Path, execution: PyTorchExecutionConfig) -> TrainedNetwork:
    """Read a bundle of any core and put its weights into the same network here.

    Raises:
        BundleError: the bundle is refused, or its tensors are not those of its architecture.
    """
    bundle = read_bundle(path)
    try:
        model = ModelConfig.model_validate(bundle.model)
        training = TrainingConfig.model_validate({**bundle.training, "model": bundle.model})
    except ValueError as error:
        raise BundleError(
            f"{path}: its configuration is not valid here ({' '.join(str(error).split())}). Train it anew."
        ) from error
    if model.architecture != bundle.architecture:
        raise BundleError(
            f"{path}: the manifest names `{bundle.architecture}`, its configuration `{model.architecture}`. "
            "Train it anew."
        )
    scaling = bundle.scaling
    try:
        network = PtychoNetwork(model, bundle.probe, scaling.intensity_scale)
    except ConfigError as error:
        raise BundleError(f"{path}: {error}") from error
    network.probe.copy_(torch.from_numpy(bundle.probe))
    tensors = {name: torch.from_numpy(array) for name, array in bundle.weights.items()}
    scalars = {name: tensors.pop(name) for name in _SCALARS if name in tensors}
    expected = network.network.state_dict()
    strange = sorted(set(tensors) ^ set(expected)) + [name for name in _SCALARS if name not in scalars]
    strange += [name for name in expected if name in tensors and tensors[name].shape != expected[name].shape]
    if strange:
        raise BundleError(
            f"{path}: the tensors are not those of `{model.architecture}` ({', '.join(strange[:4])}). "
            "Train it anew."
        )
    network.network.load_state_dict(tensors)
    with torch.no_grad():
        for name, value in scalars.items():
            getattr(network, name).copy_(value.reshape(()))
    return TrainedNetwork(
        network=network.eval(),
        training=training,
        execution=execution,
        scaling=scaling,
        probe_given=bundle.probe_given,
        history=bundle.history,
        provenance=dict(bundle.provenance),
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().to(torch.float32).contiguous().numpy()
