"""The registration of the TensorFlow core, and an honest answer to what it can do in this version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ptycho_config.errors import BackendUnavailableError
from ptycho_core.backend import Availability
from ptycho_core.callbacks import Callback
from ptycho_core.scan import Scan

__all__ = ["TensorFlowBackend"]

_NOT_YET = "networks are not implemented in this version"
_REMEDY = "Use `ptycho reconstruct SCAN --method solver`."


class TensorFlowBackend:
    """The backend `tensorflow`."""

    name = "tensorflow"

    def availability(self) -> Availability:
        """Say that networks cannot be used yet; nothing is imported to find out."""
        return Availability(installed=False, reason=_NOT_YET)

    def train(
        self,
        scan: Scan,
        config: Any,
        execution: Any,
        *,
        callbacks: Sequence[Callback] = (),
        test_scan: Scan | None = None,
        directory: Path | None = None,
        start: Any = None,
    ) -> NoReturn:
        """Refuse: not in this version."""
        raise BackendUnavailableError(f"Backend `tensorflow`: {_NOT_YET}. {_REMEDY}")

    def load(self, bundle: str | Path, execution: Any) -> NoReturn:
        """Refuse: not in this version."""
        raise BackendUnavailableError(f"Backend `tensorflow`: {_NOT_YET}. {_REMEDY}")
