"""The rules that every core keeps, checked on TensorFlow; see `ptycho_core.checks.core_training`.

Each check raises `CheckError` where its rule does not hold, and `BackendUnavailableError` where TensorFlow is
not installed.
"""

from __future__ import annotations

import warnings

from ptycho_config.checks.evidence import Evidence, demand
from ptycho_config.errors import PolicyWarning
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_core.checks import core_training
from ptycho_core_tf.backend import TensorFlowBackend

__all__ = [
    "CORE",
    "a_constant_network_is_stopped",
    "a_training_leaves_its_metrics",
    "an_absent_gpu_is_refused_at_the_start",
    "auto_without_a_gpu_warns_once",
    "labels_are_asked_for_before_training",
]


def _sees_gpu() -> bool:
    from ptycho_core_tf.devices import gpu_available

    return gpu_available()


CORE = core_training.Core(
    backend=TensorFlowBackend(),
    execution=TensorFlowExecutionConfig,
    sees_gpu=_sees_gpu,
)


def a_constant_network_is_stopped() -> Evidence:
    """TRAIN-COLLAPSE-001: a network whose patches are all alike is stopped, and its weights are kept."""
    return core_training.a_constant_network_is_stopped(CORE)


def an_absent_gpu_is_refused_at_the_start() -> Evidence:
    """POLICY-001: a GPU that was asked for and is absent is refused at the start."""
    return core_training.an_absent_gpu_is_refused_at_the_start(CORE)


def auto_without_a_gpu_warns_once() -> Evidence:
    """POLICY-001: where no processor was chosen an absent GPU is missed once; this core resolves `auto`."""
    finding = "POLICY-001"
    CORE.available()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CORE.train(accelerator="auto")
    said = [str(one.message) for one in caught if isinstance(one.message, PolicyWarning)]
    expected = 0 if CORE.sees_gpu() else 1
    demand(len(said) == expected, finding, f"`auto` warned {len(said)} times", f"{expected}")
    named = all(f"{finding}: No CUDA device detected" in text for text in said)
    demand(named, finding, f"`auto` warned: {'; '.join(said)}", "No CUDA device detected")
    return {"auto": said[0] if said else "takes the GPU, without a word"}


def labels_are_asked_for_before_training() -> Evidence:
    """DATA-SUP-001: a training that needs labels asks for them before it begins."""
    return core_training.labels_are_asked_for_before_training(CORE)


def a_training_leaves_its_metrics() -> Evidence:
    """CONFIG-LOGGER-001: a training for which no logger was chosen leaves a CSV file."""
    return core_training.a_training_leaves_its_metrics(CORE)
