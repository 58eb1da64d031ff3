"""The contract between the dispatcher and the cores that train networks.

A core is a package of its own that registers a `Backend` under the entry-point group `ptycho.backends`;
nothing here, and nothing above, knows a core by name. A third party can add one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ptycho_config.errors import BackendUnavailableError
from ptycho_core.bundle import Scaling
from ptycho_core.result.callbacks import Callback
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan

__all__ = [
    "Availability",
    "Backend",
    "Exporter",
    "TrainedModel",
    "discover_backends",
    "get_backend",
    "require_backend",
]

GROUP = "ptycho.backends"
_EXTRAS = {"pytorch": "torch", "tensorflow": "tf"}


@dataclass(frozen=True)
class Availability:
    """Whether a backend can work here; `reason` says why not, or what it found."""

    installed: bool
    version: str | None = None
    devices: tuple[str, ...] = ()
    reason: str = ""


@runtime_checkable
class TrainedModel(Protocol):
    """A network with its weights, ready to reconstruct scans."""

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """One row an epoch of the training."""
        ...

    @property
    def interrupted(self) -> bool:
        """Whether the training was ended early, on request."""
        ...

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        ...

    @property
    def scaling(self) -> Scaling:
        """What turns frames into the input of the network and its output into counts; bundles carry it."""
        ...

    def with_given_probe(self, probe: np.ndarray) -> TrainedModel:
        """Note the probe that the scan came with, before any refinement."""
        ...

    def reconstruct(
        self, scan: Scan, config: Any = None, *, callbacks: Sequence[Callback] = ()
    ) -> Reconstruction:
        """Reconstruct a scan by one pass over its frames."""
        ...

    def save(self, path: str | Path) -> Path:
        """Write the bundle; the format is the same for every backend."""
        ...


@runtime_checkable
class Backend(Protocol):
    """A core that trains networks and applies them. `config` and `execution` are models of ptycho_config."""

    name: str

    def availability(self) -> Availability:
        """Say whether this backend can work here, on which devices, and if not, why."""
        ...

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
    ) -> TrainedModel:
        """Train a network on a scan.

        Args:
            test_scan: another scan whose loss is watched.
            directory: for the logger's files and what is kept on the way; nothing is when not given.
            start: a network of this backend to go on with.
        Raises:
            BackendUnavailableError: this backend cannot work here; with the reason and the remedy.
        """
        ...

    def load(self, bundle: str | Path, execution: Any) -> TrainedModel:
        """Open a bundle.

        Raises:
            BackendUnavailableError: this backend cannot work here; with the reason and the remedy.
        """
        ...


@runtime_checkable
class Exporter(Protocol):
    """A core that can write its networks for runtimes; not every one can."""

    def export(self, bundle: str | Path, path: str | Path, *, bundle_sha256: str | None = None) -> float:
        """Write the network of a bundle, trained by any core, as an ONNX file, after comparing both.

        Args:
            bundle_sha256: of the bundle's file, which is noted.
        Returns:
            The largest difference of a patch's pixel between core and file.
        Raises:
            BackendUnavailableError: the core or what it needs is missing; with the command that helps.
            BundleError: the bundle is refused, or the file gives other patches.
            ConfigError: the network is one that is not exported.
        """
        ...


def discover_backends() -> dict[str, Backend]:
    """Return the registered backends by name, in the order of their names."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {point.name: point.load()() for point in points}


def get_backend(name: str) -> Backend:
    """Return the backend of that name.

    Raises:
        BackendUnavailableError: it is not installed; with the command that installs it. Never another one.
    """
    backends = discover_backends()
    if name in backends:
        return backends[name]
    raise BackendUnavailableError(
        f"The backend `{name}` is not installed (installed: {', '.join(backends) or 'none'}). {_remedy(name)}"
    )


def require_backend(name: str, *, find: Callable[[str], Backend] = get_backend) -> Backend:
    """Return the backend of that name, which can work here; asking imports its framework.

    Args:
        find: gives the backend of a name.
    Raises:
        BackendUnavailableError: it is not installed, or its framework is not; with the command that helps.
    """
    backend = find(name)
    found = backend.availability()
    if not found.installed:
        reason = found.reason.rstrip(".")
        raise BackendUnavailableError(f"The backend `{name}` cannot work here: {reason}. {_remedy(name)}")
    return backend


def _remedy(name: str) -> str:
    extra = _EXTRAS.get(name)
    return f"Install it: pip install 'ptycho-dispatch[{extra}]'." if extra else "See `ptycho backends`."
