"""What to compute, as checked models: network, training, inference, solver, run, watch."""

from ptycho_config.models.base import CanonicalConfig, Config
from ptycho_config.models.inference import InferenceConfig
from ptycho_config.models.model import Architecture, ModelConfig
from ptycho_config.models.run import RunConfig
from ptycho_config.models.solver import SolverConfig
from ptycho_config.models.training import TrainingConfig
from ptycho_config.models.watch import WatchConfig

__all__ = [
    "CANONICAL",
    "Architecture",
    "CanonicalConfig",
    "Config",
    "InferenceConfig",
    "ModelConfig",
    "RunConfig",
    "SolverConfig",
    "TrainingConfig",
    "WatchConfig",
]

CANONICAL: tuple[type[CanonicalConfig], ...] = (
    RunConfig,
    SolverConfig,
    ModelConfig,
    TrainingConfig,
    InferenceConfig,
    WatchConfig,
)
"""What to compute; where and how fast is said by `ptycho_config.execution.EXECUTION` alone (CONFIG-002)."""
