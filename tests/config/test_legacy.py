"""The legacy registry follows the typed config: everything or nothing, and never an execution config."""

from __future__ import annotations

import logging
from collections import UserDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config import (
    ConfigError,
    InferenceConfig,
    ModelConfig,
    PolicyError,
    PyTorchExecutionConfig,
    SolverConfig,
    SolverExecutionConfig,
    TensorFlowExecutionConfig,
    TrainingConfig,
)
from ptycho_config.legacy import (
    DEFAULTS,
    KEY_MAPPINGS,
    LegacyParams,
    legacy_params,
    params,
    update_legacy_dict,
)

SYNCHRONISED = pytest.mark.finding("CONFIG-001")
WRITTEN = (ModelConfig, TrainingConfig, InferenceConfig, SolverConfig)


def _expected(config: Any) -> dict[str, Any]:
    """Translate a config the slow way: one field after the other."""
    entries = _expected(config.model) if "model" in type(config).model_fields else {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if name != "model" and value is not None:
            entries[KEY_MAPPINGS.get(name, name)] = str(value) if isinstance(value, Path) else value
    return entries


@SYNCHRONISED
@pytest.mark.parametrize("model_class", WRITTEN, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_reading_back_gives_the_values_of_the_config(settings_of, model_class, data) -> None:
    config = model_class(**data.draw(settings_of(model_class)))
    others = data.draw(st.dictionaries(st.sampled_from(["label", "h5_path", "not.ours"]), st.integers()))
    registry: dict[str, Any] = dict(others)
    update_legacy_dict(registry, config)
    assert registry == {**others, **_expected(config)}
    once = dict(registry)
    update_legacy_dict(registry, config)
    assert registry == once


@SYNCHRONISED
def test_the_mapping_is_that_of_the_contract() -> None:
    assert KEY_MAPPINGS == {
        "object_big": "object.big",
        "probe_big": "probe.big",
        "probe_mask": "probe.mask",
        "probe_trainable": "probe.trainable",
        "intensity_scale_trainable": "intensity_scale.trainable",
        "positions_provided": "positions.provided",
        "output_dir": "output_prefix",
        "train_data_file": "train_data_file_path",
        "test_data_file": "test_data_file_path",
    }


class _Full(UserDict[str, Any]):
    """A registry that takes three more entries and then fails."""

    room = 3

    def __setitem__(self, key: str, value: Any) -> None:
        if self.room == 0 and key not in ("kept", "N"):
            raise OSError("no more room")
        self.room = max(0, self.room - 1)
        super().__setitem__(key, value)


@SYNCHRONISED
def test_a_failing_update_changes_nothing() -> None:
    registry = _Full()
    registry["kept"], registry["N"] = 1, 256
    registry.room = 3
    with pytest.raises(OSError, match="no more room"):
        update_legacy_dict(registry, TrainingConfig(model=ModelConfig(N=128)))
    assert dict(registry) == {"kept": 1, "N": 256}


@SYNCHRONISED
def test_a_config_whose_frame_side_is_unknown_is_refused() -> None:
    registry = {"N": 64}
    with pytest.raises(ConfigError, match="`N` is 0, which means not known yet"):
        update_legacy_dict(registry, TrainingConfig(model=ModelConfig(N=0)))
    assert registry == {"N": 64}


@SYNCHRONISED
def test_values_smuggled_past_the_checks_are_refused() -> None:
    config = TrainingConfig().model_copy(update={"nepochs": -3})
    registry: dict[str, Any] = {}
    with pytest.raises(ConfigError, match="`nepochs` is -3; expected a whole number of 1 or more"):
        update_legacy_dict(registry, config)
    assert registry == {}


@pytest.mark.finding("CONFIG-002")
@pytest.mark.parametrize(
    "model_class", [PyTorchExecutionConfig, TensorFlowExecutionConfig, SolverExecutionConfig]
)
def test_an_execution_config_never_enters_the_registry(model_class) -> None:
    registry = dict(DEFAULTS)
    with pytest.raises(PolicyError, match=f"CONFIG-002: {model_class.__name__}") as caught:
        update_legacy_dict(registry, model_class(accelerator="cpu"))
    assert caught.value.finding == "CONFIG-002"
    assert registry == DEFAULTS


@SYNCHRONISED
def test_what_is_no_config_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"CONFIG-001: .*found dict"):
        update_legacy_dict({}, {"N": 64})  # pyright: ignore[reportArgumentType]


@SYNCHRONISED
@pytest.mark.parametrize("fail", [False, True])
def test_the_registry_is_restored_after_the_block_exception_or_not(fail: bool) -> None:
    registry = LegacyParams()
    registry.set("label", "mine")
    before, same_dict = dict(registry.cfg), registry.cfg
    try:
        with legacy_params(TrainingConfig(nepochs=3), registry) as inside:
            assert inside.get("nepochs") == 3
            inside.set("new", 1)
            del inside.cfg["label"]
            if fail:
                raise RuntimeError("inside")
    except RuntimeError as error:
        assert str(error) == "inside"
    assert registry.cfg == before
    assert registry.cfg is same_dict


@SYNCHRONISED
def test_the_block_works_on_the_registry_of_the_process_by_default() -> None:
    before = params.get("N")
    with legacy_params(ModelConfig(N=256)):
        assert params.get("N") == 256
    assert params.get("N") == before


def test_the_registry_keeps_its_old_semantics(caplog: pytest.LogCaptureFixture) -> None:
    registry = LegacyParams()
    assert registry.params()["bigN"] == registry.get("bigN") == registry.get_bigN() == 132
    assert (registry.get_padding_size(), registry.get_padded_size()) == (14, 142)
    assert "bigN" not in registry.cfg
    assert registry.get("absent", 3) == 3
    assert registry.get("nepochs", 3) == 60
    assert registry.get("outer_offset_train", 3) is None
    with pytest.raises(KeyError):
        registry.get("absent")
    registry["gridsize"] = 1
    assert registry["bigN"] == 128
    assert "gridsize" in registry
    assert set(registry) == set(DEFAULTS)
    assert len(registry) == len(DEFAULTS)
    assert registry.validate()
    registry.seal()
    with caplog.at_level(logging.WARNING):
        registry.set("intensity_scale", 2.0)
        assert caplog.records == []
        registry.set("N", 64)
    assert caplog.messages == ["legacy parameter 'N' was changed after the registry had been sealed"]
    assert registry.get("N") == 64
    registry.unseal()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        registry.set("N", 32)
    assert caplog.records == []
    registry.set("data_source", "moon")
    with pytest.raises(ConfigError) as caught:
        registry.validate()
    assert str(caught.value) == (
        "`data_source` is 'moon'; expected one of lines, grf, experimental, points, testimg, diagonals, "
        "xpp, V, generic."
    )
    registry.set("data_source", "lines")
    registry.set("N", 0)
    with pytest.raises(ConfigError, match="`N` is 0; expected a whole number"):
        registry.validate()


def test_every_parameter_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    registry = LegacyParams()
    registry.set("probe", memoryview(bytes(16)).cast("B", (4, 4)))
    registry.print_params()
    printed = capsys.readouterr().out
    assert "bigN: " in printed
    assert "probe: array of shape (4, 4)" in printed
    assert printed.count("\n") == len(registry.params())
