"""Whatever happens to the legacy registry, it holds what a plain dict would hold that saw the same."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ptycho_config import (
    ConfigError,
    InferenceConfig,
    ModelConfig,
    PolicyError,
    SolverConfig,
    SolverExecutionConfig,
    TensorFlowExecutionConfig,
    TrainingConfig,
)
from ptycho_config.legacy import DEFAULTS, KEY_MAPPINGS, LegacyParams, legacy_params, update_legacy_dict

CONFIGS = st.one_of(
    [st.from_type(kind) for kind in (ModelConfig, TrainingConfig, InferenceConfig, SolverConfig)]
)
NOT_WRITTEN = st.sampled_from(
    [
        ModelConfig(N=0),
        TrainingConfig(model=ModelConfig(N=0)),
        TrainingConfig().model_copy(update={"nepochs": -3}),
        SolverExecutionConfig(),
        TensorFlowExecutionConfig(),
        {"N": 64},
        None,
    ]
)
KEYS = st.sampled_from(["N", "gridsize", "offset", "label", "nepochs", "object.big", "not.ours", "probe"])
NEEDED = {"N", "gridsize", "offset"}  # by the derived `bigN`


class FullDiskError(Exception):
    """What the flaky dict raises."""


class Flaky(dict[str, Any]):
    """A dict that fails once, after some writes."""

    writes_left: int | None = None

    def __setitem__(self, key: str, value: Any) -> None:
        if self.writes_left == 0:
            self.writes_left = None
            raise FullDiskError
        if self.writes_left is not None:
            self.writes_left -= 1
        super().__setitem__(key, value)


def entries(config: Any) -> dict[str, Any]:
    """Translate a config as the contract says, one field after the other."""
    found = entries(config.model) if "model" in type(config).model_fields else {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if name != "model" and value is not None:
            found[KEY_MAPPINGS.get(name, name)] = str(value) if isinstance(value, Path) else value
    return found


class Registry(RuleBasedStateMachine):
    """Drives a registry and a plain dict side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = LegacyParams()
        self.registry.cfg = self.cfg = Flaky(self.registry.cfg)
        self.model: dict[str, Any] = dict(DEFAULTS)
        self.blocks: list[tuple[AbstractContextManager[LegacyParams], dict[str, Any]]] = []

    @rule(config=CONFIGS, through_registry=st.booleans())
    def update(self, config: Any, through_registry: bool) -> None:
        update_legacy_dict(self.registry if through_registry else self.registry.cfg, config)
        self.model |= entries(config)

    @rule(config=CONFIGS, times=st.integers(2, 3))
    def update_repeatedly(self, config: Any, times: int) -> None:
        for _ in range(times):
            update_legacy_dict(self.registry, config)
        self.model |= entries(config)

    @rule(wrong=NOT_WRITTEN)
    def refuse(self, wrong: Any) -> None:
        with pytest.raises((ConfigError, PolicyError)):
            update_legacy_dict(self.registry, wrong)

    @rule(config=CONFIGS, writes=st.integers(0, 9))
    def fail_in_the_middle(self, config: Any, writes: int) -> None:
        self.cfg.writes_left = writes
        with pytest.raises(FullDiskError):
            update_legacy_dict(self.registry, config)

    @rule(key=KEYS, value=st.integers(1, 5))
    def write_directly(self, key: str, value: int) -> None:
        self.registry[key] = value
        self.model[key] = value

    @rule(key=KEYS.filter(lambda key: key not in NEEDED))
    def delete_directly(self, key: str) -> None:
        self.registry.cfg.pop(key, None)
        self.model.pop(key, None)

    @rule(config=CONFIGS)
    def enter_a_block(self, config: Any) -> None:
        block = legacy_params(config, self.registry)
        assert block.__enter__() is self.registry
        self.blocks.append((block, dict(self.model)))
        self.model |= entries(config)

    @rule(wrong=NOT_WRITTEN)
    def refuse_to_enter_a_block(self, wrong: Any) -> None:
        with pytest.raises((ConfigError, PolicyError)), legacy_params(wrong, self.registry):
            raise AssertionError("the block was entered")

    @rule(config=CONFIGS, writes=st.integers(0, 9))
    def fail_to_enter_a_block(self, config: Any, writes: int) -> None:
        self.cfg.writes_left = writes
        with pytest.raises(FullDiskError), legacy_params(config, self.registry):
            raise AssertionError("the block was entered")

    @precondition(lambda self: self.blocks)
    @rule()
    def leave_a_block(self) -> None:
        block, self.model = self.blocks.pop()
        assert block.__exit__(None, None, None) is False

    @precondition(lambda self: self.blocks)
    @rule(error=st.sampled_from([RuntimeError("inside"), KeyboardInterrupt(), ConfigError("inside")]))
    def leave_a_block_by_an_exception(self, error: BaseException) -> None:
        block, self.model = self.blocks.pop()
        assert block.__exit__(type(error), error, None) is False  # it goes on, and is not swallowed

    @invariant()
    def the_registry_holds_what_the_dict_holds(self) -> None:
        assert self.registry.cfg is self.cfg
        assert dict(self.cfg) == self.model
        assert {key: self.registry.get(key) for key in self.registry} == self.model

    @invariant()
    def the_derived_size_follows(self) -> None:
        big = self.model["N"] + (self.model["gridsize"] - 1) * self.model["offset"]
        assert self.registry.params() == {**self.model, "bigN": big}

    def teardown(self) -> None:
        while self.blocks:
            self.leave_a_block()
        self.the_registry_holds_what_the_dict_holds()


Registry.TestCase.settings = settings(settings.default, stateful_step_count=30)
TestRegistry = pytest.mark.finding("CONFIG-001")(Registry.TestCase)
