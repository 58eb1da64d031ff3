"""The models: their defaults, what they accept and refuse, and that they survive every round trip."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError, create_model

from ptycho_config import (
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    RunConfig,
    RuntimeExecutionConfig,
    SolverConfig,
    SolverExecutionConfig,
    TensorFlowExecutionConfig,
    TrainingConfig,
    WatchConfig,
    config_error,
)
from ptycho_config.execution import SHARED_WITH_TRAINING
from ptycho_config.models import CanonicalConfig, Config

CANONICAL: tuple[type[CanonicalConfig], ...] = (
    ModelConfig,
    TrainingConfig,
    InferenceConfig,
    SolverConfig,
    RunConfig,
    WatchConfig,
)
EXECUTION: tuple[type[Config], ...] = (
    PyTorchExecutionConfig,
    TensorFlowExecutionConfig,
    SolverExecutionConfig,
    RuntimeExecutionConfig,
)
ALL = (*CANONICAL, *EXECUTION)


def _default(model_class: type[Config]) -> Config:
    if model_class is InferenceConfig:
        return InferenceConfig(model_path=Path("run"), test_data_file=Path("scan.npz"))
    if model_class is PyTorchExecutionConfig:
        return PyTorchExecutionConfig(accelerator="cpu")
    return model_class()


@pytest.mark.parametrize("model_class", ALL, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_valid_config_survives_yaml_json_and_pickle(
    settings_of, hardware_of_a_property, model_class, data
) -> None:
    hardware = hardware_of_a_property
    hardware.has_cuda = True  # where there is none a warning is due, which other tests count
    config = model_class(**data.draw(settings_of(model_class)))
    hardware.has_cuda, hardware.questions = False, 0
    plain = config.model_dump(mode="json")
    for again in (
        model_class.model_validate_json(config.model_dump_json()),
        model_class.model_validate(json.loads(json.dumps(plain))),
        model_class.model_validate(yaml.safe_load(yaml.safe_dump(plain))),
        pickle.loads(pickle.dumps(config)),  # noqa: S301 - our own bytes
        model_class.model_validate(config),
        config.model_copy(deep=True),
    ):
        assert again == config
        assert type(again) is model_class
        assert again.model_dump() == config.model_dump()
    assert hardware.questions == 0


@pytest.mark.parametrize("model_class", ALL, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_leaving_out_what_was_not_chosen_loses_nothing(
    settings_of, hardware_of_a_property, model_class, data
) -> None:
    hardware = hardware_of_a_property
    hardware.has_cuda = True
    config = model_class(**data.draw(settings_of(model_class)))
    hardware.has_cuda, hardware.questions = False, 0
    short = config.model_dump(mode="json", exclude_unset=True)
    again = model_class.model_validate(yaml.safe_load(yaml.safe_dump(short)))
    assert again == config
    assert again.model_fields_set - {"resolution"} == config.model_fields_set - {"resolution"}
    assert hardware.questions == 0


@cache
def _out_of_range(model_class: type[Config], name: str) -> tuple[object, ...]:
    """What the field alone refuses."""
    info = model_class.model_fields[name]
    alone = create_model("Alone", __base__=Config, **{name: (info.annotation, info)})  # pyright: ignore[reportCallIssue, reportArgumentType]

    def refused(value: object) -> bool:
        try:
            alone(**{name: value})
        except ValidationError:
            return True
        return False

    return tuple(filter(refused, (-2, 0, 1.5, "x", 1e400)))


@pytest.mark.parametrize("model_class", ALL, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_single_invalid_field_is_refused_by_name(
    settings_of, hardware_of_a_property, model_class, data
) -> None:
    names = [name for name in model_class.model_fields if name not in model_class.derived_fields]
    wrong = data.draw(st.sampled_from(names))
    values = data.draw(settings_of(model_class))
    wrong_values = ({"no": "value"}, [[]], b"\xff\xfe", *_out_of_range(model_class, wrong))
    values[wrong] = data.draw(st.sampled_from(wrong_values))
    with pytest.raises(ValidationError) as caught:
        model_class(**values)
    assert wrong in str(caught.value)
    assert f"`{wrong}" in str(config_error(caught.value, model_class=model_class))


@pytest.mark.parametrize("model_class", ALL, ids=lambda kind: kind.__name__)
def test_an_unknown_name_is_refused_and_the_nearest_is_named(model_class: type[Config]) -> None:
    known = next(name for name in model_class.model_fields if len(name) > 4)
    with pytest.raises(ValidationError) as caught:
        model_class.model_validate({**_default(model_class).model_dump(), f"{known}s": 1})
    assert f"`{known}s` is not a setting; did you mean `{known}`?" in str(
        config_error(caught.value, model_class=model_class)
    )


def test_chosen_values_can_be_told_from_defaults() -> None:
    assert SolverConfig().model_fields_set == set()
    assert SolverConfig(seed=0).model_fields_set == {"seed"}
    config = SolverConfig()
    config.effort = "fast"
    assert config.model_fields_set == {"effort"}


@pytest.mark.parametrize("side", [0, 32, 48, 64, 1024])
def test_a_usable_frame_side_is_accepted(side: int) -> None:
    assert side == ModelConfig(N=side).N


@pytest.mark.parametrize("side", [-1, 16, 33, 100, 1040, 64.5, "x", True])
def test_an_unusable_frame_side_is_refused(side: object) -> None:
    config = ModelConfig(N=0)
    with pytest.raises(ValidationError, match="N"):
        config.N = side  # pyright: ignore[reportAttributeAccessIssue]
    assert config.N == 0


def test_the_inner_model_can_be_assigned_after_construction() -> None:
    config = TrainingConfig(model=ModelConfig(N=0))
    config.model.N = 128
    assert config.model.N == 128


@pytest.mark.parametrize("architecture", ["cnn", "ffno", "fno", "fno_vanilla", "neuralop_uno"])
def test_input_and_overlap_follow_the_architecture_unless_chosen(architecture: str) -> None:
    config = ModelConfig(architecture=architecture)  # pyright: ignore[reportArgumentType]
    assert (config.input_channels, config.overlap_constraint) == ("amplitude", "group")
    config.architecture = "unet"
    assert (config.input_channels, config.overlap_constraint) == ("backprojection", "batch")
    config.overlap_constraint = "none"
    config.architecture = "cnn"
    assert (config.input_channels, config.overlap_constraint) == ("amplitude", "none")
    assert config.model_fields_set == {"architecture", "overlap_constraint"}


@pytest.mark.parametrize(
    ("given_value", "seconds"),
    [("90s", 90), ("3m", 180), ("1h", 3600), ("1h30m", 5400), ("2.5m", 150), ("45", 45), (7, 7), (0.5, 0.5)],
)
def test_a_duration_becomes_seconds(given_value: object, seconds: float) -> None:
    config = SolverConfig(max_time=given_value)  # pyright: ignore[reportArgumentType]
    assert config.max_time == seconds
    assert isinstance(config.max_time, float)


@pytest.mark.parametrize("wrong", ["", "soon", "3 days", "-3m", "0", 0, "m", True, "1h30", "nan", "inf"])
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError, match="max_time"):
        SolverConfig(max_time=wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e6", 1_000_000), ("+9007199254740993", 9007199254740993), ("16", 16), ("16.0", 16), (16.0, 16)],
)
def test_whole_numbers_may_be_written_with_an_exponent(text: object, number: int) -> None:
    config = TrainingConfig(n_groups=text)  # pyright: ignore[reportArgumentType]
    assert config.n_groups == number
    assert isinstance(config.n_groups, int)


@pytest.mark.parametrize("text", ["0,5,9", "0 5 9", " 0, 5 ,, 9,", [0, 5, 9], (0, "5", 9.0)])
def test_frame_numbers_may_be_written_as_a_list(text: object) -> None:
    config = PyTorchExecutionConfig(accelerator="cpu", recon_log_fixed_indices=text)  # pyright: ignore[reportArgumentType]
    assert config.recon_log_fixed_indices == (0, 5, 9)


def test_silu_is_swish_and_the_word_off_survives_yaml() -> None:
    assert ModelConfig(amp_activation="silu").amp_activation == "swish"  # pyright: ignore[reportArgumentType]
    assert SolverConfig.model_validate(yaml.safe_load("background: off")).background == "off"


@pytest.mark.parametrize("model_class", [TrainingConfig, InferenceConfig])
def test_n_images_is_read_as_n_groups_with_a_deprecation_warning(model_class: type[Config]) -> None:
    required = {"model_path": "run", "test_data_file": "s.npz"} if model_class is InferenceConfig else {}
    with pytest.warns(DeprecationWarning, match="^`n_images` is deprecated; use `n_groups`$"):
        config = model_class.model_validate({**required, "n_images": 7})
    assert config.model_fields_set == {*required, "n_groups"}
    assert (getattr(config, "n_groups"), getattr(config, "n_images")) == (7, None)  # noqa: B009
    assert "n_groups" in config.model_fields_set
    with pytest.warns(DeprecationWarning):
        config = model_class.model_validate({**required, "n_images": 7, "n_groups": 3})
    assert getattr(config, "n_groups") == 3  # noqa: B009


@pytest.mark.parametrize(("old", "new"), [("MultiStage", "Default"), ("Adaptive", "Default")])
def test_schedulers_that_are_gone_become_the_default_with_a_warning(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=old):
        assert TrainingConfig(scheduler=old).scheduler == new  # pyright: ignore[reportArgumentType]


def test_the_course_of_the_learning_rate_may_have_its_older_name() -> None:
    assert TrainingConfig(scheduler="Cosine").scheduler == "WarmupCosine"  # pyright: ignore[reportArgumentType]


@pytest.mark.finding("CONFIG-002")
def test_canonical_and_execution_configs_share_three_names_only() -> None:
    canonical = {*ModelConfig.model_fields, *TrainingConfig.model_fields, *InferenceConfig.model_fields}
    execution = {*PyTorchExecutionConfig.model_fields, *TensorFlowExecutionConfig.model_fields}
    assert canonical & execution == set(SHARED_WITH_TRAINING)
    assert {*SolverConfig.model_fields, *RunConfig.model_fields} & {
        *SolverExecutionConfig.model_fields
    } == set()


@pytest.mark.finding("CONFIG-002")
@pytest.mark.parametrize(
    ("model_class", "foreign"),
    [
        (TrainingConfig, {"accelerator": "cpu"}),
        (TrainingConfig, {"num_workers": 2}),
        (SolverConfig, {"arrays": "numpy"}),
        (PyTorchExecutionConfig, {"accelerator": "cpu", "nepochs": 3}),
        (SolverExecutionConfig, {"effort": "fast"}),
    ],
)
def test_a_setting_of_the_other_kind_is_refused(
    model_class: type[Config], foreign: dict[str, object]
) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        model_class.model_validate(foreign)
