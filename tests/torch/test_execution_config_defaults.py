"""GPU first by default, through the real dispatcher: only the answer of the hardware is replaced.

What runs a backend is a parameter of the dispatcher; these tests pass one that writes down what it is given,
and so end where a device would be touched. The last ones let the real runner begin.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptycho_config import hardware
from ptycho_config.errors import PolicyError, PolicyWarning
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.legacy import params
from ptycho_config.models import TrainingConfig
from ptycho_dispatch.dispatcher import run_cdi_example_with_backend, train_cdi_model_with_backend

CORE = all(importlib.util.find_spec(name) for name in ("ptycho_core_torch", "torch", "lightning"))
NEEDS_CORE = pytest.mark.skipif(not CORE, reason="the PyTorch core is not installed")
FALLBACK = r"^POLICY-001: No CUDA device detected"
#: Either name may be replaced; the second only where it exists.
QUESTIONS = ["ptycho_config.hardware.cuda_available"] + (["torch.cuda.is_available"] if CORE else [])

Answer = Callable[[bool], None]


@pytest.fixture(params=QUESTIONS)
def answer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Let the hardware answer, by each of the names that a question to it has."""
    return lambda there_is_a_gpu: monkeypatch.setattr(request.param, lambda: there_is_a_gpu)


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Any:
    """The dispatcher updates the legacy registry; leave it to the next test as it was."""
    before = params.params()
    yield
    params.cfg.clear()
    params.cfg.update(before)


class Runner:
    """Stands where training would begin, and keeps the execution that arrives there."""

    def __init__(self) -> None:
        self.executions: list[PyTorchExecutionConfig] = []

    def __call__(self, *_: object, execution_config: PyTorchExecutionConfig, **__: object) -> tuple:
        self.executions.append(execution_config)
        return None, None, {}

    def dispatch(self, execution: PyTorchExecutionConfig | None = None) -> PyTorchExecutionConfig:
        """Send one training through the dispatcher and return the execution that it runs with."""
        *_, results = run_cdi_example_with_backend(
            "scan", None, TrainingConfig(), torch_execution_config=execution, runners={"pytorch": self}
        )
        assert results == {"backend": "pytorch"}
        return self.executions[-1]


@pytest.fixture
def runner() -> Runner:
    return Runner()


@pytest.mark.finding("POLICY-001")
def test_auto_prefers_cuda(answer: Answer, runner: Runner) -> None:
    answer(True)
    execution = runner.dispatch(PyTorchExecutionConfig(accelerator="auto"))
    assert execution.accelerator == "cuda"
    assert execution.resolution == ("auto", "cuda", "CUDA is available")


@pytest.mark.finding("POLICY-001")
def test_auto_warns_and_falls_back_to_cpu(answer: Answer, runner: Runner) -> None:
    answer(False)
    with pytest.warns(PolicyWarning, match=FALLBACK) as warned:
        execution = runner.dispatch(PyTorchExecutionConfig(accelerator="auto"))
    assert [warning.message.finding for warning in warned] == ["POLICY-001"]
    assert execution.accelerator == "cpu"


@pytest.mark.finding("POLICY-001")
@pytest.mark.parametrize("there_is_a_gpu", [True, False])
def test_explicit_cpu_bypasses_auto_resolution(answer: Answer, runner: Runner, there_is_a_gpu: bool) -> None:
    # Any warning would fail this test: the suite turns them into errors.
    answer(there_is_a_gpu)
    execution = runner.dispatch(PyTorchExecutionConfig(accelerator="cpu"))
    assert execution.accelerator == "cpu"
    assert execution.resolution == ("cpu", "cpu", "chosen explicitly")


@pytest.mark.finding("POLICY-001")
@pytest.mark.parametrize("there_is_a_gpu", [True, False])
@pytest.mark.parametrize("accelerator", ["cuda", "gpu"])
def test_explicit_cuda_bypasses_auto_resolution(
    answer: Answer, runner: Runner, accelerator: Any, there_is_a_gpu: bool
) -> None:
    answer(there_is_a_gpu)
    chosen = PyTorchExecutionConfig(accelerator=accelerator)
    assert runner.dispatch(chosen) is chosen
    assert chosen.resolution == (accelerator, accelerator, "chosen explicitly")


@pytest.mark.finding("POLICY-001")
@NEEDS_CORE
@pytest.mark.parametrize("accelerator", ["cuda", "gpu"])
def test_explicit_cuda_fails_at_run_time_before_the_scan_is_opened(
    answer: Answer, accelerator: Any, tmp_path: Path
) -> None:
    answer(False)
    chosen = PyTorchExecutionConfig(accelerator=accelerator)
    absent = tmp_path / "absent.npz"  # opening it would be a DataError
    config = TrainingConfig(output_dir=tmp_path / "out")
    with pytest.raises(PolicyError, match=rf"POLICY-001: accelerator '{accelerator}'.*--torch-accelerator"):
        train_cdi_model_with_backend(absent, None, config, chosen)
    assert not (tmp_path / "out").exists()


@pytest.mark.finding("POLICY-001")
@NEEDS_CORE
def test_the_core_itself_refuses_an_absent_gpu_before_it_looks_at_scan_or_bundle(
    answer: Answer, tmp_path: Path
) -> None:
    from ptycho_core.backend import get_backend
    from ptycho_core.simulate import simulate_scan

    answer(False)
    chosen = PyTorchExecutionConfig(accelerator="cuda")
    scan = simulate_scan(frames=12, frame_px=32, seed=1).scan
    with pytest.raises(PolicyError, match="POLICY-001"):
        get_backend("pytorch").train(scan, TrainingConfig(nepochs=1), chosen)
    with pytest.raises(PolicyError, match="POLICY-001"):
        get_backend("pytorch").load(tmp_path / "absent.zip", chosen)


@pytest.mark.finding("POLICY-001")
@pytest.mark.parametrize("there_is_a_gpu", [True, False])
def test_workflow_auto_instantiates_with_hardware_detection(
    monkeypatch: pytest.MonkeyPatch, runner: Runner, there_is_a_gpu: bool
) -> None:
    questions: list[bool] = []

    def cuda_available() -> bool:
        questions.append(there_is_a_gpu)
        return there_is_a_gpu

    monkeypatch.setattr(hardware, "cuda_available", cuda_available)
    if there_is_a_gpu:
        train_cdi_model_with_backend("scan", None, TrainingConfig(), runners={"pytorch": runner})
    else:
        with pytest.warns(PolicyWarning, match=FALLBACK):
            train_cdi_model_with_backend("scan", None, TrainingConfig(), runners={"pytorch": runner})
    assert len(questions) == 1
    [execution] = runner.executions
    assert execution.resolution is not None
    assert execution.resolution[:2] == ("auto", "cuda" if there_is_a_gpu else "cpu")


@pytest.mark.finding("POLICY-001")
@NEEDS_CORE
def test_the_workflow_trains_on_what_was_detected(answer: Answer, tmp_path: Path) -> None:
    from ptycho_core.simulate import simulate_scan

    answer(False)
    scan = simulate_scan(frames=12, frame_px=32, seed=1).scan
    config = TrainingConfig(nepochs=1, output_dir=tmp_path)
    with pytest.warns(PolicyWarning, match=FALLBACK) as warned:
        results = train_cdi_model_with_backend(scan, None, config)
    assert len(warned) == 1
    assert results["execution_config"].accelerator == "cpu"
    assert results["bundle"].exists()


@pytest.mark.finding("POLICY-001")
def test_backend_selector_warns_on_cpu_only_hosts(answer: Answer, runner: Runner) -> None:
    # A host with a GPU answers as one without here, so that there is no host on which this is left out.
    answer(False)
    with pytest.warns(PolicyWarning, match=FALLBACK) as warned:
        runner.dispatch()
    assert len(warned) == 1
    assert "--torch-accelerator cpu" in str(warned[0].message)


@pytest.mark.finding("POLICY-001")
@pytest.mark.finding("CONFIG-LOGGER-001")
def test_backend_selector_inherits_gpu_first_defaults(
    answer: Answer, runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    answer(True)
    with caplog.at_level(logging.INFO, logger="ptycho"):
        execution = runner.dispatch()
    assert execution.accelerator == "cuda"
    assert execution == PyTorchExecutionConfig()
    assert execution.logger_backend == "csv"
    assert caplog.messages == [
        "Backend dispatcher: auto-instantiated PyTorchExecutionConfig with accelerator='cuda' "
        "(POLICY-001 GPU-first defaults)"
    ]


@pytest.mark.finding("POLICY-001")
@pytest.mark.finding("CONFIG-001")
@pytest.mark.finding("CONFIG-002")
def test_backend_selector_cpu_fallback_with_warning(
    answer: Answer, runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    answer(False)
    params.cfg["nepochs"] = -1
    with (
        caplog.at_level(logging.INFO, logger="ptycho"),
        pytest.warns(PolicyWarning, match=FALLBACK) as warned,
    ):
        execution = runner.dispatch()
    assert len(warned) == 1
    assert execution.accelerator == "cpu"
    assert caplog.messages == [
        "Backend dispatcher: auto-instantiated PyTorchExecutionConfig with accelerator='cpu' "
        "(POLICY-001 GPU-first defaults)"
    ]
    assert params.cfg["nepochs"] == TrainingConfig().nepochs
    assert params.cfg.keys().isdisjoint({"accelerator", "accum_steps", "logger_backend", "resolution"})


@pytest.mark.finding("POLICY-001")
@pytest.mark.parametrize("there_is_a_gpu", [True, False])
def test_an_explicit_execution_is_neither_announced_nor_changed(
    answer: Answer, runner: Runner, caplog: pytest.LogCaptureFixture, there_is_a_gpu: bool
) -> None:
    answer(there_is_a_gpu)
    chosen = PyTorchExecutionConfig(accelerator="cpu", accum_steps=2)
    with caplog.at_level(logging.INFO, logger="ptycho"):
        assert runner.dispatch(chosen) is chosen
    assert caplog.messages == []


@pytest.mark.gpu
@pytest.mark.finding("POLICY-001")
def test_on_a_real_gpu_the_workflow_trains_there(tmp_path: Path) -> None:
    import torch
    from ptycho_core.simulate import simulate_scan

    torch.cuda.reset_peak_memory_stats()
    scan = simulate_scan(frames=12, frame_px=32, seed=1).scan
    results = train_cdi_model_with_backend(scan, None, TrainingConfig(nepochs=1, output_dir=tmp_path))
    assert results["execution_config"].accelerator == "cuda"
    assert torch.cuda.max_memory_allocated() > 0
