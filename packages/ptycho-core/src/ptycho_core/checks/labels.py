"""DATA-SUP-001: which trainings look at the true object, and the refusal where a scan has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import ConfigError
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.checks import samples
from ptycho_core.io import scan_from_arrays
from ptycho_core.learning import recipe as labels

__all__ = ["labels_are_asked_for"]

FINDING = "DATA-SUP-001"


def labels_are_asked_for() -> Evidence:
    """Ask which trainings need labels, with scans that have them and scans that have none.

    Raises:
        CheckError: DATA-SUP-001 does not hold.
    """
    without = scan_from_arrays(
        samples.counts(),
        samples.positions_px(),
        samples.probe(),
        measurement="counts",
        dc="center",
        name="the scan of the check",
    )
    known = replace(without, ground_truth=np.ones((64, 64), np.complex64))
    supervised = TrainingConfig(model=ModelConfig(model_type="supervised"))
    real_space = TrainingConfig(realspace_mae_weight=1.0, realspace_weight=1.0)
    for what, config in (("supervised training", supervised), ("a real-space loss", real_space)):
        demand(labels.needs_truth(config, (known,)), FINDING, f"{what} looks at no object", "the true object")
        for scans in ((without,), (known, without)):
            attempt = f"{what} on {len(scans)} scan(s), the last without a ground truth"
            refused(
                FINDING,
                ConfigError,
                attempt,
                lambda config=config, scans=scans: labels.needs_truth(config, scans),
            )
    by_physics = labels.needs_truth(TrainingConfig(), (without,))
    demand(not by_physics, FINDING, "training by physics asks for labels", "no")
    return {
        "a test scan without it": "refused",
        "a real-space loss without it": "refused",
        "training by physics": "needs none",
    }
