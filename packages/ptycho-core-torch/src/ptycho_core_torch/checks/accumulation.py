"""EXEC-ACCUM-001 and EXEC-ACCUM-002 in the core: both guards speak before the first batch."""

from __future__ import annotations

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import PolicyError
from ptycho_core.checks.core_training import FRAMES, Began, small_scan
from ptycho_core_torch.checks.training import CORE

__all__ = ["a_manual_module_is_refused", "too_few_batches_are_refused"]


def a_manual_module_is_refused() -> Evidence:
    """Train with accumulation by a module that says that it optimises manually.

    Raises:
        CheckError: EXEC-ACCUM-001 does not hold.
        BackendUnavailableError: torch or lightning is not installed.
    """
    finding = "EXEC-ACCUM-001"
    CORE.available()
    from ptycho_core_torch.lightning_module import PtychoLightning
    from ptycho_core_torch.training import train_module

    class ManualModule(PtychoLightning):
        automatic_optimization = False  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    listener = Began()
    config, execution = CORE.settings(accum_steps=2)
    message = refused(
        finding,
        PolicyError,
        "accumulation over 2 batches by a module that optimises manually",
        lambda: train_module(ManualModule(execution), small_scan(), config, execution, callbacks=(listener,)),
    )
    demand(not listener.began, finding, "the training had begun by then", "a refusal before the first batch")
    CORE.train(accum_steps=2)
    return {
        "manual, accum_steps 2": f"refused before the first batch: {message}",
        "automatic, accum_steps 2": "trains",
    }


def too_few_batches_are_refused() -> Evidence:
    """Train with more accumulation than the epoch has batches.

    Raises:
        CheckError: EXEC-ACCUM-002 does not hold.
        BackendUnavailableError: torch or lightning is not installed.
    """
    finding = "EXEC-ACCUM-002"
    listener = Began()
    batches = FRAMES // 4
    message = refused(
        finding,
        PolicyError,
        f"accumulation over {batches + 1} batches in an epoch of {batches}",
        lambda: CORE.train(accum_steps=batches + 1, batch_size=4, callbacks=(listener,)),
    )
    demand(not listener.began, finding, "the training had begun by then", "a refusal before the first batch")
    return {f"accum_steps {batches + 1}, {batches} batches": f"refused before the first batch: {message}"}
