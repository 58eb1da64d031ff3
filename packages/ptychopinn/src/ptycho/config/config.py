"""The configuration classes under their legacy path, as the client Ptychodus and older scripts build them.

They are the classes of `ptycho_config` with what older programs take for granted: the backend is TensorFlow
unless another is chosen (`PTYCHO_BACKEND` may), `Path()` means unused, and some numbers may be 0 for "none".
What such a 0 means is decided where training starts (`ptycho._settings`), so that building a config never
fails for it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

import ptycho_config.models as _models
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.legacy import KEY_MAPPINGS, legacy_dict
from ptycho_config.legacy import update_legacy_dict as _update
from ptycho_config.values import FilePath, NonNegativeNumber

__all__ = [
    "KEY_MAPPINGS",
    "InferenceConfig",
    "ModelConfig",
    "PyTorchExecutionConfig",
    "TrainingConfig",
    "dataclass_to_legacy_dict",
    "load_yaml_config",
    "update_legacy_dict",
    "validate_inference_config",
    "validate_model_config",
    "validate_training_config",
]


class ModelConfig(_models.ModelConfig):
    """The network and its physics; `probe_scale` may be 0, which leaves the probe as it is."""

    probe_scale: NonNegativeNumber = Field(default=4.0, description="divisor of the probe, 0 = none")


def _as_legacy(value: object) -> object:
    """Take a model config of `ptycho_config` for one of this module, with what was chosen in it."""
    if isinstance(value, _models.ModelConfig) and not isinstance(value, ModelConfig):
        return value.model_dump(exclude_unset=True)
    return value


Model = Annotated[ModelConfig, BeforeValidator(_as_legacy)]


class TrainingConfig(_models.TrainingConfig):
    """A training; the backend is `tensorflow` unless it is chosen here or by `PTYCHO_BACKEND`."""

    model: Model = Field(default_factory=ModelConfig, description="the network and its physics")
    nphotons: NonNegativeNumber | None = Field(
        default=None, description="mean photons per frame; measured for counts, whatever is given"
    )
    backend: Literal["pytorch", "tensorflow"] = Field(default="tensorflow", description="core that trains")


class InferenceConfig(_models.InferenceConfig):
    """What a stored network is applied to; `Path()` means that a file is not used."""

    model: Model = Field(default_factory=ModelConfig, description="the network and its physics")
    model_path: FilePath = Field(default=Path(), description="trained network; `Path()` = unused")
    test_data_file: FilePath = Field(default=Path(), description="scan to reconstruct; `Path()` = unused")


def update_legacy_dict(cfg: MutableMapping[str, Any], config: Any) -> None:
    """Write a config into the registry `cfg`, which is changed in place: all keys or none (CONFIG-001).

    Raises:
        ConfigError: `N` is still 0, or values that were assigned later contradict each other.
        PolicyError: CONFIG-002 for an execution config.
    """
    _update(cfg, config)


def dataclass_to_legacy_dict(config: Any) -> dict[str, Any]:
    """Return the keys and values that a config has in the registry.

    Raises:
        See `update_legacy_dict`.
    """
    return legacy_dict(config)


def load_yaml_config(path: str | Path) -> dict[str, Any]:
    """Read the settings of a YAML file, nested as they stand there.

    Raises:
        ConfigError: there is no such file, or it holds no settings.
    """
    from ptycho_config.yamlfile import read_yaml

    return dict(read_yaml(Path(path)).data)


def _validated(config: Any) -> None:
    legacy_dict(config)


validate_model_config = validate_training_config = validate_inference_config = _validated
