"""What to compute, as checked models: network, training, inference, solver, run."""

from ptycho_config.models._base import CanonicalConfig, Config
from ptycho_config.models.inference import InferenceConfig
from ptycho_config.models.model import Architecture, ModelConfig
from ptycho_config.models.run import RunConfig
from ptycho_config.models.solver import SolverConfig
from ptycho_config.models.training import TrainingConfig

__all__ = [
    "Architecture",
    "CanonicalConfig",
    "Config",
    "InferenceConfig",
    "ModelConfig",
    "RunConfig",
    "SolverConfig",
    "TrainingConfig",
]
