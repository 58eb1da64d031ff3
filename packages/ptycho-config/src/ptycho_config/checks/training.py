"""EXEC-ACCUM-001, EXEC-ACCUM-002 and TRAIN-COLLAPSE-001: the guards, over their whole truth tables."""

from __future__ import annotations

from ptycho_config import guards
from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import PolicyError, TrainingError

__all__ = [
    "a_collapsed_network_is_stopped",
    "an_epoch_holds_one_accumulation",
    "manual_optimisation_does_not_accumulate",
]

_STEPS = (1, 2, 3, 8, 64)


class _Silent:
    """A module that does not say how it optimises."""


class _Automatic(_Silent):
    automatic_optimization = True


class _Manual(_Silent):
    automatic_optimization = False


def manual_optimisation_does_not_accumulate() -> Evidence:
    """Ask the guard about each kind of module and several numbers of steps.

    Raises:
        CheckError: EXEC-ACCUM-001 does not hold.
    """
    finding = "EXEC-ACCUM-001"
    n_refused = 0
    for module in (_Silent(), _Automatic(), _Manual()):
        automatic = not isinstance(module, _Manual)
        for steps in _STEPS:
            allowed = guards.accumulation_allowed(automatic, steps)
            wanted = automatic or steps == 1
            what = f"`accum_steps` {steps} with {'automatic' if automatic else 'manual'} optimisation"
            demand(allowed == wanted, finding, f"{what} is allowed: {allowed}", f"{wanted}")
            if wanted:
                guards.check_accumulation(module, steps)
                continue
            refused(
                finding,
                PolicyError,
                what,
                lambda module=module, steps=steps: guards.check_accumulation(module, steps),
            )
            n_refused += 1
    return {
        "combinations tried": 3 * len(_STEPS),
        "refused": n_refused,
        "a module without the attribute": "counts as automatic",
    }


def an_epoch_holds_one_accumulation() -> Evidence:
    """Ask the guard about several numbers of steps and batches.

    Raises:
        CheckError: EXEC-ACCUM-002 does not hold.
    """
    finding = "EXEC-ACCUM-002"
    n_refused = 0
    for steps in _STEPS:
        for batches in (1, 2, 8, 100):
            what = f"`accum_steps` {steps} in an epoch of {batches} batches"
            fits = guards.accumulation_fits(steps, batches)
            demand(fits == (steps <= batches), finding, f"{what} fits: {fits}", f"{steps <= batches}")
            if steps <= batches:
                guards.check_accumulation_fits(steps, batches)
                continue
            refused(
                finding,
                PolicyError,
                what,
                lambda steps=steps, batches=batches: guards.check_accumulation_fits(steps, batches),
            )
            n_refused += 1
    return {"combinations tried": 4 * len(_STEPS), "refused": n_refused}


def a_collapsed_network_is_stopped() -> Evidence:
    """Ask the guard about spreads on both sides of the limit.

    Raises:
        CheckError: TRAIN-COLLAPSE-001 does not hold.
    """
    finding = "TRAIN-COLLAPSE-001"
    limit = guards.COLLAPSED
    demand(limit == 1e-4, finding, f"the limit is {limit:g}", "1e-4 of the mean modulus")
    for spread in (0.0, 0.99 * limit):
        refused(
            finding,
            TrainingError,
            f"a relative spread of {spread:g}",
            lambda spread=spread: guards.check_collapse(spread),
        )
    for spread in (limit, 0.1, 1.0):
        guards.check_collapse(spread)
    return {"limit of the relative spread": limit, "below it": "stopped", "from it on": "goes on"}
