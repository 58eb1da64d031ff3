"""Every error keeps its finding, its message and its exit code."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
from pydantic import PydanticUserError, ValidationError

from ptycho_config import (
    InferenceConfig,
    PyTorchExecutionConfig,
    SolverConfig,
    TrainingConfig,
    config_error,
)
from ptycho_config.errors import (
    BackendUnavailableError,
    BundleError,
    ConfigError,
    DataError,
    OutputError,
    PolicyError,
    PolicyWarning,
    exit_code,
)

KINDS = (
    PolicyError,
    ConfigError,
    DataError,
    BundleError,
    BackendUnavailableError,
    OutputError,
    PolicyWarning,
)

EXIT_CODES = [
    (None, 0),
    (SystemExit(), 0),
    (SystemExit(2), 2),
    (SystemExit("no"), 1),
    (RuntimeError("a bug"), 1),
    (MemoryError(), 1),
    (OutputError("disk full"), 1),
    (OSError("disk full"), 1),
    (ConfigError("wrong"), 2),
    (DataError("refused"), 3),
    (BundleError("damaged"), 3),
    (BackendUnavailableError("absent"), 4),
    (PolicyError("broken"), 5),
    (KeyboardInterrupt(), 130),
]


@pytest.mark.parametrize(("error", "code"), EXIT_CODES, ids=lambda value: repr(value))
def test_each_error_has_its_exit_code(error: BaseException | None, code: int) -> None:
    assert exit_code(error) == code


def test_a_model_built_with_a_wrong_value_counts_as_wrong_configuration() -> None:
    with pytest.raises(ValidationError) as caught:
        SolverConfig(effort="lazy")  # pyright: ignore[reportArgumentType]
    assert exit_code(caught.value) == 2


def test_other_errors_of_pydantic_and_other_validation_errors_are_failures() -> None:
    class ValidationError(Exception):
        pass

    assert exit_code(ValidationError()) == 1
    assert exit_code(PydanticUserError("a bug", code=None)) == 1


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (PolicyError, RuntimeError),
        (ConfigError, ValueError),
        (DataError, ValueError),
        (BundleError, ValueError),
        (BackendUnavailableError, RuntimeError),
        (OutputError, OSError),
        (PolicyWarning, UserWarning),
    ],
)
def test_each_error_can_be_caught_as_its_builtin_base(kind: type, base: type) -> None:
    assert issubclass(kind, base)


@pytest.mark.parametrize("kind", KINDS)
def test_a_finding_opens_the_message_once(kind: type) -> None:
    assert str(kind("what", finding="DATA-001")) == "DATA-001: what"
    assert str(kind("DATA-001: what", finding="DATA-001")) == "DATA-001: what"
    assert str(kind("what")) == "what"
    assert kind("what").finding is None


def sent(error: Exception) -> Exception:
    """Send an error to another process and back."""
    return pickle.loads(pickle.dumps(error))  # noqa: S301


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, sent], ids=lambda way: way.__name__)
def test_an_error_crosses_process_boundaries_unchanged(again: Callable[[Exception], Exception]) -> None:
    errors = [
        kind("two frames missing", finding=finding) for kind in KINDS for finding in (None, "CONFIG-002")
    ]
    copies = [again(error) for error in errors]
    assert [(type(one), str(one), one.finding) for one in copies] == [
        (type(one), str(one), one.finding) for one in errors
    ]


def test_an_error_may_say_nothing() -> None:
    assert str(ConfigError()) == ""
    assert str(ConfigError(finding="DATA-001")) == "DATA-001: "


@pytest.mark.parametrize(
    ("model_class", "wrong", "message"),
    [
        (
            TrainingConfig,
            {"model": {"gridsiz": 2}},
            "`model.gridsiz` is not a setting; did you mean `gridsize`?",
        ),
        (TrainingConfig, {"gridsize": 2}, "`gridsize` is not a setting."),
        (TrainingConfig, {"x" * 100: 2}, f"`{'x' * 57}...` is not a setting."),
        (TrainingConfig, {"model": 3}, "`model` is 3; expected a section of settings."),
        (TrainingConfig, {"output_dir": 3}, "`output_dir` is 3; expected a path."),
        (
            TrainingConfig,
            {"output_dir": "a\0b"},
            r"`output_dir` is 'a\x00b'; expected a path without the character NUL.",
        ),
        (SolverConfig, {"object_step": True}, "`object_step` is True; expected a number above 0."),
        (TrainingConfig, 3, "Input should be a valid dictionary or instance of TrainingConfig."),
        (InferenceConfig, {}, "`model_path` is required. `test_data_file` is required."),
        (
            SolverConfig,
            {"max_time": True},
            "`max_time` is True; expected a duration such as 90s, 3m or 1h, or a number of seconds, or none.",
        ),
        (
            PyTorchExecutionConfig,
            {"accelerator": "cpu", "devices": True},
            "`devices` is True; expected a whole number of 1 or more, or 'auto'.",
        ),
        (
            PyTorchExecutionConfig,
            {"accelerator": "cpu", "devices": "aut"},
            "`devices` is 'aut'; expected a whole number of 1 or more, or 'auto'. Did you mean 'auto'?",
        ),
        (
            PyTorchExecutionConfig,
            {"accelerator": "cpu", "persistent_workers": True},
            "`persistent_workers` needs `num_workers` > 0, found 0.",
        ),
    ],
)
def test_values_given_in_python_are_refused_without_a_place(model_class, wrong: object, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model_class.model_validate(wrong)
    assert str(config_error(caught.value, model_class=model_class)) == message


def test_a_place_is_named_where_one_is_known() -> None:
    with pytest.raises(ValidationError) as caught:
        InferenceConfig.model_validate({"debug": "x"})
    error = config_error(
        caught.value,
        model_class=InferenceConfig,
        origin=lambda loc: f"<{loc[0]}>",
        advice=lambda loc: f"[{loc[0]}]",
    )
    assert str(error) == (
        "`model_path` is required; give it with [model_path]. "
        "`test_data_file` is required; give it with [test_data_file]. "
        "`debug` is 'x' (from <debug>); expected true or false."
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"probe_modes": 9}, "`probe_modes` is 9; expected a whole number from 1 to 8."),
        ({"probe_modes": 1.5}, "`probe_modes` is 1.5; expected a whole number from 1 to 8."),
        ({"seed": True}, "`seed` is True; expected a whole number from 0 to 4294967295."),
        ({"probe_search": "perhaps"}, "`probe_search` is 'perhaps'; expected true or false."),
        ({"object_step": 0}, "`object_step` is 0; expected a number above 0."),
        ({"object_step": float("inf")}, "`object_step` is inf; expected a number above 0, and finite."),
        (
            {"effort": "fats"},
            "`effort` is 'fats'; expected 'fast', 'default' or 'thorough'. Did you mean 'fast'?",
        ),
        (
            {"max_time": "soon"},
            "`max_time` is 'soon'; "
            "expected a duration such as 90s, 3m or 1h, or a number of seconds, or none.",
        ),
        ({"epoch": 3}, "`epoch` is not a setting; did you mean `epochs`?"),
        (
            {"seed": -1, "probe_step": "x"},
            "`probe_step` is 'x'; expected a number of 0 or more. "
            "`seed` is -1; expected a whole number from 0 to 4294967295.",
        ),
    ],
)
def test_a_wrong_value_becomes_one_line(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SolverConfig.model_validate(wrong)
    assert str(config_error(caught.value, model_class=SolverConfig)) == message


def test_the_name_that_moved_is_the_new_one_with_a_warning() -> None:
    from ptycho_config import errors

    with pytest.warns(
        DeprecationWarning, match=r"`ptycho_config\.errors\.ProbeError`.*`ptycho_config\.errors\.CheckError`"
    ):
        assert errors.ProbeError is errors.CheckError
    with pytest.raises(AttributeError, match=r"module 'ptycho_config\.errors' has no attribute 'Nothing'"):
        _ = errors.Nothing
