"""CONFIG-001 on the registry itself: it reads back as the config says, changes whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import ConfigError, PolicyError
from ptycho_config.legacy import KEY_MAPPINGS, LegacyParams, legacy_dict, legacy_params, update_legacy_dict
from ptycho_config.models import ModelConfig, TrainingConfig

__all__ = ["registry_follows_the_config"]

FINDING = "CONFIG-001"


class _FailsAt(dict[str, Any]):
    """A registry that cannot take one key."""

    def __init__(self, key: str, content: dict[str, Any]) -> None:
        super().__init__(content)
        self._key = key

    def __setitem__(self, key: str, value: Any) -> None:
        if key == self._key:
            raise OSError(f"{key} cannot be written")
        super().__setitem__(key, value)


def registry_follows_the_config() -> Evidence:
    """Write a config into registries of the check's own and read it back.

    Raises:
        CheckError: CONFIG-001 does not hold.
    """
    model = ModelConfig(N=96, gridsize=2, object_big=False, probe_mask=True)
    config = TrainingConfig(model=model, nepochs=7, batch_size=3, output_dir=Path("somewhere"))
    registry = LegacyParams()
    update_legacy_dict(registry, config)
    written = _all_fields_are_there(registry, config)
    return {
        "fields read back": written,
        "a failing update": _a_failing_update_changes_nothing(config),
        "an unknown frame size": _unknown_frames_change_nothing(),
        "anything but a config": _other_things_are_refused(),
        "after `legacy_params`": _the_registry_is_restored(config),
    }


def _all_fields_are_there(registry: LegacyParams, config: TrainingConfig) -> int:
    wrong: list[str] = []
    count = 0
    for part in (config.model, config):
        for name in type(part).model_fields:
            value = getattr(part, name)
            if name == "model" or value is None:
                continue
            count += 1
            expected = str(value) if isinstance(value, Path) else value
            if registry.cfg.get(KEY_MAPPINGS.get(name, name)) != expected:
                wrong.append(name)
    demand(not wrong, FINDING, f"the registry disagrees about {', '.join(wrong)}", "the values of the config")
    return count


def _a_failing_update_changes_nothing(config: TrainingConfig) -> str:
    before = {"N": 1, "kept": "as it was"}
    last = list(legacy_dict(config))[-1]
    registry = _FailsAt(last, before)
    try:
        update_legacy_dict(registry, config)
    except OSError:
        demand(dict(registry) == before, FINDING, "a failing update left keys behind", "all keys or none")
        return "changes nothing"
    demand(False, FINDING, f"the key `{last}` was not written", "every key of the config")
    return ""


def _unknown_frames_change_nothing() -> str:
    registry: dict[str, Any] = {"kept": "as it was"}
    try:
        update_legacy_dict(registry, TrainingConfig(model=ModelConfig(N=0)))
    except ConfigError:
        demand(registry == {"kept": "as it was"}, FINDING, "a refused config left keys behind", "none")
        return "is refused"
    demand(False, FINDING, "`N` = 0 was written into the registry", "a refusal")
    return ""


def _other_things_are_refused() -> str:
    registry: dict[str, Any] = {}
    forbidden: Any = {"N": 64}
    refused(FINDING, PolicyError, "a plain dict", lambda: update_legacy_dict(registry, forbidden))
    return "is refused"


def _the_registry_is_restored(config: TrainingConfig) -> str:
    registry = LegacyParams()
    before = dict(registry.cfg)
    with legacy_params(config, registry):
        inside = registry.get("N")
    demand(inside == config.model.N, FINDING, f"inside the block N was {inside}", f"{config.model.N}")
    try:
        with legacy_params(config, registry):
            raise KeyError("on purpose")
    except KeyError:
        pass
    demand(registry.cfg == before, FINDING, "the block left the registry changed", "the state before it")
    return "as before, exception or not"
