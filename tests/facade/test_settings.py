"""What a client's settings become for a core, which of them are refused, and how the backend is found."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ptycho", reason="the distribution ptychopinn is not installed")

from ptycho import _settings
from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_config.errors import ConfigError
from ptycho_torch import config_bridge
from ptycho_torch.config_params import DataConfig
from ptycho_torch.config_params import InferenceConfig as TorchInferenceConfig
from ptycho_torch.config_params import ModelConfig as TorchModelConfig
from ptycho_torch.config_params import TrainingConfig as TorchTrainingConfig

LOG = logging.getLogger("ptychopinn")


def settled(*, counts: bool = True, environment: dict[str, str] | None = None, **fields: Any) -> Any:
    model = fields.pop("model", ModelConfig(N=64, amp_activation="sigmoid", probe_scale=4.0))
    config = TrainingConfig(model=model, **fields)
    return _settings.training_settings(config, LOG, counts=counts, environment=environment or {})


def test_the_client_s_defaults_are_no_choice_and_ours_hold() -> None:
    config = settled(nll_weight=1.0, mae_weight=0.0, nphotons=1e6, output_dir=Path(), train_data_file=Path())
    assert config.model_fields_set == {"model", "nepochs", "max_time", "seed"}
    assert config.model.model_fields_set == {"N"}


def test_what_was_chosen_is_passed_on() -> None:
    model = ModelConfig(N=64, gridsize=2, architecture="cnn", n_filters_scale=3)
    config = settled(model=model, nepochs=7, batch_size=16, optimizer="sgd", n_groups=512)
    assert (config.model.gridsize, config.model.architecture, config.model.n_filters_scale) == (2, "cnn", 3)
    assert (config.nepochs, config.batch_size, config.optimizer, config.n_groups) == (7, 16, "sgd", 512)
    assert config.max_time is None


def test_a_run_of_50_epochs_has_a_time_and_the_environment_another(caplog) -> None:
    caplog.set_level(logging.INFO, "ptychopinn")
    assert settled(nepochs=50).max_time == _settings.DEFAULT_SECONDS
    assert "50 epochs or 150 s" in caplog.text
    assert settled(nepochs=50, environment={"PTYCHO_MAX_TIME": "3m"}).max_time == 180
    assert settled(nepochs=7, environment={"PTYCHO_MAX_TIME": "90s"}).max_time == 90
    assert settled(nepochs=50, environment={"PTYCHO_MAX_TIME": "none"}).max_time is None
    for wrong in ("soon", "-3", "inf"):
        with pytest.raises(ConfigError, match="PTYCHO_MAX_TIME"):
            settled(environment={"PTYCHO_MAX_TIME": wrong})


def test_photons_never_scale_counts(caplog) -> None:
    caplog.set_level(logging.INFO, "ptychopinn")
    assert settled(nphotons=3e5).nphotons is None
    assert "`nphotons` 300000 is not used: the frames hold counts" in caplog.text
    assert settled(nphotons=3e5, counts=False).nphotons == 3e5
    assert settled(nphotons=0, counts=False).nphotons is None


def test_a_divisor_of_zero_divides_nothing(caplog) -> None:
    caplog.set_level(logging.INFO, "ptychopinn")
    assert settled(model=ModelConfig(N=64, probe_scale=0)).model.probe_scale == 4.0
    assert "`probe_scale` is 0" in caplog.text


def test_weights_of_zero_leave_nothing_to_learn() -> None:
    with pytest.raises(ConfigError, match="`nll_weight` and `mae_weight` are both 0"):
        settled(nll_weight=0)
    with pytest.raises(ConfigError, match=r"`realspace_mae_weight` is 0.5 and `realspace_weight` 0"):
        settled(realspace_mae_weight=0.5)
    assert settled(nll_weight=0, mae_weight=1).torch_loss_mode == "mae"


def test_the_backend_is_that_of_the_config_then_of_the_environment(caplog) -> None:
    caplog.set_level(logging.INFO, "ptychopinn")
    environment = {"PTYCHO_BACKEND": "PyTorch"}
    find = _settings.backend_of
    assert find(TrainingConfig(), LOG, environment={}) == "tensorflow"
    assert find(TrainingConfig(), LOG, environment=environment) == "pytorch"
    assert "Backend `pytorch`, as PTYCHO_BACKEND says" in caplog.text
    assert find(TrainingConfig(backend="tensorflow"), LOG, environment=environment) == "tensorflow"
    assert find(InferenceConfig(), LOG, default="", environment={}) == ""
    with pytest.raises(ConfigError, match=r"`PTYCHO_BACKEND` is 'jax'; expected one of pytorch, tensorflow"):
        find(None, LOG, environment={"PTYCHO_BACKEND": "jax"})


def torch_settings(data: DataConfig, model: TorchModelConfig, training: TorchTrainingConfig) -> Any:
    return config_bridge.network_settings(data, model, training, LOG, counts=True)


def test_the_defaults_of_the_torch_side_become_ours(monkeypatch) -> None:
    monkeypatch.delenv("PTYCHO_MAX_TIME", raising=False)
    config = torch_settings(DataConfig(), TorchModelConfig(), TorchTrainingConfig())
    assert (config.model.N, config.model.gridsize, config.model.architecture) == (128, 1, "unet")
    assert (config.nepochs, config.batch_size, config.max_time) == (50, 16, _settings.DEFAULT_SECONDS)
    assert not {"torch_loss_mode", "scheduler", "nphotons"} & config.model_fields_set
    execution = config_bridge.execution_config(TorchTrainingConfig(device="cpu"), LOG)
    assert not {"learning_rate", "num_workers"} & execution.model_fields_set


def test_choices_of_the_torch_side_arrive() -> None:
    config = torch_settings(
        DataConfig(N=64, C=1, grid_size=(1, 1)),
        TorchModelConfig(mode="Supervised", loss_function="MAE"),
        TorchTrainingConfig(epochs=3, scheduler="Cosine", warmup_epochs=2, gradient_clip_val=0.5),
    )
    assert (config.model.model_type, config.torch_loss_mode) == ("supervised", "mae")
    assert (config.scheduler, config.lr_warmup_epochs, config.gradient_clip_val) == ("WarmupCosine", 2, 0.5)
    training = TorchTrainingConfig(device="cpu", learning_rate=5e-4, accum_steps=2, num_workers=1)
    execution = config_bridge.execution_config(training, LOG)
    assert (execution.learning_rate, execution.accum_steps, execution.num_workers) == (5e-4, 2, 1)


@pytest.mark.filterwarnings("ignore:POLICY-001:UserWarning")
def test_cuda_as_the_client_s_default_is_no_choice_and_one_device_is_used(caplog) -> None:
    execution = config_bridge.execution_config(TorchTrainingConfig(n_devices=4), LOG)
    assert execution.resolution is not None
    assert execution.resolution.requested == "auto"
    assert execution.devices == 1
    assert "`n_devices` is 4 and one device is used" in caplog.text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (DataConfig(C=3), "`C` .* is 3 and `grid_size` .* has 4 frames. Set `C` to 4"),
        (DataConfig(grid_size=(2, 1), C=2), "`grid_size` is .*; expected a square"),
        (DataConfig(grid_size=(0, 0), C=0), "`grid_size` is .*; expected a square"),
    ],
)
def test_grids_that_are_none_are_refused(data: DataConfig, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        torch_settings(data, TorchModelConfig(), TorchTrainingConfig())


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (TorchModelConfig(mode="Guess"), "mode"),
        (TorchModelConfig(loss_function="Guess"), "loss_function"),
        (TorchModelConfig(amp_activation="Guess"), "amp_activation"),
        (TorchTrainingConfig(scheduler="Guess"), "scheduler"),
    ],
)
def test_free_texts_are_refused_where_training_starts(config: Any, name: str) -> None:
    parts = [TorchModelConfig(), TorchTrainingConfig()]
    parts[isinstance(config, TorchTrainingConfig)] = config
    with pytest.raises(ConfigError, match=f"`{name}` is 'Guess'; expected one of"):
        torch_settings(DataConfig(), *parts)


def test_what_has_no_counterpart_is_named_once_it_is_chosen() -> None:
    configs = (DataConfig(), TorchModelConfig(), TorchTrainingConfig(), TorchInferenceConfig())
    assert config_bridge.without_counterpart(*configs) == []
    configs = (DataConfig(normalize="Group"), TorchModelConfig(batch_norm=True), *configs[2:])
    assert config_bridge.without_counterpart(*configs) == ["normalize", "batch_norm"]
