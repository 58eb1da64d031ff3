"""What a run is asked to do: checked configuration, accelerator resolution, errors and their findings.

The names below load on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ptycho_config.moved import MOVED, keep_old_paths

if TYPE_CHECKING:
    from ptycho_config.errors import (
        BackendUnavailableError,
        BundleError,
        BundleNotFoundError,
        ConfigError,
        DataError,
        OutputError,
        PolicyError,
        PolicyWarning,
        TrainingError,
        exit_code,
    )
    from ptycho_config.execution import (
        ExecutionConfig,
        PyTorchExecutionConfig,
        RuntimeExecutionConfig,
        SolverExecutionConfig,
        TensorFlowExecutionConfig,
    )
    from ptycho_config.hardware import Resolution, cuda_available, resolve_accelerator
    from ptycho_config.models import (
        InferenceConfig,
        ModelConfig,
        RunConfig,
        SolverConfig,
        TrainingConfig,
        WatchConfig,
    )
    from ptycho_config.sources import Loaded, load
    from ptycho_config.validation import config_error

__all__ = [
    "BackendUnavailableError",
    "BundleError",
    "BundleNotFoundError",
    "ConfigError",
    "DataError",
    "ExecutionConfig",
    "InferenceConfig",
    "Loaded",
    "ModelConfig",
    "OutputError",
    "PolicyError",
    "PolicyWarning",
    "PyTorchExecutionConfig",
    "Resolution",
    "RunConfig",
    "RuntimeExecutionConfig",
    "SolverConfig",
    "SolverExecutionConfig",
    "TensorFlowExecutionConfig",
    "TrainingConfig",
    "TrainingError",
    "WatchConfig",
    "config_error",
    "cuda_available",
    "exit_code",
    "load",
    "resolve_accelerator",
]

_HOME = {
    **dict.fromkeys(
        (
            "BackendUnavailableError",
            "BundleError",
            "BundleNotFoundError",
            "ConfigError",
            "DataError",
            "OutputError",
            "PolicyError",
            "PolicyWarning",
            "TrainingError",
            "exit_code",
        ),
        "errors",
    ),
    **dict.fromkeys(
        (
            "ExecutionConfig",
            "PyTorchExecutionConfig",
            "RuntimeExecutionConfig",
            "SolverExecutionConfig",
            "TensorFlowExecutionConfig",
        ),
        "execution",
    ),
    **dict.fromkeys(("Resolution", "cuda_available", "resolve_accelerator"), "hardware"),
    **dict.fromkeys(
        ("InferenceConfig", "ModelConfig", "RunConfig", "SolverConfig", "TrainingConfig", "WatchConfig"),
        "models",
    ),
    **dict.fromkeys(("Loaded", "load"), "sources"),
    "config_error": "validation",
}

keep_old_paths(MOVED)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("ptycho-config")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
