"""Valid settings of every configuration model, drawn from the model's own JSON schema."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ptycho_config import hardware
from ptycho_config.models import Config, InferenceConfig, ModelConfig, SolverConfig, TrainingConfig

_PATHS = ("scan.npz", "runs/b", ".", "ein Ordner/größe.npz")
_TEXTS = ("val_loss", "ddp", "auto")


def _values(schema: dict[str, Any]) -> SearchStrategy[Any]:
    """Draw a JSON value that a field's schema allows."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "examples" in schema:
        return st.sampled_from(schema["examples"])
    if "const" in schema:
        return st.just(schema["const"])
    if "anyOf" in schema:
        return st.one_of([_values(option) for option in schema["anyOf"]])
    kind = schema["type"]
    if kind == "null":
        return st.none()
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        low = schema.get("minimum", 0)
        return st.integers(low, schema.get("maximum", low + 10_000))
    if kind == "number":
        low, high = schema.get("minimum", schema.get("exclusiveMinimum", -1e6)), schema.get("maximum")
        above = schema.get("exclusiveMaximum")
        return st.floats(
            low,
            1e12 if high is above is None else high if above is None else above,
            exclude_min="exclusiveMinimum" in schema,
            exclude_max=above is not None,
            allow_nan=False,
        )
    if kind == "array":
        low, high = schema.get("minItems", 0), schema.get("maxItems", 4)
        return st.lists(_values(schema["items"]), min_size=low, max_size=high)
    return st.sampled_from(_PATHS if schema.get("format") == "path" else _TEXTS)


@functools.cache
def _settings(model_class: type[Config]) -> SearchStrategy[dict[str, Any]]:
    """Draw some of a model's settings; the others keep their defaults.

    It is kept, since every example of a property asks for it: to make it takes longer than to draw from it.
    """
    fields: dict[str, SearchStrategy[Any]] = {}
    required: dict[str, SearchStrategy[Any]] = {}
    for name, schema in model_class.model_json_schema()["properties"].items():
        if name in model_class.derived_fields:
            continue
        if name == "model":
            drawn = _settings(ModelConfig)
        elif name == "N":
            drawn = st.integers(2, 64).map(lambda sixteenths: 16 * sixteenths)
        else:
            drawn = _values(schema)
        target = required if model_class.model_fields[name].is_required() else fields
        target[name] = drawn
    return st.fixed_dictionaries(required, optional=fields).map(_join)


def _join(settings: dict[str, Any]) -> dict[str, Any]:
    """Mend what no single field's schema can say: kept worker processes need workers."""
    if settings.get("persistent_workers"):
        settings["num_workers"] = max(1, settings.get("num_workers", 1))
    return settings


for canonical in (ModelConfig, TrainingConfig, InferenceConfig, SolverConfig):
    # `st.from_type(TrainingConfig)` gives valid configs.
    st.register_type_strategy(canonical, lambda kind: _settings(kind).map(lambda values: kind(**values)))


@pytest.fixture(scope="session")
def settings_of() -> Callable[[type[Config]], SearchStrategy[dict[str, Any]]]:
    """Give a strategy for valid keyword arguments of a model."""
    return _settings


class Hardware:
    """The hardware's answer, and how often somebody asked for it."""

    def __init__(self) -> None:
        self.has_cuda = False
        self.questions = 0

    def __call__(self) -> bool:
        self.questions += 1
        return self.has_cuda


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hardware]:
    """Stand in for the hardware; set `has_cuda`, count `questions`."""
    answer = Hardware()
    monkeypatch.setattr(hardware, "cuda_available", answer)
    yield answer


@pytest.fixture(scope="module")
def hardware_of_a_property() -> Iterator[Hardware]:
    """Stand in for the hardware during a property test; its examples share the answer, and set it first."""
    with pytest.MonkeyPatch.context() as patch:
        answer = Hardware()
        answer.has_cuda = True
        patch.setattr(hardware, "cuda_available", answer)
        yield answer
