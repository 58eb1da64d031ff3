"""The configuration classes under their legacy path."""

from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.legacy import KEY_MAPPINGS, update_legacy_dict
from ptycho_config.models import InferenceConfig, ModelConfig, TrainingConfig

__all__ = [
    "KEY_MAPPINGS",
    "InferenceConfig",
    "ModelConfig",
    "PyTorchExecutionConfig",
    "TrainingConfig",
    "update_legacy_dict",
]
