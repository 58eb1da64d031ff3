"""Execution configs resolve their accelerator once, and say so exactly when they fall back (POLICY-001)."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ptycho_config import (
    ConfigError,
    PolicyError,
    PolicyWarning,
    PyTorchExecutionConfig,
    SolverExecutionConfig,
    TensorFlowExecutionConfig,
    hardware,
)
from ptycho_config.execution import UnresolvedPyTorchExecution
from ptycho_config.hardware import ACCELERATORS, resolve_accelerator

POLICY = pytest.mark.finding("POLICY-001")
EXPLICIT = tuple(name for name in ACCELERATORS if name != "auto")


@POLICY
@given(requested=st.sampled_from(ACCELERATORS), has_cuda=st.booleans(), why_not=st.text(max_size=20))
def test_resolution_is_total_idempotent_and_leaves_explicit_choices(requested, has_cuda, why_not) -> None:
    resolution = resolve_accelerator(requested, cuda_available=has_cuda, why_not=why_not)
    assert resolution.resolved in EXPLICIT
    assert resolution.requested == requested
    again = resolve_accelerator(resolution.resolved, cuda_available=has_cuda)
    assert again.resolved == resolution.resolved
    if requested == "auto":
        assert (resolution.resolved == "cpu") == (not has_cuda)
        assert resolution.fell_back == (not has_cuda)
    else:
        assert resolution.resolved == requested
        assert not resolution.fell_back


@given(requested=st.text().filter(lambda text: text not in ACCELERATORS), has_cuda=st.booleans())
def test_an_unknown_accelerator_is_refused_with_the_choices(requested: str, has_cuda: bool) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_accelerator(requested, cuda_available=has_cuda)
    assert str(caught.value) == (
        f"`accelerator` is {requested!r}; expected one of auto, cpu, gpu, cuda, mps. "
        "`auto` takes CUDA where it is available."
    )
    assert caught.value.finding is None


@pytest.mark.parametrize(
    ("requested", "has_cuda", "why_not", "expected"),
    [
        ("auto", True, "unheard", ("auto", "cuda", "CUDA is available")),
        ("auto", False, "", ("auto", "cpu", "No CUDA device detected")),
        ("auto", False, "no driver", ("auto", "cpu", "No CUDA device detected (no driver)")),
        ("cuda", False, "no driver", ("cuda", "cuda", "chosen explicitly")),
    ],
)
def test_a_resolution_says_why(
    requested: str, has_cuda: bool, why_not: str, expected: tuple[str, ...]
) -> None:
    assert resolve_accelerator(requested, cuda_available=has_cuda, why_not=why_not) == expected
    if not why_not:
        assert resolve_accelerator(requested, cuda_available=has_cuda) == expected


@POLICY
@pytest.mark.parametrize("has_cuda", [True, False])
@pytest.mark.parametrize("requested", [None, *ACCELERATORS])
def test_construction_asks_at_most_once_and_warns_exactly_on_fallback(cuda, requested, has_cuda) -> None:
    cuda.has_cuda = has_cuda
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = PyTorchExecutionConfig(**({} if requested is None else {"accelerator": requested}))
    fell_back = requested in (None, "auto") and not has_cuda
    assert cuda.questions == (1 if requested in (None, "auto") else 0)
    assert len(caught) == (1 if fell_back else 0)
    for warning in caught:
        assert isinstance(warning.message, PolicyWarning)
        assert warning.message.finding == "POLICY-001"
        assert "POLICY-001" in str(warning.message)
        assert "No CUDA device detected" in str(warning.message)
    assert config.resolution is not None
    assert config.resolution.requested == (requested or "auto")
    assert config.resolution.resolved == config.accelerator


@POLICY
@pytest.mark.parametrize("has_cuda", [True, False])
@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        lambda config: config.model_copy(),
        lambda config: config.model_copy(update={"accum_steps": 1}),
        lambda config: PyTorchExecutionConfig.model_validate(config),
        lambda config: PyTorchExecutionConfig.model_validate(config.model_dump()),
        lambda config: PyTorchExecutionConfig(**config.model_dump(exclude_unset=True)),
        lambda config: PyTorchExecutionConfig(**config.model_dump(exclude_defaults=True)),
        lambda config: PyTorchExecutionConfig.model_validate_json(config.model_dump_json()),
        lambda config: PyTorchExecutionConfig.model_validate_json(config.model_dump_json(exclude_unset=True)),
        lambda config: pickle.loads(pickle.dumps(config)),  # noqa: S301 - our own bytes
    ],
)
def test_a_resolved_config_neither_asks_nor_warns_again(cuda, has_cuda, again) -> None:
    cuda.has_cuda = has_cuda
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PolicyWarning)
        config = PyTorchExecutionConfig()
    cuda.has_cuda, cuda.questions = not has_cuda, 0
    copied = again(config)
    assert copied == config
    assert copied.resolution == config.resolution
    assert cuda.questions == 0


@POLICY
def test_assigning_another_field_keeps_the_resolution(cuda) -> None:
    cuda.has_cuda = True
    config = PyTorchExecutionConfig()
    cuda.questions = 0
    config.accum_steps = 4
    assert (config.accelerator, cuda.questions) == ("cuda", 0)
    assert config.model_fields_set == {"accum_steps"}


@POLICY
def test_assigning_the_accelerator_resolves_anew(cuda) -> None:
    with pytest.warns(PolicyWarning, match="POLICY-001"):
        config = PyTorchExecutionConfig()
    config.accelerator = "cpu"
    assert config.resolution == ("cpu", "cpu", "chosen explicitly")
    cuda.has_cuda = True
    config.accelerator = "auto"
    assert config.resolution == ("auto", "cuda", "CUDA is available")


@POLICY
@pytest.mark.parametrize("has_cuda", [True, False])
def test_an_unresolved_execution_asks_for_no_gpu_and_resolves_to_what_construction_gives(
    cuda, has_cuda: bool
) -> None:
    cuda.has_cuda = has_cuda
    asked = UnresolvedPyTorchExecution(num_workers=2, recon_log_fixed_indices="0,5")
    assert (asked.accelerator, cuda.questions) == ("auto", 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = PyTorchExecutionConfig.of(asked)
    assert cuda.questions == 1
    assert len(caught) == (0 if has_cuda else 1)
    assert config.model_fields_set == {"num_workers", "recon_log_fixed_indices"}
    assert config.resolution is not None
    assert config.resolution.requested == "auto"
    assert config.accelerator == ("cuda" if has_cuda else "cpu")
    assert (config.num_workers, config.recon_log_fixed_indices) == (2, (0, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PolicyWarning)
        assert config == PyTorchExecutionConfig(num_workers=2, recon_log_fixed_indices="0,5")


@POLICY
@pytest.mark.parametrize("accelerator", EXPLICIT)
def test_resolving_leaves_an_explicit_accelerator(cuda, accelerator: str) -> None:
    config = PyTorchExecutionConfig.of(UnresolvedPyTorchExecution(accelerator=accelerator))
    assert (config.accelerator, cuda.questions) == (accelerator, 0)
    assert config.model_fields_set == {"accelerator"}


@POLICY
@pytest.mark.parametrize("answer", [True, False])
def test_another_question_gives_the_answer_until_its_block_ends(monkeypatch, answer: bool) -> None:
    monkeypatch.setattr(hardware, "torch_installed", lambda: False)
    asked: list[bool] = []

    def counted() -> bool:
        asked.append(before())
        return not asked[-1]

    with hardware.asking(lambda: answer):
        assert hardware.cuda_available() is answer
        with pytest.raises(KeyError), hardware.asking(counted) as before:
            assert hardware.cuda_available() is not answer
            raise KeyError
        assert hardware.cuda_available() is answer
    assert asked == [answer]
    assert hardware.cuda_available() is False


@POLICY
def test_replacing_the_question_to_torch_changes_the_answer(monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert PyTorchExecutionConfig().accelerator == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(PolicyWarning, match="No CUDA device detected"):
        assert PyTorchExecutionConfig().accelerator == "cpu"


@POLICY
def test_without_torch_the_answer_is_no_and_the_reason_says_so(monkeypatch) -> None:
    monkeypatch.setattr(hardware, "torch_installed", lambda: False)
    assert hardware.cuda_available() is False
    with pytest.warns(PolicyWarning, match="No CUDA device detected.*torch is not installed"):
        config = PyTorchExecutionConfig()
    assert config.resolution is not None
    assert "torch is not installed" in config.resolution.reason


@POLICY
@pytest.mark.parametrize("accelerator", ["cuda", "gpu"])
def test_an_explicit_gpu_that_is_absent_is_refused(accelerator: str) -> None:
    with pytest.raises(PolicyError) as caught:
        hardware.require_accelerator(accelerator, cuda_available=False)
    assert caught.value.finding == "POLICY-001"
    assert str(caught.value) == (
        f"POLICY-001: accelerator '{accelerator}' was asked for, but no CUDA device detected. "
        "Use `--torch-accelerator auto` to take what the host has, or `cpu`."
    )
    hardware.require_accelerator(accelerator, cuda_available=True)


@POLICY
@pytest.mark.parametrize("accelerator", ["cuda", "gpu"])
def test_the_hardware_is_asked_before_an_explicit_gpu_is_refused(cuda, accelerator: str) -> None:
    with pytest.raises(PolicyError, match=f"POLICY-001: accelerator '{accelerator}' was asked for"):
        hardware.refuse_absent_gpu(accelerator)
    cuda.has_cuda = True
    hardware.refuse_absent_gpu(accelerator)
    assert cuda.questions == 2


@POLICY
@pytest.mark.parametrize("available", [True, False])
def test_an_explicit_mps_is_refused_where_torch_sees_none(monkeypatch, available: bool) -> None:
    torch = SimpleNamespace(backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: available)))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(hardware, "torch_installed", lambda: True)
    if available:
        hardware.refuse_absent_gpu("mps")
    else:
        with pytest.raises(PolicyError, match=r"^POLICY-001: accelerator 'mps' was asked for"):
            hardware.refuse_absent_gpu("mps")


@POLICY
@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_the_hardware_is_not_asked_where_no_gpu_was_asked_for(cuda, accelerator: str) -> None:
    hardware.refuse_absent_gpu(accelerator)
    assert cuda.questions == 0


@POLICY
@pytest.mark.parametrize(("installed", "why"), [(True, ""), (False, " (torch is not installed)")])
def test_the_warning_says_what_runs_and_how_to_silence_it(
    cuda, monkeypatch, installed: bool, why: str
) -> None:
    monkeypatch.setattr(hardware, "torch_installed", lambda: installed)
    with pytest.warns(PolicyWarning) as caught:
        PyTorchExecutionConfig()
    assert str(caught[0].message) == (
        f"POLICY-001: No CUDA device detected{why}; running on the CPU. "
        "Ask for it with `--torch-accelerator cpu` to silence this."
    )


@POLICY
@pytest.mark.parametrize("answer", [True, False])
def test_the_question_goes_to_torch_where_it_is_installed(monkeypatch, answer: bool) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: answer))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(hardware, "torch_installed", lambda: True)
    assert hardware.cuda_available() is answer


def test_torch_is_found_without_being_imported(monkeypatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: asked.append(name) or "a spec")
    assert hardware.torch_installed() is True
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert hardware.torch_installed() is False
    assert asked == ["torch"]


@pytest.mark.parametrize("accelerator", ["cpu", "mps"])
def test_other_accelerators_are_not_judged_by_cuda(accelerator: str) -> None:
    hardware.require_accelerator(accelerator, cuda_available=False)


@POLICY
@pytest.mark.parametrize("model_class", [SolverExecutionConfig, TensorFlowExecutionConfig])
def test_the_other_execution_configs_keep_auto_and_ask_no_hardware(cuda, model_class) -> None:
    assert model_class().accelerator == "auto"
    assert cuda.questions == 0


@pytest.mark.parametrize(
    "model_class", [PyTorchExecutionConfig, SolverExecutionConfig, TensorFlowExecutionConfig]
)
@pytest.mark.parametrize("accelerator", ["tpu", "CUDA", "", "ipu", None])
def test_an_accelerator_out_of_the_list_is_refused(model_class, accelerator) -> None:
    with pytest.raises(ValidationError, match="'auto', 'cpu', 'gpu', 'cuda' or 'mps'"):
        model_class(accelerator=accelerator)


@pytest.mark.finding("CONFIG-LOGGER-001")
def test_metrics_go_to_csv_where_no_logger_is_chosen() -> None:
    assert PyTorchExecutionConfig(accelerator="cpu").logger_backend == "csv"
    assert TensorFlowExecutionConfig().logger_backend == "csv"
    assert PyTorchExecutionConfig(accelerator="cpu", logger_backend="none").logger_backend is None  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accum_steps", 0),
        ("num_workers", -1),
        ("learning_rate", 0),
        ("checkpoint_save_top_k", -2),
        ("early_stop_patience", 0),
        ("inference_batch_size", 0),
        ("precision", "64"),
        ("deterministic", "maybe"),
        ("logger_backend", "wandb"),
        ("devices", 0),
        ("checkpoint_mode", "mid"),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        PyTorchExecutionConfig(accelerator="cpu", **{field: value})


def test_kept_workers_need_workers_and_a_refused_assignment_changes_nothing() -> None:
    with pytest.raises(ValidationError, match="`persistent_workers` needs `num_workers` > 0"):
        PyTorchExecutionConfig(accelerator="cpu", persistent_workers=True)
    config = PyTorchExecutionConfig(accelerator="cpu", num_workers=2, persistent_workers=True)
    before = config.model_copy()
    with pytest.raises(ValidationError, match="persistent_workers"):
        config.num_workers = 0
    assert config == before
    assert config.model_fields_set == before.model_fields_set


@pytest.mark.parametrize(
    ("visible", "present"),
    [(None, True), ("0", True), ("0,1", True), ("1", True), ("", False), (" ", False), ("-1", False)],
)
def test_a_driver_counts_unless_its_devices_are_hidden(
    monkeypatch, tmp_path: Path, visible: str | None, present: bool
) -> None:
    trace, absent = tmp_path / "nvidiactl", tmp_path / "absent"
    monkeypatch.setattr(hardware, "_DRIVER_TRACES", (absent, trace))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.nvidia_driver_present() is False
    trace.touch()
    assert hardware.nvidia_driver_present() is present


def test_a_fallback_names_the_flag_of_the_core_that_fell_back() -> None:
    fallen = hardware.resolve_accelerator("auto", cuda_available=False)
    with pytest.warns(PolicyWarning, match="Ask for it with `--tensorflow-accelerator cpu` to silence this"):
        hardware.announce(fallen, flag="--tensorflow-accelerator")
    with pytest.warns(PolicyWarning, match="Ask for it with `--torch-accelerator cpu` to silence this"):
        hardware.announce(fallen)
