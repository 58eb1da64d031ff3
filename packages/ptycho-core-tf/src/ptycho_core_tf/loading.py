"""Between a trained network and the bundle on disk; what every core does with it is in `ptycho_core`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ptycho_config.errors import BundleError, ConfigError
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_core.learning.stored import read_stored
from ptycho_core_tf.devices import place_run
from ptycho_core_tf.network import PtychoNetwork
from ptycho_core_tf.trained import TrainedNetwork
from ptycho_core_tf.weights import read_weights, write_weights

__all__ = [
    "load_network",
]


def load_network(path: str | Path, execution: TensorFlowExecutionConfig) -> TrainedNetwork:
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
    stored.check({name: array.shape for name, array in read_weights(network.network).items()})
    write_weights(network.network, stored.tensors)
    network.hold_probe(np.stack([np.real(bundle.probe), np.imag(bundle.probe)], -1))
    for name, value in stored.scalars.items():
        getattr(network, name).assign(value)
    return TrainedNetwork(
        network=network,
        training=stored.training,
        execution=execution,
        placement=place_run(execution, stacklevel=3),
        scaling=bundle.scaling,
        probe_given=bundle.probe_given,
        history=bundle.history,
        provenance=dict(bundle.provenance),
    )
