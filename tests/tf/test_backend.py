"""The TensorFlow core: registered, honest about what is installed, light until its framework is needed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

from ptycho_config.errors import BackendUnavailableError, PolicyError, PolicyWarning, exit_code
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.backend import Backend, get_backend
from ptycho_core.simulate import simulate_scan

pytest.importorskip("ptycho_core_tf", reason="the distribution ptycho-core-tf is not installed")

NETWORKS_WORK = all(importlib.util.find_spec(name) for name in ("tensorflow", "keras"))
needs_tensorflow = pytest.mark.skipif(not NETWORKS_WORK, reason="TensorFlow is not installed")


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let TensorFlow see no GPU, whatever the host has."""
    monkeypatch.setattr("ptycho_core_tf.devices.gpu_available", lambda: False)


def test_the_backend_is_found_by_its_name_and_keeps_the_protocol() -> None:
    backend = get_backend("tensorflow")
    assert isinstance(backend, Backend)
    assert backend.name == "tensorflow"


def test_it_says_what_is_installed_and_what_is_not() -> None:
    found = get_backend("tensorflow").availability()
    assert found.installed == NETWORKS_WORK
    assert ("not installed" in found.reason) != NETWORKS_WORK
    assert found.version == (version("tensorflow") if NETWORKS_WORK else None)
    assert (found.devices[:1] == ("cpu",)) == NETWORKS_WORK


def test_without_its_framework_it_refuses_with_exit_4_and_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec
    absent = "tensorflow"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == absent else real(name))
    backend, execution = get_backend("tensorflow"), TensorFlowExecutionConfig(accelerator="cpu")
    scan = simulate_scan(frames=4, frame_px=32, start_kind="true").scan
    for work in (
        lambda: backend.load(Path("wts.h5.zip"), execution),
        lambda: backend.train(scan, TrainingConfig(nepochs=1), execution),
    ):
        with pytest.raises(
            BackendUnavailableError, match=r"tensorflow not.*ptycho-dispatch\[tf\]"
        ) as refused:
            work()
        assert exit_code(refused.value) == 4


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import ptycho_core_tf.backend", set()),
        pytest.param(
            "from ptycho_core.backend import get_backend; get_backend('tensorflow').availability()",
            {"tensorflow", "keras"},
            marks=needs_tensorflow,
        ),
    ],
    ids=["imported", "asked"],
)
def test_no_framework_is_loaded_before_it_is_asked_for_and_never_another(code: str, loaded: set[str]) -> None:
    seen = "sorted({'torch', 'lightning', 'tensorflow', 'keras'} & set(sys.modules))"
    words = [sys.executable, "-c", f"import sys; {code}; print({seen})"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(sorted(loaded))
    assert done.stderr == ""


@needs_tensorflow
@pytest.mark.finding("POLICY-001")
@pytest.mark.parametrize("asked", ["cuda", "gpu"])
def test_a_gpu_that_was_asked_for_and_is_absent_is_refused_at_once(without_gpu: None, asked: str) -> None:
    execution = TensorFlowExecutionConfig(accelerator=asked)
    with pytest.raises(PolicyError, match=r"^POLICY-001: .*`--tensorflow-accelerator auto`") as refused:
        get_backend("tensorflow").load(Path("there-is-no-such-bundle"), execution)
    assert exit_code(refused.value) == 5


@needs_tensorflow
@pytest.mark.finding("POLICY-001")
def test_auto_without_a_gpu_is_the_cpu_with_one_warning_and_a_record(without_gpu: None) -> None:
    scan = simulate_scan(frames=8, frame_px=32, start_kind="true").scan
    model = ModelConfig(architecture="fno", fno_width=4, fno_blocks=1, fno_cnn_blocks=1, fno_modes=4)
    config, execution = TrainingConfig(nepochs=1, model=model), TensorFlowExecutionConfig(logger_backend=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained = get_backend("tensorflow").train(scan, config, execution)
    (warning,) = (str(one.message) for one in caught if isinstance(one.message, PolicyWarning))
    assert warning.startswith("POLICY-001: No CUDA device detected")
    assert "`--tensorflow-accelerator cpu`" in warning
    known = trained.reconstruct(scan).provenance
    assert (known["execution"]["requested"], known["execution"]["resolved"]) == ("auto", "cpu")
    assert known["policy_warnings"] == [warning]
