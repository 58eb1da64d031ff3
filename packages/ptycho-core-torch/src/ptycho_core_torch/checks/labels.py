"""DATA-SUP-001 in the core: a training that needs labels asks for them before it begins."""

from __future__ import annotations

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import ConfigError
from ptycho_core_torch.checks import training

__all__ = ["labels_are_asked_for_before_training"]

FINDING = "DATA-SUP-001"


def labels_are_asked_for_before_training() -> Evidence:
    """Train supervised on a scan without its object.

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
    return {"supervised, no ground truth": f"refused before training: {message}"}
