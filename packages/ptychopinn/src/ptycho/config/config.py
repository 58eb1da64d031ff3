"""The configuration classes under their legacy path: those of `ptycho_config`, fields and defaults included.

The older defaults of some fields, and whatever else stood here, are not part of this version.
"""

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
