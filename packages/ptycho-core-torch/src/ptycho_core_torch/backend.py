"""The registration of the PyTorch core: what it can do here, and the way to its networks."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_config import hardware
from ptycho_config.errors import BackendUnavailableError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core.backend import Availability
from ptycho_core.result.callbacks import Callback, told_of_the_end
from ptycho_core.scan import Scan

if TYPE_CHECKING:
    from ptycho_core_torch.trained import TrainedNetwork

__all__ = ["PyTorchBackend"]

_NEEDED = ("torch", "lightning")


class PyTorchBackend:
    """The backend `pytorch`. Asking for its availability imports torch and nothing more."""

    name = "pytorch"

    def availability(self) -> Availability:
        """Say whether networks can be trained here, and which devices torch sees."""
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            return Availability(installed=False, reason=f"{' and '.join(missing)} not installed")
        return Availability(installed=True, version=version("torch"), devices=_devices())

    def train(
        self,
        scan: Scan,
        config: TrainingConfig,
        execution: PyTorchExecutionConfig,
        *,
        callbacks: Sequence[Callback] = (),
        test_scan: Scan | None = None,
        directory: Path | None = None,
        start: TrainedNetwork | None = None,
    ) -> TrainedNetwork:
        """Train a network on a scan, through the physics; see `ptycho_core_torch.training`."""
        self._check(execution)
        from ptycho_core_torch.training import train_network

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

    def load(self, bundle: str | Path, execution: PyTorchExecutionConfig) -> TrainedNetwork:
        """Open a bundle; see `ptycho_core_torch.loading`."""
        self._check(execution)
        from ptycho_core_torch.loading import load_network

        return load_network(bundle, execution)

    def export(self, bundle: str | Path, path: str | Path, *, bundle_sha256: str | None = None) -> float:
        """Write the network of a bundle as an ONNX file; see `ptycho_core_torch.exporting`."""
        execution = PyTorchExecutionConfig(accelerator="cpu")
        self._check(execution)
        from ptycho_core_torch.exporting import export_network, require_exporter
        from ptycho_core_torch.loading import load_network

        require_exporter()
        return export_network(load_network(bundle, execution), path, bundle_sha256=bundle_sha256)

    def _check(self, execution: PyTorchExecutionConfig) -> None:
        found = self.availability()
        if not found.installed:
            raise BackendUnavailableError(
                f"The backend `pytorch` cannot work here: {found.reason}. "
                "Install it: pip install 'ptycho-dispatch[torch]'."
            )
        hardware.refuse_absent_gpu(execution.accelerator)


def _devices() -> tuple[str, ...]:
    import torch

    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return tuple(names)
