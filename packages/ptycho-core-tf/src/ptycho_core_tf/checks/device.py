"""POLICY-001 in the core: an absent GPU is refused where it was asked for, and missed once otherwise."""

from __future__ import annotations

import warnings
from pathlib import Path

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import PolicyError, PolicyWarning
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_core_tf.checks import training

__all__ = ["an_absent_gpu_is_refused_at_the_start", "auto_without_a_gpu_warns_once"]

FINDING = "POLICY-001"


def an_absent_gpu_is_refused_at_the_start() -> Evidence:
    """Train, and load a bundle, with an explicit GPU; where there is one there is nothing to refuse.

    Raises:
        ProbeError: POLICY-001 does not hold.
        BackendUnavailableError: TensorFlow is not installed.
    """
    backend = training.core()
    from ptycho_core_tf.devices import gpu_available

    if gpu_available():
        return {"an explicit GPU": "nothing to refuse, as there is one"}
    listener = training.Began()
    for name in ("cuda", "gpu"):
        execution = TensorFlowExecutionConfig.model_validate({"accelerator": name})
        refused(
            FINDING,
            PolicyError,
            f"training with an explicit {name!r}",
            lambda name=name: training.train(accelerator=name, callbacks=(listener,)),
        )
        refused(
            FINDING,
            PolicyError,
            f"loading a bundle with an explicit {name!r}",
            lambda execution=execution: backend.load(Path("there-is-no-such-bundle"), execution),
        )
    demand(not listener.began, FINDING, "the training had begun by then", "a refusal at the start")
    return {"an explicit GPU": "refused by train and load, before anything is read"}


def auto_without_a_gpu_warns_once() -> Evidence:
    """Train where nobody chose a processor; this core resolves that itself, at its start.

    Raises:
        ProbeError: POLICY-001 does not hold.
        BackendUnavailableError: TensorFlow is not installed.
    """
    training.core()
    from ptycho_core_tf.devices import gpu_available

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training.train(accelerator="auto")
    said = [str(one.message) for one in caught if isinstance(one.message, PolicyWarning)]
    expected = 0 if gpu_available() else 1
    demand(len(said) == expected, FINDING, f"`auto` warned {len(said)} times", f"{expected}")
    named = all(f"{FINDING}: No CUDA device detected" in text for text in said)
    demand(named, FINDING, f"`auto` warned: {'; '.join(said)}", "No CUDA device detected")
    return {"auto": said[0] if said else "takes the GPU, without a word"}
