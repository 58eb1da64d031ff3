"""The registry, the classes and the commands under their legacy names."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("ptycho", reason="the distribution ptychopinn is not installed")

import ptycho.config.config
import ptycho.params
import ptycho_config.execution
import ptycho_config.models
from ptycho_config.legacy import legacy_params
from ptycho_config.legacy import params as registry


@pytest.mark.parametrize("command", ["ptycho_train", "ptycho_inference"])
def test_the_older_commands_are_those_of_ptycho(command: str) -> None:
    from importlib.metadata import entry_points

    (point,) = entry_points(group="console_scripts", name=command)
    name = {"ptycho_train": "train", "ptycho_inference": "infer"}[command]
    call = f"import sys; sys.argv = ['{command}', '--help']; from {point.module} import {point.attr}; "
    code = f"{call}sys.exit({point.attr}())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"usage: ptycho {name}" in done.stdout


@pytest.mark.parametrize(("module", "name"), [("train", "train"), ("inference", "infer")])
def test_the_older_module_commands_run_on_pytorch(module: str, name: str) -> None:
    command = [sys.executable, "-m", f"ptycho_torch.{module}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"usage: ptycho {name}" in done.stdout


def test_the_legacy_classes_are_kinds_of_those_of_ptycho_config() -> None:
    for name in ("ModelConfig", "TrainingConfig", "InferenceConfig"):
        assert issubclass(getattr(ptycho.config.config, name), getattr(ptycho_config.models, name))
    legacy = ptycho.config.config.PyTorchExecutionConfig
    assert legacy is ptycho_config.execution.PyTorchExecutionConfig


def test_there_is_one_registry() -> None:
    assert ptycho.params.cfg is registry.cfg
    assert ptycho.params.params() == registry.params()
    assert ptycho.params.get_bigN() == ptycho.params.get("bigN") == registry.params()["bigN"]


def test_a_typed_config_reaches_the_legacy_registry() -> None:
    config = ptycho_config.models.TrainingConfig(model=ptycho_config.models.ModelConfig(N=128, gridsize=2))
    before = dict(ptycho.params.cfg)
    with legacy_params(config):
        assert ptycho.params.get("N") == 128
        assert ptycho.params.get("gridsize") == 2
    assert ptycho.params.cfg == before


def test_the_very_dict_given_is_updated() -> None:
    old = dict(ptycho.params.cfg)
    config = ptycho_config.models.InferenceConfig(
        model=ptycho_config.models.ModelConfig(N=64), model_path="m", test_data_file="scan.npz"
    )
    ptycho.config.config.update_legacy_dict(old, config)
    assert old["N"] == 64


def test_an_unknown_parameter_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        ptycho.params.get("no_such_key")
    assert ptycho.params.get("no_such_key", None) is None
