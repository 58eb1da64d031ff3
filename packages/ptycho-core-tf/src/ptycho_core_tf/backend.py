"""The registration of the TensorFlow core: what it can do here, and the way to its networks."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_config.errors import BackendUnavailableError
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core.backend import Availability
from ptycho_core.result.callbacks import Callback, told_of_the_end
from ptycho_core.scan import Scan

if TYPE_CHECKING:
    from ptycho_core_tf.trained import TrainedNetwork

__all__ = ["TensorFlowBackend"]

_NEEDED = ("tensorflow", "keras")


class TensorFlowBackend:
    """The backend `tensorflow`. Asking for its availability imports TensorFlow and nothing more."""

    name = "tensorflow"

    def availability(self) -> Availability:
        """Say whether networks can be trained here, and which devices TensorFlow sees."""
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            return Availability(installed=False, reason=f"{' and '.join(missing)} not installed")
        try:
            devices = _devices()
        except BackendUnavailableError as error:
            return Availability(installed=False, reason=str(error))
        return Availability(installed=True, version=version("tensorflow"), devices=devices)

    def train(
        self,
        scan: Scan,
        config: TrainingConfig,
        execution: TensorFlowExecutionConfig | None,
        *,
        callbacks: Sequence[Callback] = (),
        test_scan: Scan | None = None,
        directory: Path | None = None,
        start: TrainedNetwork | None = None,
    ) -> TrainedNetwork:
        """Train a network on a scan, through the physics; see `ptycho_core_tf.training`."""
        execution = self._checked(execution)
        from ptycho_core_tf.training import train_network

        with told_of_the_end(callbacks):
            return train_network(
                scan,
                config,
                execution,
                callbacks=callbacks,
                test_scan=test_scan,
                directory=directory,
                start=start,
            )

    def load(self, bundle: str | Path, execution: TensorFlowExecutionConfig | None) -> TrainedNetwork:
        """Open a bundle; see `ptycho_core_tf.loading`."""
        execution = self._checked(execution)
        from ptycho_core_tf.loading import load_network

        return load_network(bundle, execution)

    def _checked(self, execution: TensorFlowExecutionConfig | None) -> TensorFlowExecutionConfig:
        found = self.availability()
        if not found.installed:
            raise BackendUnavailableError(
                f"The backend `tensorflow` cannot work here: {found.reason}. "
                "Install it: pip install 'ptycho-dispatch[tf]'."
            )
        from ptycho_config import hardware
        from ptycho_core_tf.devices import FLAG, gpu_available

        execution = TensorFlowExecutionConfig() if execution is None else execution
        hardware.require_accelerator(execution.accelerator, cuda_available=gpu_available(), flag=FLAG)
        return execution


def _devices() -> tuple[str, ...]:
    from ptycho_core_tf.framework import tf

    names = ["cpu"]
    for number, device in enumerate(tf.config.list_physical_devices("GPU")):
        details = tf.config.experimental.get_device_details(device)
        names.append(f"cuda:{number} ({details.get('device_name', 'GPU')})")
    return tuple(names)
