"""EXEC-ACCUM-001 and EXEC-ACCUM-002 in the core: both guards speak before the first batch."""

from __future__ import annotations

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import PolicyError
from ptycho_core_torch.checks import training

__all__ = ["a_manual_module_is_refused", "too_few_batches_are_refused"]


def a_manual_module_is_refused() -> Evidence:
    """Train with accumulation while the core's module says that it optimises manually.

    Raises:
        ProbeError: EXEC-ACCUM-001 does not hold.
        BackendUnavailableError: torch or lightning is not installed.
    """
    finding = "EXEC-ACCUM-001"
    training.core()
    from ptycho_core_torch.lightning_module import PtychoLightning

    listener = training.Began()
    before = PtychoLightning.automatic_optimization
    try:
        PtychoLightning.automatic_optimization = False  # type: ignore[assignment]
        message = refused(
            finding,
            PolicyError,
            "accumulation over 2 batches by a module that optimises manually",
            lambda: training.train(accum_steps=2, callbacks=(listener,)),
        )
    finally:
        PtychoLightning.automatic_optimization = before  # type: ignore[assignment]
    demand(not listener.began, finding, "the training had begun by then", "a refusal before the first batch")
    training.train(accum_steps=2)
    return {
        "manual, accum_steps 2": f"refused before the first batch: {message}",
        "automatic, accum_steps 2": "trains",
    }


def too_few_batches_are_refused() -> Evidence:
    """Train with more accumulation than the epoch has batches.

    Raises:
        ProbeError: EXEC-ACCUM-002 does not hold.
        BackendUnavailableError: torch or lightning is not installed.
    """
    finding = "EXEC-ACCUM-002"
    listener = training.Began()
    batches = training.FRAMES // 4
    message = refused(
        finding,
        PolicyError,
        f"accumulation over {batches + 1} batches in an epoch of {batches}",
        lambda: training.train(accum_steps=batches + 1, batch_size=4, callbacks=(listener,)),
    )
    demand(not listener.began, finding, "the training had begun by then", "a refusal before the first batch")
    return {f"accum_steps {batches + 1}, {batches} batches": f"refused before the first batch: {message}"}
