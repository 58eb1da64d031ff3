"""The dispatcher's functions: their order, what they log, and a real run through the PyTorch core."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from ptycho_config import hardware
from ptycho_config.errors import PolicyWarning
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.legacy import params
from ptycho_config.models import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_dispatch.dispatcher import (
    LegacyFlips,
    load_inference_bundle_with_backend,
    run_cdi_example_with_backend,
    train_cdi_model_with_backend,
)


class Recorder:
    """Stands in for the two steps and writes down what they were given, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def update(self, registry: object, config: object) -> None:
        self.calls.append(("registry", config))

    def run(self, train: object, test: object, config: object, **options: object) -> tuple:
        self.calls.append(("run", options["execution_config"]))
        return None, None, {"own": True}

    def dispatch(self, config: TrainingConfig, **more: object) -> tuple:
        return run_cdi_example_with_backend(
            "scan",
            None,
            config,
            update_registry=self.update,
            runners={"pytorch": self.run, "tensorflow": self.run},
            **more,
        )


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.mark.finding("CONFIG-001")
def test_the_registry_is_updated_before_anything_runs(recorder: Recorder) -> None:
    config = TrainingConfig()
    _, _, results = recorder.dispatch(
        config, torch_execution_config=PyTorchExecutionConfig(accelerator="cpu")
    )
    assert [name for name, _ in recorder.calls] == ["registry", "run"]
    assert recorder.calls[0][1] is config
    assert results == {"own": True, "backend": "pytorch"}


@pytest.mark.finding("POLICY-001")
def test_an_execution_is_made_gpu_first_where_none_is_given(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware, "cuda_available", lambda: True)
    with caplog.at_level(logging.INFO, logger="ptycho"):
        recorder.dispatch(TrainingConfig())
    assert recorder.calls[-1][1].accelerator == "cuda"
    assert (
        "Backend dispatcher: auto-instantiated PyTorchExecutionConfig with accelerator='cuda' "
        "(POLICY-001 GPU-first defaults)" in caplog.text
    )


@pytest.mark.finding("POLICY-001")
def test_without_a_gpu_it_falls_back_to_the_cpu_and_warns_once(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cuda_available", lambda: False)
    with pytest.warns(PolicyWarning, match=r"POLICY-001.*No CUDA device detected") as warned:
        recorder.dispatch(TrainingConfig())
    assert len(warned) == 1
    assert recorder.calls[-1][1].accelerator == "cpu"


def test_tensorflow_gets_no_pytorch_execution(recorder: Recorder) -> None:
    _, _, results = recorder.dispatch(TrainingConfig(backend="tensorflow"))
    assert recorder.calls[-1] == ("run", None)
    assert results["backend"] == "tensorflow"


def test_an_unregistered_backend_is_a_value_error_with_the_choices(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="choose one of jax"):
        run_cdi_example_with_backend("scan", None, TrainingConfig(), runners={"jax": recorder.run})
    assert recorder.calls == []


def test_the_window_of_older_scripts_is_checked(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="`M` is 0"):
        recorder.dispatch(TrainingConfig(), M=0)


def test_turning_a_scan_moves_positions_and_frames(scan_file: Path) -> None:
    from ptycho_core import open_scan

    scan = open_scan(scan_file)
    turned = LegacyFlips(flip_x=True, transpose=True).applied_to(scan)
    assert np.array_equal(turned.positions_px, scan.positions_px * [1, -1])
    assert np.array_equal(turned.amplitude(), scan.amplitude().swapaxes(1, 2))
    assert np.array_equal(turned.probe, scan.probe.swapaxes(-1, -2))
    assert LegacyFlips().applied_to(scan) is scan


def test_a_scan_is_trained_stitched_stored_and_loaded_again(scan_file: Path, tmp_path: Path) -> None:
    for needed in ("ptycho_core_torch", "torch", "lightning"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    from ptycho_core import open_scan

    scan = open_scan(scan_file)
    size = scan.frame_px
    config = TrainingConfig(
        model=ModelConfig(N=size), nepochs=1, batch_size=8, output_dir=tmp_path / "out", seed=1
    )
    execution = PyTorchExecutionConfig(accelerator="cpu", logger_backend=None)
    before = params.params()
    try:
        amplitude, phase, results = run_cdi_example_with_backend(
            scan, None, config, do_stitching=True, torch_execution_config=execution
        )
        assert params.cfg["N"] == size
        assert amplitude.shape == phase.shape == results["reconstruction"].object.shape
        assert np.isfinite(amplitude).all()
        assert results["backend"] == "pytorch"
        assert results["bundle"].name == "wts.h5.zip"
        inference = InferenceConfig(
            model=ModelConfig(N=size), model_path=results["bundle"], test_data_file=scan_file
        )
        model, legacy = load_inference_bundle_with_backend(tmp_path / "out", inference, execution)
        again = model.reconstruct(scan)
        assert np.allclose(again.object, results["reconstruction"].object, atol=1e-5)
        assert legacy["N"] == size
        trained = train_cdi_model_with_backend(scan, scan, config, execution)
        assert trained["history"]
        assert "reconstruction" not in trained
    finally:
        params.cfg.update(before)
