"""The rules that every core keeps, checked on PyTorch; see `ptycho_core.checks.core_training`.

Each check raises `CheckError` where its rule does not hold, and `BackendUnavailableError` where torch or
lightning is not installed.
"""

from __future__ import annotations

from ptycho_config import hardware
from ptycho_config.checks.evidence import Evidence
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_core.checks import core_training
from ptycho_core_torch.backend import PyTorchBackend

__all__ = [
    "CORE",
    "a_constant_network_is_stopped",
    "a_training_leaves_its_metrics",
    "an_absent_gpu_is_refused_at_the_start",
    "labels_are_asked_for_before_training",
]

CORE = core_training.Core(
    backend=PyTorchBackend(),
    execution=PyTorchExecutionConfig,
    sees_gpu=lambda: hardware.cuda_available(),
)


def a_constant_network_is_stopped() -> Evidence:
    """TRAIN-COLLAPSE-001: a network whose patches are all alike is stopped, and its weights are kept."""
    return core_training.a_constant_network_is_stopped(CORE)


def an_absent_gpu_is_refused_at_the_start() -> Evidence:
    """POLICY-001: a GPU that was asked for and is absent is refused at the start."""
    return core_training.an_absent_gpu_is_refused_at_the_start(CORE)


def labels_are_asked_for_before_training() -> Evidence:
    """DATA-SUP-001: a training that needs labels asks for them before it begins."""
    return core_training.labels_are_asked_for_before_training(CORE)


def a_training_leaves_its_metrics() -> Evidence:
    """CONFIG-LOGGER-001: a training for which no logger was chosen leaves a CSV file."""
    return core_training.a_training_leaves_its_metrics(CORE)
