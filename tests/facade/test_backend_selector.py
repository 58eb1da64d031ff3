"""The dispatcher under its legacy path: what is replaced there takes effect, and nothing falls back."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ptycho", reason="the distribution ptychopinn is not installed")

import ptycho.params
import ptycho_torch.workflows.components
from ptycho import _work
from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.workflows import backend_selector, components
from ptycho_config.errors import BackendUnavailableError, ConfigError
from ptycho_core import scan_from_arrays
from ptycho_core.backend import Availability
from ptycho_dispatch.dispatcher import LegacyFlips

pytestmark = pytest.mark.filterwarnings("ignore:POLICY-001:UserWarning")


class Spy:
    """Notes how it was called."""

    def __init__(self, answer: Any = None) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._answer = answer

    def __call__(self, *positional: Any, **keywords: Any) -> Any:
        self.calls.append((positional, keywords))
        return self._answer


def test_replaced_steps_are_the_ones_called(monkeypatch: pytest.MonkeyPatch) -> None:
    update, run = Spy(), Spy((None, None, {}))
    monkeypatch.setattr("ptycho.workflows.backend_selector.update_legacy_dict", update)
    monkeypatch.setattr("ptycho_torch.workflows.components.run_cdi_example_torch", run)
    config = TrainingConfig(model=ModelConfig(N=64), backend="pytorch")
    execution = PyTorchExecutionConfig(accelerator="cpu")
    _, _, results = backend_selector.run_cdi_example_with_backend(
        "train", "test", config, True, False, True, 24, True, execution
    )
    assert update.calls == [((ptycho.params.cfg, config), {})]
    assert run.calls == [
        (("train", "test", config, True, False, True, 24, True), {"execution_config": execution})
    ]
    assert results == {"backend": "pytorch"}


def test_the_registry_is_up_to_date_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(*_: Any, **__: Any) -> Any:
        seen.append(ptycho.params.get("N"))
        return None, None, {}

    monkeypatch.setattr(ptycho_torch.workflows.components, "run_cdi_example_torch", run)
    config = TrainingConfig(model=ModelConfig(N=96), backend="pytorch")
    components.run_cdi_example(None, None, config)
    assert seen == [96]


class Torch(ModuleType):
    """A stand-in for torch on a host with, or without, a GPU."""

    def __init__(self, available: bool) -> None:
        super().__init__("torch")
        self.cuda = ModuleType("torch.cuda")
        self.cuda.is_available = lambda: available  # type: ignore[attr-defined]


@pytest.mark.parametrize(("available", "accelerator"), [(True, "cuda"), (False, "cpu")])
def test_a_stand_in_for_torch_decides_the_accelerator_and_nothing_else(
    available: bool, accelerator: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ptycho_config import hardware

    run = Spy((None, None, {}))
    monkeypatch.setitem(sys.modules, "torch", Torch(available))
    monkeypatch.setattr(hardware, "torch_installed", lambda: True)
    monkeypatch.setattr("ptycho_torch.workflows.components.run_cdi_example_torch", run)
    caplog.set_level(logging.INFO)
    config = TrainingConfig(model=ModelConfig(N=64), backend="pytorch")
    backend_selector.run_cdi_example_with_backend(None, None, config)
    assert run.calls[0][1]["execution_config"].accelerator == accelerator
    assert (
        f"auto-instantiated PyTorchExecutionConfig with accelerator='{accelerator}' (POLICY-001"
        in caplog.text
    )


def test_training_alone_and_opening_go_through_their_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    train, load = Spy({"history": {}}), Spy(("network", {}))
    monkeypatch.setattr("ptycho_torch.workflows.components.train_cdi_model_torch", train)
    monkeypatch.setattr("ptycho_torch.workflows.components.load_inference_bundle_torch", load)
    config = TrainingConfig(model=ModelConfig(N=64), backend="pytorch")
    results = backend_selector.train_cdi_model_with_backend("train", None, config)
    assert results == {"history": {}, "backend": "pytorch"}
    inference = InferenceConfig(model=ModelConfig(N=64), backend="pytorch")
    found = backend_selector.load_inference_bundle_with_backend("directory", inference, "autoencoder")
    assert found == ("network", {})
    assert load.calls[0][0] == ("directory", inference.model_copy(), "autoencoder")
    with pytest.raises(ConfigError, match="`model_name` is 'other'"):
        backend_selector.load_inference_bundle_with_backend("directory", inference, "other")


def test_the_environment_stands_in_for_a_choice_and_a_choice_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, tensorflow = Spy((None, None, {})), Spy((None, None, {}))
    monkeypatch.setattr("ptycho_torch.workflows.components.run_cdi_example_torch", torch)
    monkeypatch.setattr("ptycho.workflows.components.run_cdi_example_tensorflow", tensorflow)
    monkeypatch.setenv("PTYCHO_BACKEND", "pytorch")
    model = ModelConfig(N=64)
    components.run_cdi_example(None, None, TrainingConfig(model=model))
    components.run_cdi_example(None, None, TrainingConfig(model=model, backend="tensorflow"))
    assert (len(torch.calls), len(tensorflow.calls)) == (1, 1)
    assert torch.calls[0][0][2].backend == "pytorch"


class Absent:
    """A backend that cannot work."""

    def availability(self) -> Availability:
        return Availability(installed=False, reason="tensorflow not installed")


class Present:
    """A backend that can."""

    def availability(self) -> Availability:
        return Availability(installed=True, devices=("cpu",))


@pytest.mark.parametrize("registered", [{}, {"tensorflow": Absent()}])
def test_without_tensorflow_the_two_ways_out_are_named(
    registered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_work, "discover_backends", lambda: {**registered, "pytorch": Present()})
    with pytest.raises(BackendUnavailableError) as refused:
        components.run_cdi_example(None, None, TrainingConfig(model=ModelConfig(N=64)))
    text = str(refused.value)
    assert text.startswith("TensorFlow backend selected")
    assert "pip install 'ptychopinn[tf]'" in text
    assert "PTYCHO_BACKEND=pytorch" in text


def test_without_pytorch_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_work, "discover_backends", dict)
    config = TrainingConfig(model=ModelConfig(N=64), backend="pytorch")
    with pytest.raises(RuntimeError, match=r"^PyTorch backend selected.*ptychopinn\[torch\].*torch >= 2.6"):
        components.run_cdi_example(None, None, config)
    from ptycho_torch.api.base_api import ConfigManager, PtychoModel, Trainer
    from ptycho_torch.model import PtychoPINN_Lightning

    manager = ConfigManager()
    model = PtychoModel._new_model(model=PtychoPINN_Lightning, config_manager=manager)
    with pytest.raises(BackendUnavailableError, match="PyTorch backend selected"):
        Trainer._from_lightning(model=model, dataloader=None, config_manager=manager).train()


def test_an_unknown_backend_names_the_choices() -> None:
    config = TrainingConfig(model=ModelConfig(N=64), backend="pytorch")
    config._set_unchecked("backend", "jax")
    with pytest.raises(ValueError, match="Unknown backend `jax`; choose one of pytorch, tensorflow"):
        backend_selector.run_cdi_example_with_backend(None, None, config)


@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
def test_a_script_trains_reconstructs_and_opens_again(backend: str, client_scan, tmp_path) -> None:
    from ptycho_core.backend import discover_backends

    core = discover_backends().get(backend)
    if core is None or not core.availability().installed:
        pytest.skip(f"{backend}: {core.availability().reason if core else 'not installed'}")
    path = client_scan.export(tmp_path / "scan.npz")
    output = tmp_path / "run"
    config = TrainingConfig(
        model=ModelConfig(N=32), nepochs=1, n_groups=8, output_dir=output, backend=backend, batch_size=4
    )
    raw = components.load_data(path)
    amplitude, phase, results = components.run_cdi_example(raw, None, config, do_stitching=True)
    assert amplitude.shape == phase.shape == results["reconstruction"].object.shape
    assert results["bundle_path"] == output / "wts.h5.zip"
    assert results["obj_tensor_full"].shape == (len(client_scan.x), 32, 32, 1)
    inference = InferenceConfig(model=ModelConfig(N=32))
    network, parameters = backend_selector.load_inference_bundle_with_backend(output, inference)
    assert parameters["intensity_scale"] == pytest.approx(results["intensity_scale"])
    again, _, _ = components.reassemble_cdi_image(raw, config, model=network)
    assert np.abs(again - amplitude).max() < 1e-4


def test_importing_every_legacy_path_loads_no_framework() -> None:
    code = """
import importlib, pkgutil, sys
import ptycho, ptycho_torch
for package in (ptycho, ptycho_torch):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
print(sorted({"torch", "lightning", "tensorflow", "keras"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("output_dir", "groups"), [("run", 512), (None, 512), (".", None)])
def test_scripts_mean_512_groups_and_the_client_all_frames(
    output_dir: str | None, groups: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ptycho import _example

    class Enough(Exception):
        """What is looked at has been seen."""

    def train(given: Any, test: Any, config: Any, **_: Any) -> Any:
        assert config.n_groups == groups
        raise Enough

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_work, "available", lambda _: Present())
    monkeypatch.setattr(_work, "train", train)
    rng = np.random.default_rng(0)
    scan = scan_from_arrays(
        rng.poisson(3.0, (600, 32, 32)), rng.random((600, 2)) * 40, np.ones((32, 32), complex)
    )
    chosen = {} if output_dir is None else {"output_dir": Path(output_dir)}
    config = TrainingConfig(model=ModelConfig(N=32), nepochs=1, **chosen)
    with pytest.raises(Enough):
        _example.run_example(
            scan,
            None,
            config,
            backend="pytorch",
            orientation=LegacyFlips(),
            do_stitching=False,
            execution=PyTorchExecutionConfig(accelerator="cpu"),
            log=logging.getLogger("ptychopinn"),
        )
