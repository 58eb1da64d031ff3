"""Combinations that would train something else than was asked for, refused before the first batch."""

from __future__ import annotations

from ptycho_config.errors import PolicyError, TrainingError

__all__ = [
    "COLLAPSED",
    "accumulation_allowed",
    "accumulation_fits",
    "check_accumulation",
    "check_accumulation_fits",
    "check_collapse",
]


#: Below this spread of the predicted patches, relative to their mean modulus, a network always says the same.
COLLAPSED = 1e-4


def accumulation_allowed(automatic: bool, accum_steps: int) -> bool:
    """Tell whether gradients may be accumulated: only where the framework steps the optimiser itself."""
    return automatic or accum_steps <= 1


def check_accumulation(module: object, accum_steps: int) -> None:
    """Refuse gradient accumulation with manual optimisation.

    Args:
        module: a Lightning module; one without the attribute `automatic_optimization` counts as automatic.
        accum_steps: batches added up before each step.

    Raises:
        PolicyError: EXEC-ACCUM-001, the module steps its optimiser itself and `accum_steps` exceeds 1.
    """
    automatic = bool(getattr(module, "automatic_optimization", True))
    if not accumulation_allowed(automatic, accum_steps):
        raise PolicyError(
            f"`accum_steps` is {accum_steps}, but {type(module).__name__} optimises manually "
            "(`automatic_optimization` is False), where it would have no effect. "
            "Use `--torch-accum-steps 1`.",
            finding="EXEC-ACCUM-001",
        )


def accumulation_fits(accum_steps: int, n_batches: int) -> bool:
    """Tell whether an epoch holds at least one full accumulation."""
    return accum_steps <= n_batches


def check_accumulation_fits(accum_steps: int, n_batches: int) -> None:
    """Refuse to add up more batches than an epoch has; the framework would silently cut it short.

    Raises:
        PolicyError: EXEC-ACCUM-002, `accum_steps` exceeds `n_batches`.
    """
    if not accumulation_fits(accum_steps, n_batches):
        raise PolicyError(
            f"`accum_steps` is {accum_steps}, but an epoch has only {n_batches} "
            f"batch{'' if n_batches == 1 else 'es'}. Use `--torch-accum-steps {max(n_batches, 1)}` or less, "
            "or a smaller `--batch-size`.",
            finding="EXEC-ACCUM-002",
        )


def check_collapse(relative_spread: float, *, flags: str = "--torch-") -> None:
    """Stop a network that gives the same patch for every frame.

    Args:
        relative_spread: spread of the predicted patches across frames over their mean modulus.
        flags: how the flags of the core that trained it begin.

    Raises:
        TrainingError: TRAIN-COLLAPSE-001, the spread is below `COLLAPSED`.
    """
    if relative_spread < COLLAPSED:
        raise TrainingError(
            f"The network gives the same patch for every frame. Use a lower `{flags}learning-rate`, or "
            "`--torch-loss-mode mae`, and train again.",
            finding="TRAIN-COLLAPSE-001",
        )
