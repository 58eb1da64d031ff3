"""A training for probes: the smallest scan and network that the real core takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import BackendUnavailableError
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import scan_from_arrays
from ptycho_core.result.callbacks import Callback, RunStart
from ptycho_core.scan import Scan
from ptycho_core_tf.backend import TensorFlowBackend

__all__ = ["FRAMES", "Began", "core", "scan", "train"]

FRAMES, _FRAME_PX = 8, 32
#: A network whose graph is made in a moment.
_SMALL = {"architecture": "fno", "fno_width": 4, "fno_blocks": 1, "fno_cnn_blocks": 1, "fno_modes": 4}


class Began(Callback):
    """Remembers whether a training began."""

    def __init__(self) -> None:
        self.began = False

    def on_start(self, start: RunStart) -> None:
        self.began = True


def core() -> TensorFlowBackend:
    """Return the backend.

    Raises:
        BackendUnavailableError: TensorFlow is not installed.
    """
    backend = TensorFlowBackend()
    found = backend.availability()
    if not found.installed:
        raise BackendUnavailableError(found.reason)
    return backend


def scan() -> Scan:
    """Make a scan of 8 frames of 32 px in a row, without a true object."""
    at = np.arange(_FRAME_PX) - _FRAME_PX // 2
    square = at[:, None] ** 2 + at**2
    frames = np.stack([200 * np.exp(-square / (20 + frame)) + at % 3 for frame in range(FRAMES)])
    positions = np.stack([np.zeros(FRAMES), 2.0 * np.arange(FRAMES)], axis=1)
    probe = np.exp(-square / 60).astype(np.complex64)
    return scan_from_arrays(
        np.round(frames).astype(np.uint16),
        positions,
        probe,
        measurement="counts",
        dc="center",
        name="probe scan",
    )


def train(
    *,
    callbacks: Sequence[Callback] = (),
    test_scan: Scan | None = None,
    directory: Path | None = None,
    nepochs: int = 1,
    batch_size: int = 4,
    model_type: str = "pinn",
    **execution: Any,  # Any: fields of TensorFlowExecutionConfig
) -> Any:
    """Train on the scan through the public backend; on the CPU unless told otherwise."""
    model = ModelConfig.model_validate({"N": _FRAME_PX, "model_type": model_type, **_SMALL})
    config = TrainingConfig(model=model, nepochs=nepochs, batch_size=batch_size, seed=1)
    settings = {"accelerator": "cpu", "logger_backend": None, "enable_checkpointing": False, **execution}
    return core().train(
        scan(),
        config,
        TensorFlowExecutionConfig.model_validate(settings),
        callbacks=callbacks,
        test_scan=test_scan,
        directory=directory,
    )
