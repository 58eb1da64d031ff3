"""The legacy import paths of this version, and that they load no framework."""

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


def test_importing_the_facade_loads_no_framework() -> None:
    code = (
        "import sys, ptycho, ptycho.params, ptycho.config.config, ptycho_torch; "
        "print(sorted({'torch', 'lightning', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_legacy_classes_are_those_of_ptycho_config() -> None:
    for name in ("ModelConfig", "TrainingConfig", "InferenceConfig"):
        assert getattr(ptycho.config.config, name) is getattr(ptycho_config.models, name)
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


def test_what_is_not_part_of_this_version_fails_at_its_import() -> None:
    with pytest.raises(ModuleNotFoundError):
        __import__("ptycho.workflows.components")
    assert not [name for name in vars(__import__("ptycho_torch")) if not name.startswith("_")]
