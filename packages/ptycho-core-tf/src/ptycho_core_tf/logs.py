"""Where the metrics of every epoch go (CONFIG-LOGGER-001)."""

from __future__ import annotations

import re
from pathlib import Path

from ptycho_config.errors import ConfigError
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_core.files import make_directory
from ptycho_core_tf.framework import keras

__all__ = ["metric_loggers"]

_FOLDER = "keras_logs"


def metric_loggers(
    execution: TensorFlowExecutionConfig, directory: Path | None
) -> list[keras.callbacks.Callback]:
    """Return the logger that the execution names; none where there is no directory to write to.

    `keras_logs/version_<k>/metrics.csv`, or TensorBoard's files beside it.

    Raises:
        ConfigError: MLflow is asked for and not installed.
    """
    kind = execution.logger_backend
    if directory is None or kind is None:
        return []
    if kind == "mlflow":
        return [_mlflow(directory)]
    folder = _next_version(directory / _FOLDER)
    if kind == "tensorboard":
        return [keras.callbacks.TensorBoard(str(folder), write_graph=False)]
    make_directory(folder)
    return [keras.callbacks.CSVLogger(str(folder / "metrics.csv"))]


def _mlflow(directory: Path) -> keras.callbacks.Callback:
    try:
        # An optional package, for those who ask for it by name.
        import mlflow  # pyright: ignore[reportMissingImports]
        from mlflow.keras import MlflowCallback  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "`--tensorflow-logger-backend mlflow` needs MLflow. Install it: pip install mlflow."
        ) from error
    mlflow.set_tracking_uri((directory / "mlruns").resolve().as_uri())
    return MlflowCallback()


def _next_version(folder: Path) -> Path:
    taken = [re.fullmatch(r"version_(\d+)", path.name) for path in folder.glob("version_*")]
    return folder / f"version_{max((int(found[1]) + 1 for found in taken if found), default=0)}"
