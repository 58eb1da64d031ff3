"""TRAIN-COLLAPSE-001 in the core: a network whose patches are all alike is stopped, weights kept."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import TrainingError
from ptycho_core.bundle import read_bundle
from ptycho_core_tf.checks import training

__all__ = ["a_constant_network_is_stopped"]

FINDING = "TRAIN-COLLAPSE-001"


def a_constant_network_is_stopped() -> Evidence:
    """Train a network whose patches are replaced by their mean, with a warm-up shortened to one step.

    Four steps are an epoch, and from the tenth on a network is judged: at the end of the third epoch.

    Raises:
        ProbeError: TRAIN-COLLAPSE-001 does not hold.
        BackendUnavailableError: TensorFlow is not installed.
    """
    training.core()
    from ptycho_core_tf import keras_model
    from ptycho_core_tf.framework import tf
    from ptycho_core_tf.network import PtychoNetwork

    real, warm_up = PtychoNetwork._patches, keras_model.WARM_UP_STEPS

    def constant(self: Any, batch: Any, image: Any = None, probes: Any = None) -> Any:
        patches = real(self, batch, image, probes)
        return tf.zeros_like(patches) + tf.reduce_mean(patches)

    with tempfile.TemporaryDirectory() as folder:
        try:
            PtychoNetwork._patches = constant  # type: ignore[method-assign]
            keras_model.WARM_UP_STEPS = 1
            message = refused(
                FINDING,
                TrainingError,
                "a network that gives the same patch for every frame",
                lambda: training.train(nepochs=5, batch_size=2, directory=Path(folder)),
            )
        finally:
            PtychoNetwork._patches = real  # type: ignore[method-assign]
            keras_model.WARM_UP_STEPS = warm_up
        kept = len(read_bundle(folder).history)
        demand(kept == 2, FINDING, f"the bundle of the stopped training has {kept} epochs", "the 2 before")
    training.train()
    return {
        "the same patch for every frame": f"stopped: {message.split(' The last good')[0]}",
        "the weights before": "kept, in a bundle",
        "other networks": "train on",
    }
