"""CONFIG-002 and CONFIG-LOGGER-001: where a run happens stays apart, and its metrics go to a CSV file."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import PolicyError
from ptycho_config.execution import (
    EXECUTION,
    SHARED_WITH_TRAINING,
    ExecutionConfig,
    PyTorchExecutionConfig,
    TensorFlowExecutionConfig,
)
from ptycho_config.legacy import KEY_MAPPINGS, LegacyParams, update_legacy_dict
from ptycho_config.models import (
    CANONICAL,
    Config,
    TrainingConfig,
)
from ptycho_config.sources import load

__all__ = ["execution_stays_apart", "metrics_go_to_csv"]


def execution_stays_apart() -> Evidence:
    """Try to bring each execution config into the registry, and each kind of field into the other kind.

    Raises:
        CheckError: CONFIG-002 does not hold.
    """
    finding = "CONFIG-002"
    canonical = {name for kind in CANONICAL for name in kind.model_fields}
    execution = {name for kind in EXECUTION for name in kind.model_fields}
    shared = canonical & execution
    demand(
        shared == set(SHARED_WITH_TRAINING),
        finding,
        f"both kinds of config have {', '.join(sorted(shared)) or 'nothing'}",
        ", ".join(SHARED_WITH_TRAINING),
    )
    for kind in EXECUTION:
        _never_enters_the_registry(kind, finding)
    _is_not_written_along(execution - shared, finding)
    pairs = [(TrainingConfig, "accelerator", "cpu"), (PyTorchExecutionConfig, "nepochs", 3)]
    for kind, name, value in pairs:
        _is_no_field_of(kind, name, value, finding)
    return {
        "names on both sides": ", ".join(SHARED_WITH_TRAINING),
        "refused by the registry": ", ".join(kind.__name__ for kind in EXECUTION),
        "execution fields in the registry": 0,
        "foreign fields": "refused on both sides",
    }


def _never_enters_the_registry(kind: type[ExecutionConfig], finding: str) -> None:
    registry = LegacyParams()
    before = dict(registry.cfg)
    # Without a choice a GPU would be looked for, which not every host has.
    config: Any = kind.model_validate({"accelerator": "cpu"} if "accelerator" in kind.model_fields else {})
    what = f"{kind.__name__} as the source of the registry"
    refused(finding, PolicyError, what, lambda: update_legacy_dict(registry, config))
    demand(registry.cfg == before, finding, f"{what} changed it", "an untouched registry")


def _is_not_written_along(names: set[str], finding: str) -> None:
    registry: dict[str, Any] = {}
    update_legacy_dict(registry, TrainingConfig())
    strays = sorted({KEY_MAPPINGS.get(name, name) for name in names} & registry.keys())
    demand(not strays, finding, f"the registry holds {', '.join(strays)}", "no execution field")


def _is_no_field_of(kind: type[Config], name: str, value: object, finding: str) -> None:
    try:
        kind.model_validate({name: value})
    except ValidationError:
        return
    demand(False, finding, f"{kind.__name__} takes `{name}`", "a refusal")


def metrics_go_to_csv() -> Evidence:
    """Look at the logger of execution configs for which none was chosen.

    Raises:
        CheckError: CONFIG-LOGGER-001 does not hold.
    """
    finding = "CONFIG-LOGGER-001"
    found: Evidence = {}
    for kind in (PyTorchExecutionConfig, TensorFlowExecutionConfig):
        name = kind.__name__
        made = kind.model_validate({"accelerator": "cpu"}).logger_backend
        loaded = load(kind, flags={"accelerator": "cpu"})
        demand(made == "csv", finding, f"{name} logs to {made!r} by default", "'csv'")
        read = loaded.config.logger_backend
        demand(read == "csv", finding, f"{name} from its sources logs to {read!r}", "'csv'")
        source = loaded.source_of("logger_backend")
        demand(source == "default", finding, f"the logger of {name} comes from {source}", "the default")
        off = kind.model_validate({"accelerator": "cpu", "logger_backend": "none"}).logger_backend
        demand(off is None, finding, f"explicit `none` became {off!r}", "explicit choices as they are")
        found[name] = "csv by default, `none` when chosen"
    return found
