"""The registration of the PyTorch core, and an honest answer to what it can do in this version."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from ptycho_config.errors import BackendUnavailableError
from ptycho_core.backend import Availability
from ptycho_core.callbacks import Callback
from ptycho_core.scan import Scan

__all__ = ["PyTorchBackend"]

_NOT_YET = "networks are not implemented in this version; the solver runs on torch arrays"
_REMEDY = "Use `ptycho reconstruct SCAN --method solver`."


class PyTorchBackend:
    """The backend `pytorch`."""

    name = "pytorch"

    def availability(self) -> Availability:
        """Say that torch arrays can be used and networks cannot."""
        if importlib.util.find_spec("torch") is None:
            return Availability(installed=False, reason="torch is not installed")
        return Availability(installed=False, version=version("torch"), devices=_devices(), reason=_NOT_YET)

    def train(
        self, scan: Scan, config: Any, execution: Any, *, callbacks: Sequence[Callback] = ()
    ) -> NoReturn:
        """Refuse: not in this version."""
        raise BackendUnavailableError(f"Backend `pytorch`: {_NOT_YET}. {_REMEDY}")

    def load(self, bundle: Path, execution: Any) -> NoReturn:
        """Refuse: not in this version."""
        raise BackendUnavailableError(f"Backend `pytorch`: {_NOT_YET}. {_REMEDY}")


def _devices() -> tuple[str, ...]:
    import torch

    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return tuple(names)
