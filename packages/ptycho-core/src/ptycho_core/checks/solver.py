"""POLICY-001 at the solver: a GPU that was asked for and is absent is refused; `auto` says what it took."""

from __future__ import annotations

from ptycho_config import hardware
from ptycho_config.checks.evidence import Evidence, demand, observe, refused
from ptycho_config.errors import PolicyError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_core.solver import choose_arrays

__all__ = ["the_solver_takes_no_other_device"]

FINDING = "POLICY-001"


def the_solver_takes_no_other_device() -> Evidence:
    """Choose arrays for `auto`, for the CPU and, where the answer is no, for a GPU.

    Raises:
        CheckError: POLICY-001 does not hold.
    """
    settings = {"kernel": "off", "threads": 1}
    observed = observe(
        lambda: choose_arrays(SolverExecutionConfig.model_validate({"accelerator": "cpu", **settings}))
    )
    _, choice = observed.result
    demand(choice.device == "cpu", FINDING, f"explicit 'cpu' became {choice.device!r}", "'cpu'")
    demand(observed.questions == 0, FINDING, "explicit 'cpu' asked the hardware", "no question")
    evidence: Evidence = {"explicit cpu": choice.message}
    if hardware.cuda_available():
        return evidence
    for name in ("cuda", "gpu"):
        refused(
            FINDING,
            PolicyError,
            f"`accelerator={name}` of the solver without a GPU",
            lambda name=name: choose_arrays(
                SolverExecutionConfig.model_validate({"accelerator": name, **settings})
            ),
        )
    observed = observe(lambda: choose_arrays(SolverExecutionConfig.model_validate(settings)))
    _, choice = observed.result
    found = f"{choice.arrays} on {choice.device}"
    demand(found == "numpy on cpu", FINDING, f"`auto` without a GPU is {found}", "numpy on cpu")
    demand(not observed.warned, FINDING, "the solver's `auto` warned", "an INFO line: no GPU was asked for")
    return {**evidence, "auto": choice.message, "an absent GPU": "refused, for `cuda` and `gpu`"}
