"""POLICY-001 on the execution config: `auto` by the hardware, one warning, explicit choices untouched."""

from __future__ import annotations

from ptycho_config import hardware
from ptycho_config.checks.evidence import Evidence, demand, observe, refused
from ptycho_config.errors import PolicyError
from ptycho_config.execution import PyTorchExecutionConfig

__all__ = ["gpu_first_and_no_silent_fallback"]

FINDING = "POLICY-001"
_TEXTS = (FINDING, hardware.NO_CUDA)


def gpu_first_and_no_silent_fallback() -> Evidence:
    """Resolve every accelerator under the answer at hand, and a resolved config again.

    Raises:
        CheckError: POLICY-001 does not hold.
    """
    has_cuda = hardware.cuda_available()
    observed = observe(PyTorchExecutionConfig)
    config, warned = observed.result, observed.warnings_of(FINDING)
    expected = "cuda" if has_cuda else "cpu"
    demand(config.accelerator == expected, FINDING, f"`auto` became {config.accelerator!r}", f"{expected!r}")
    demand(observed.questions == 1, FINDING, f"the hardware was asked {observed.questions} times", "once")
    demand(
        len(warned) == (0 if has_cuda else 1),
        FINDING,
        f"{len(warned)} warnings came with `auto` becoming {expected!r}",
        "exactly one on a fallback, none otherwise",
    )
    for text in warned:
        demand(
            all(part in text for part in _TEXTS), FINDING, f"the warning says {text!r}", " and ".join(_TEXTS)
        )
    return {
        "auto became": config.accelerator,
        "reason": config.resolution.reason,
        "warnings on construction": len(warned),
        "explicit values kept": ", ".join(_explicit_values_are_kept()),
        "a copy and a JSON round trip": _a_resolved_config_is_settled(config),
        "an absent GPU": _an_absent_gpu_is_refused(),
    }


def _explicit_values_are_kept() -> list[str]:
    explicit = [name for name in hardware.ACCELERATORS if name != "auto"]
    for name in explicit:
        observed = observe(lambda name=name: PyTorchExecutionConfig.model_validate({"accelerator": name}))
        found = observed.result.accelerator
        demand(found == name, FINDING, f"explicit {name!r} became {found!r}", "explicit values as they are")
        demand(
            observed.questions == 0 and not observed.warned,
            FINDING,
            f"explicit {name!r} asked the hardware {observed.questions} times and warned "
            f"{len(observed.warned)} times",
            "neither",
        )
        for answer in (True, False):
            resolved = hardware.resolve_accelerator(name, cuda_available=answer).resolved
            demand(resolved == name, FINDING, f"explicit {name!r} resolved to {resolved!r}", "no change")
    return explicit


def _a_resolved_config_is_settled(config: PyTorchExecutionConfig) -> str:
    written = config.model_dump_json()
    observed = observe(lambda: (config.model_copy(), PyTorchExecutionConfig.model_validate_json(written)))
    demand(
        all(again.accelerator == config.accelerator for again in observed.result),
        FINDING,
        f"a copy of a config on {config.accelerator!r} runs elsewhere",
        "the accelerator as resolved",
    )
    demand(
        observed.questions == 0 and not observed.warned,
        FINDING,
        f"copying asked the hardware {observed.questions} times and warned {len(observed.warned)} times",
        "neither",
    )
    return "ask and warn no more"


def _an_absent_gpu_is_refused() -> str:
    for name in ("cuda", "gpu"):
        refused(
            FINDING,
            PolicyError,
            f"explicit {name!r} on a host without it",
            lambda name=name: hardware.require_accelerator(name, cuda_available=False),
        )
        hardware.require_accelerator(name, cuda_available=True)
    return "refused, for `cuda` and `gpu`"
