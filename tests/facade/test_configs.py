"""The configuration classes as the client builds, pickles and changes them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

pytest.importorskip("ptycho", reason="the distribution ptychopinn is not installed")

import ptycho.config.config as legacy
import ptycho.params
import ptycho_torch.config_params as torch_side
from ptycho.config.config import update_legacy_dict
from ptycho_config.errors import ConfigError, PolicyError
from ptycho_config.execution import PyTorchExecutionConfig

MODEL = {
    "gridsize": 1,
    "n_filters_scale": 2,
    "model_type": "pinn",
    "amp_activation": "sigmoid",
    "object_big": True,
    "probe_big": True,
    "probe_mask": False,
    "pad_object": True,
    "probe_scale": 4.0,
    "gaussian_smoothing_sigma": 0.0,
}
TRAINING = {
    "train_data_file": Path(),
    "test_data_file": None,
    "batch_size": 16,
    "nepochs": 50,
    "mae_weight": 0.0,
    "nll_weight": 1.0,
    "realspace_mae_weight": 0.0,
    "realspace_weight": 0.0,
    "nphotons": 1e6,
    "positions_provided": True,
    "probe_trainable": False,
    "intensity_scale_trainable": True,
    "output_dir": Path(),
}
INFERENCE = {"model_path": Path(), "test_data_file": Path(), "debug": False, "output_dir": Path()}


def training_config(**more: Any) -> legacy.TrainingConfig:
    """What the client builds for a training, N being unknown."""
    return legacy.TrainingConfig(model=legacy.ModelConfig(N=0, **MODEL), **{**TRAINING, **more})


def all_configs() -> dict[str, Any]:
    """Every config of the client with its defaults, by a name."""
    return {
        "model": legacy.ModelConfig(N=0, **MODEL),
        "training": training_config(),
        "inference": legacy.InferenceConfig(model=legacy.ModelConfig(N=128, **MODEL), **INFERENCE),
        "torch data": torch_side.DataConfig(N=128, C=4, grid_size=(2, 2), x_bounds=(0.1, 0.9)),
        "torch model": torch_side.ModelConfig(
            mode="Unsupervised", amp_loss=None, phase_loss=None, probe_mask=None, decoder_last_amp_channels=4
        ),
        "torch training": torch_side.TrainingConfig(gradient_clip_val=None, device="cuda"),
        "torch inference": torch_side.InferenceConfig(),
        "torch datagen": torch_side.DatagenConfig(),
    }


NAMES = list(all_configs())


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_keyword_is_refused_by_its_name(name: str) -> None:
    kind = type(all_configs()[name])
    with pytest.raises(ValidationError, match="no_such_setting"):
        kind(no_such_setting=1)


UNPICKLE = """
import json, pickle, sys
sys.path[:0] = json.loads(sys.argv[2])
class Untouchable:
    def __getattr__(self, name):
        raise AssertionError(f"torch.cuda.{name} was asked for")
if sys.argv[1] == "guarded":
    import torch
    torch.cuda = Untouchable()
configs = pickle.loads(sys.stdin.buffer.read())
configs["training"].model.N = 64
configs["torch training"].n_devices = 1
sys.stdout.buffer.write(pickle.dumps(configs))
"""


@pytest.mark.parametrize("guard", ["guarded", "plain"])
def test_every_config_survives_a_fresh_process(guard: str) -> None:
    if guard == "guarded":
        pytest.importorskip("torch", reason="torch is not installed")
    sent = all_configs()
    command = [sys.executable, "-c", UNPICKLE, guard, json.dumps(sys.path)]
    done = subprocess.run(command, input=pickle.dumps(sent), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    back = pickle.loads(done.stdout)  # noqa: S301 - our own process wrote it
    assert back["training"].model.N == 64
    back["training"].model.N = 0
    for name, config in sent.items():
        assert back[name] == config
        assert back[name].model_fields_set >= config.model_fields_set


BUILD = """
import sys
import ptycho.config.config as c
import ptycho_torch.config_params as t
c.TrainingConfig(model=c.ModelConfig(N=0)); c.InferenceConfig(model=c.ModelConfig(N=64))
t.DataConfig(), t.ModelConfig(), t.TrainingConfig(), t.InferenceConfig(), t.DatagenConfig()
print(sorted({"torch", "tensorflow", "keras", "lightning", "numpy"} & set(sys.modules)))
"""


def test_building_them_loads_no_framework_and_not_even_numpy() -> None:
    done = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_size_may_come_later() -> None:
    config = training_config()
    config.model.N = 128
    assert config.model.N == 128
    for wrong in (-1, "x", 7):
        with pytest.raises(ValidationError):
            config.model.N = wrong
    assert config.model.N == 128


def test_a_size_that_never_came_is_refused_where_it_matters() -> None:
    before = dict(ptycho.params.cfg)
    with pytest.raises(ConfigError, match="`N` is 0"):
        update_legacy_dict(ptycho.params.cfg, training_config())
    assert ptycho.params.cfg == before


def test_the_very_dict_of_the_registry_is_written() -> None:
    registry = ptycho.params.cfg
    config = training_config()
    config.model.N = 96
    update_legacy_dict(registry, config)
    assert ptycho.params.cfg is registry
    assert ptycho.params.get("N") == 96
    with pytest.raises(PolicyError, match="CONFIG-002"):
        update_legacy_dict(registry, PyTorchExecutionConfig(accelerator="cpu"))


def test_everything_may_be_zero_at_once_without_a_word() -> None:
    config = legacy.TrainingConfig(
        model=legacy.ModelConfig(N=0, probe_scale=0.0), nll_weight=0, nphotons=0, batch_size=2**30
    )
    assert config.nphotons == 0


def test_tensorflow_is_the_default_of_the_legacy_class_alone() -> None:
    from ptycho_config.models import TrainingConfig

    assert legacy.TrainingConfig().backend == "tensorflow"
    assert TrainingConfig().backend == "pytorch"


def test_a_model_of_ptycho_config_is_taken_with_what_was_chosen_in_it() -> None:
    from ptycho_config.models import ModelConfig

    config = legacy.TrainingConfig(model=ModelConfig(N=64, gridsize=2))
    assert isinstance(config.model, legacy.ModelConfig)
    assert (config.model.N, config.model.gridsize) == (64, 2)
    assert config.model.model_fields_set == {"N", "gridsize"}


def test_unused_files_are_the_current_directory_and_are_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inference = legacy.InferenceConfig(model=legacy.ModelConfig(N=64))
    assert inference.model_path == inference.test_data_file == Path()
    assert not list(tmp_path.iterdir())
