"""A network that was exported: it images scans as a core does, and a runtime computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ptycho_config.errors import BundleNotFoundError, ConfigError
from ptycho_config.execution import RuntimeExecutionConfig
from ptycho_config.plaintext import excerpt
from ptycho_core.arrays import NumpyArrays
from ptycho_core.bundle import BUNDLE_FILE, ONNX_FILE, OnnxModel, read_onnx
from ptycho_core.bundle.refusal import refused
from ptycho_core.files import expanded, sha256_of
from ptycho_core.learning.frames import FrameBatch
from ptycho_core.learning.stored import checked_configuration
from ptycho_core.learning.trained import Trained
from ptycho_core.physics.group_object import probe_weights
from ptycho_core.physics.normalisation import probe_in_gauge
from ptycho_core.runtimes.back_projection import probe_constants
from ptycho_core.runtimes.sessions import RUNTIMES, Session, open_session

__all__ = ["ExportedNetwork", "Imager", "find_exported", "load_exported", "open_file"]

#: What runtimes say, in errors of their own.
_NO_MEMORY = ("bad_alloc", "allocate memory", "out of memory")


@dataclass(frozen=True, eq=False, kw_only=True)
class ExportedNetwork(Trained):
    """A graph, the probe that it is used with, and the runtime that computes it.

    Attributes:
        source: the file.
        runtime: one of `RUNTIMES`.
        held_probe: (P, N, N) in the gauge of the configuration.
        other_probe: whether that is another one than the graph holds.
    """

    network: OnnxModel
    execution: RuntimeExecutionConfig
    source: str
    runtime: str
    held_probe: np.ndarray
    other_probe: bool = False

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return self.network.n_parameters

    def save(self, path: str | Path) -> NoReturn:
        """Refuse: an exported network is its file, which is copied.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"An exported network cannot be written to {path}. Copy the file {self.source}.")

    @property
    def probe(self) -> np.ndarray:
        """The probe (P, N, N) complex64 in the gauge of the configuration."""
        return self.held_probe

    @cached_property
    def session(self) -> Session:
        """The network as the runtime loaded it, once.

        Raises:
            BackendUnavailableError: the runtime is not installed.
            BundleError: the runtime cannot take the file.
        """
        sees_probe = self.training.model.input_channels == "backprojection"
        replaced = (
            probe_constants(self.held_probe, self.network.back_projection_std)
            if self.other_probe and sees_probe
            else None
        )
        return open_session(
            self.runtime, self.network.content, self.execution, source=self.source, constants=replaced
        )

    def imager(self) -> Imager:
        """Take a canvas that is still to be begun."""
        return Imager(self.session, self.held_probe)

    @property
    def _framework(self) -> Mapping[str, Any]:
        package, title = RUNTIMES[self.runtime]
        return {
            package: self.session.version,
            "runtime": self.runtime,
            "runtime_precision": self.execution.precision,
            "execution": {"requested": "cpu", "resolved": "cpu", "reason": f"{title} runs on the CPU here"},
        }

    @property
    def _output_scale(self) -> float:
        return self.network.output_scale

    def _with_probe(self, probe: np.ndarray) -> ExportedNetwork:
        held = probe_in_gauge(probe, self.training.model).astype(np.complex64)
        return replace(self, held_probe=held, other_probe=True)

    def _on_gpu(self) -> bool:
        return False

    def _is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)


class Imager:
    """A runtime's session, and the canvas on which patches are averaged by the light they got."""

    def __init__(self, session: Session, probe: np.ndarray) -> None:
        """Hold the session.

        Args:
            probe: (P, N, N) that lights the patches.
        """
        self._session, self._arrays = session, NumpyArrays()
        self._weights = probe_weights(probe).astype(np.float32)
        # What frames of unit amplitude have, on average.
        self._mean_counts = (probe.shape[-1] / 2) ** 2
        self._image: np.ndarray | None = None

    def begin(self, shape: tuple[int, int]) -> None:
        """Take an empty canvas (H, W)."""
        self._total = self._arrays.zeros(shape, complex_values=True)
        self._covered = self._arrays.zeros(shape)

    def add(self, batch: FrameBatch, corners: np.ndarray) -> None:
        """Show frames to the network and add their patches.

        Args:
            batch: B frames, group by group.
            corners: (B, 2) top-left pixels of their windows on the canvas.
        """
        parts = self._session.patches(np.square(batch.amplitude), self._mean_counts)
        patches = (parts[:, 0] + np.complex64(1j) * parts[:, 1]) * self._weights
        self._arrays.add_patches(self._total, corners, patches)
        self._arrays.add_patches(self._covered, corners, self._weights)

    def end(self) -> None:
        """Average; where no frame looked the image is 1."""
        lit = self._covered > 0
        mean = self._total / np.where(lit, self._covered, np.float32(1))
        self._image = np.where(lit, mean, np.complex64(1))

    def image(self) -> np.ndarray:
        """Return the image (H, W) complex64 of the pass that ended."""
        if self._image is None:
            raise RuntimeError("no pass has ended")
        return self._image


def load_exported(
    path: str | Path, runtime: str = "onnx", execution: RuntimeExecutionConfig | None = None
) -> ExportedNetwork:
    """Open a network that was exported.

    Args:
        path: the `.onnx` file, or the bundle that it was exported from, beside which it lies.
        runtime: one of `RUNTIMES`.
        execution: how it runs.
    Raises:
        BundleError: nothing is there, or it is not one of ours, damaged, or not of the bundle beside it.
    """
    place = find_exported(path)
    trained = open_file(place, runtime, execution)
    _require_same_bundle(place, trained.network, expanded(path))
    return trained


def open_file(
    path: Path, runtime: str = "onnx", execution: RuntimeExecutionConfig | None = None
) -> ExportedNetwork:
    """Open the file of a network that was exported, whatever its name.

    Raises:
        BundleError: it is not one of ours, or damaged.
    """
    model = read_onnx(path)
    stored = checked_configuration(path, model.bundle)
    return ExportedNetwork(
        network=model,
        training=stored.training,
        execution=execution or RuntimeExecutionConfig(),
        scaling=model.bundle.scaling,
        probe_given=model.bundle.probe_given,
        provenance=dict(model.bundle.provenance),
        source=str(path),
        runtime=runtime,
        held_probe=model.bundle.probe,
    )


def find_exported(path: str | Path) -> Path:
    """Return the `.onnx` file that a path means: itself, or the one beside a bundle.

    Raises:
        BundleNotFoundError: there is none; names the command that writes it.
    """
    path = expanded(path)
    if path.suffix == ".onnx" and not path.is_dir():
        return path
    directory = path if path.is_dir() else path.parent
    if (directory / ONNX_FILE).exists():
        return directory / ONNX_FILE
    raise BundleNotFoundError(
        f"{excerpt(str(path))}: holds no `{ONNX_FILE}`, which a runtime needs. Type `ptycho export "
        f"{excerpt(str(path))}`, on a host with PyTorch."
    )


def _require_same_bundle(place: Path, model: OnnxModel, asked: Path) -> None:
    """Refuse a file that was exported from another bundle than the one that was named.

    Raises:
        BundleError: it was; says what to type.
    """
    if asked == place or model.bundle_sha256 is None:
        return
    bundle = asked / BUNDLE_FILE if asked.is_dir() else asked
    if bundle.is_file() and sha256_of(bundle) != model.bundle_sha256:
        raise refused(
            str(place),
            f"it was exported from another network than {bundle} holds now",
            "the same network in both",
            f"Type `ptycho export {excerpt(str(asked))}`.",
        )
