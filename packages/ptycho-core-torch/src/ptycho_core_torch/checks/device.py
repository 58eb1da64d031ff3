"""POLICY-001 in the core: a GPU that was asked for and is absent is refused at the start."""

from __future__ import annotations

from pathlib import Path

from ptycho_config import hardware
from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import PolicyError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_core_torch.checks import training

__all__ = ["an_absent_gpu_is_refused_at_the_start"]

FINDING = "POLICY-001"


def an_absent_gpu_is_refused_at_the_start() -> Evidence:
    """Train, and load a bundle, with an explicit GPU; where the answer is yes there is nothing to refuse.

    Raises:
        ProbeError: POLICY-001 does not hold.
        BackendUnavailableError: torch or lightning is not installed.
    """
    backend = training.core()
    if hardware.cuda_available():
        return {"an explicit GPU": "nothing to refuse, as there is one"}
    listener = training.Began()
    for name in ("cuda", "gpu"):
        execution = PyTorchExecutionConfig.model_validate({"accelerator": name})
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
