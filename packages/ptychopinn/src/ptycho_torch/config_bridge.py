"""From the configuration of the PyTorch side to that of `ptycho_config`, and what has no counterpart there.

As on the TensorFlow side, a value that equals the client's own default is one that was not chosen.
"""

from __future__ import annotations

import logging
from typing import Any

import ptycho.config.config as legacy
import ptycho_config.models as models
from ptycho import _settings
from ptycho_config.errors import ConfigError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig

__all__ = [
    "execution_config",
    "gridsize_of",
    "network_settings",
    "to_inference_config",
    "to_model_config",
    "to_training_config",
    "without_counterpart",
]

_MODES = {"Unsupervised": "pinn", "Supervised": "supervised"}
_LOSSES = {"Poisson": "poisson", "MAE": "mae"}
_SCHEDULERS = {"Default": "Default", "Exponential": "Exponential", "Cosine": "WarmupCosine"}
_ACTIVATIONS = {
    "silu": "swish",
    "swish": "swish",
    "sigmoid": "sigmoid",
    "softplus": "softplus",
    "relu": "relu",
}
#: `cuda` is a default that was not chosen (POLICY-001).
_DEVICES = {"cuda": "auto", "auto": "auto", "cpu": "cpu", "gpu": "gpu", "mps": "mps"}
#: What the translation below reads, or what only the client itself reads.
_READ: dict[type, set[str]] = {
    DataConfig: {"N", "C", "grid_size", "K", "x_bounds", "y_bounds", "probe_scale", "nphotons"},
    ModelConfig: {
        "mode",
        "architecture",
        "object_big",
        "probe_big",
        "loss_function",
        "amp_activation",
        "n_filters_scale",
        "intensity_scale_trainable",
        "decoder_last_amp_channels",
        "C_model",
        "C_forward",
    },
    TrainingConfig: {
        "epochs",
        "batch_size",
        "learning_rate",
        "n_devices",
        "num_workers",
        "accum_steps",
        "gradient_clip_val",
        "nll",
        "device",
        "strategy",
        "framework",
        "orchestrator",
        "scheduler",
        "warmup_epochs",
        "min_lr_ratio",
        "notes",
        "model_name",
    },
    InferenceConfig: {"experiment_number"},
}


def gridsize_of(data: DataConfig) -> int:
    """Return the gridsize.

    Raises:
        ConfigError: the grid is not square or has no frame, or `C` is not the number of its frames.
    """
    rows, columns = data.grid_size
    if rows != columns or not 1 <= rows <= 5:
        raise ConfigError(
            f"`grid_size` is {data.grid_size}; expected a square from (1, 1) to (5, 5). Set both sides to 1, "
            "or both to 2."
        )
    if rows * columns != data.C:
        raise ConfigError(
            f"`C` (number of channels) is {data.C} and `grid_size` {data.grid_size} has {rows * columns} "
            f"frames. Set `C` to {rows * columns}."
        )
    return rows


def to_model_config(data: DataConfig, model: ModelConfig) -> legacy.ModelConfig:
    """Translate the network.

    Raises:
        ConfigError: a text that is none of the choices, or a grid that is none.
    """
    fields: dict[str, Any] = {
        "N": data.N,
        "gridsize": gridsize_of(data),
        "model_type": _choice("mode", model.mode, _MODES),
        "architecture": model.architecture,
        "n_filters_scale": model.n_filters_scale,
        "amp_activation": _choice("amp_activation", model.amp_activation, _ACTIVATIONS),
        "object_big": model.object_big,
        "probe_big": model.probe_big,
        "probe_scale": data.probe_scale,
    }
    if model.probe_mask is not None and not isinstance(model.probe_mask, bool):
        raise ConfigError(
            "`probe_mask` holds a mask; expected None, True or False. A soft disc is used where True."
        )
    return legacy.ModelConfig(**fields, probe_mask=bool(model.probe_mask))


def to_training_config(
    data: DataConfig, model: ModelConfig, training: TrainingConfig
) -> legacy.TrainingConfig:
    """Translate the training; the backend is PyTorch.

    Raises:
        ConfigError: see `to_model_config`.
    """
    fields: dict[str, Any] = {
        "model": to_model_config(data, model),
        "backend": "pytorch",
        "nepochs": training.epochs,
        "batch_size": training.batch_size,
        "neighbor_count": max(data.K, gridsize_of(data) ** 2 - 1, 1),
        "intensity_scale_trainable": True,
        "scheduler": _choice("scheduler", training.scheduler, _SCHEDULERS),
    }
    if data.nphotons is not None:
        fields["nphotons"] = data.nphotons
    if training.gradient_clip_val:
        fields["gradient_clip_val"] = training.gradient_clip_val
    if training.scheduler == "Cosine":
        fields |= {
            "lr_warmup_epochs": training.warmup_epochs,
            "lr_min_ratio": min(1.0, training.min_lr_ratio),
        }
    if _choice("loss_function", model.loss_function, _LOSSES) == "mae" or not training.nll:
        fields["torch_loss_mode"] = "mae"
    return legacy.TrainingConfig(**fields)


def to_inference_config(
    data: DataConfig, model: ModelConfig, inference: InferenceConfig
) -> legacy.InferenceConfig:
    """Translate the inference.

    Raises:
        ConfigError: see `to_model_config`.
    """
    return legacy.InferenceConfig(model=to_model_config(data, model), backend="pytorch")


def network_settings(
    data: DataConfig, model: ModelConfig, training: TrainingConfig, log: logging.Logger, *, counts: bool
) -> models.TrainingConfig:
    """Return the settings that the core is trained with.

    Raises:
        ConfigError: see `to_model_config`; or settings that leave nothing to learn.
    """
    config = to_training_config(data, model, training)
    # The client's default here is the other one of the two; both mean the default.
    if model.amp_activation == "silu":
        config.model.amp_activation = "sigmoid"
    if config.scheduler == "Default":
        config.model_fields_set.discard("scheduler")
    if config.model.architecture == "unet" and config.model.gridsize > 1:
        log.info("The network looks at each frame by itself; `C` and `grid_size` group nothing.")
        config.model.gridsize = 1
    return _settings.training_settings(config, log, counts=counts)


def execution_config(training: TrainingConfig, log: logging.Logger) -> PyTorchExecutionConfig:
    """Return where and how PyTorch runs; here, and not before, the hardware is asked (POLICY-001).

    Raises:
        ConfigError: a device that is none of the choices.
    """
    if training.n_devices > 1:
        log.warning(
            "`n_devices` is %d and one device is used: the client's callbacks cannot follow to others.",
            training.n_devices,
        )
    fields: dict[str, Any] = {
        "accelerator": _choice("device", training.device, _DEVICES),
        "accum_steps": training.accum_steps,
        "logger_backend": None,
    }
    if training.learning_rate not in (0.0, 1e-3):
        fields["learning_rate"] = training.learning_rate
    if training.num_workers != 4:
        fields["num_workers"] = training.num_workers
    return PyTorchExecutionConfig(**fields)


def without_counterpart(*configs: DataConfig | ModelConfig | TrainingConfig | InferenceConfig) -> list[str]:
    """Name the settings that were chosen, other than the default, and that nothing here acts on."""
    return [
        name
        for config in configs
        for name, field in type(config).model_fields.items()
        if name not in _READ[type(config)] and getattr(config, name) != field.default
    ]


def _choice(name: str, value: str, choices: dict[str, str]) -> str:
    if value not in choices:
        raise ConfigError(f"`{name}` is {value!r}; expected one of {', '.join(choices)}.")
    return choices[value]
