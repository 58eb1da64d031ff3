"""DATA-SUP-001 in the core: a training that needs labels asks for them before it begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ptycho_config.errors import ConfigError
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_config.probes.evidence import Evidence, demand, refused
from ptycho_core.learning.labels import needs_truth
from ptycho_core_torch.probes import training

__all__ = ["labels_are_asked_for_before_training"]

FINDING = "DATA-SUP-001"


def labels_are_asked_for_before_training() -> Evidence:
    """Train supervised on a scan without its object, and look at which trainings need one.

    Raises:
        ProbeError: DATA-SUP-001 does not hold.
        BackendUnavailableError: torch or lightning is not installed.
    """
    listener = training.Began()
    message = refused(
        FINDING,
        ConfigError,
        "supervised training on a scan without a ground truth",
        lambda: training.train(model_type="supervised", callbacks=(listener,)),
    )
    demand(not listener.began, FINDING, "the training had begun by then", "an error before it starts")
    without = training.scan()
    known = replace(without, ground_truth=np.ones((64, 64), np.complex64))
    supervised = TrainingConfig(model=ModelConfig(model_type="supervised"))
    real_space = TrainingConfig(realspace_mae_weight=1.0, realspace_weight=1.0)
    for what, config in (("supervised training", supervised), ("a real-space loss", real_space)):
        demand(needs_truth(config, (known,)), FINDING, f"{what} looks at no object", "the true object")
        for scans in ((without,), (known, without)):
            attempt = f"{what} on {len(scans)} scan(s), the last without a ground truth"
            refused(
                FINDING, ConfigError, attempt, lambda config=config, scans=scans: needs_truth(config, scans)
            )
    demand(
        not needs_truth(TrainingConfig(), (without,)), FINDING, "training by physics asks for labels", "no"
    )
    return {
        "supervised, no ground truth": f"refused before training: {message}",
        "a test scan without it": "refused",
        "a real-space loss without it": "refused",
        "training by physics": "needs none",
    }
