"""A trained network on PyTorch: what images scans with it, and how it is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

import torch
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_core.learning.frames import FrameBatch
from ptycho_core.learning.trained import SCALARS, Trained, write_stored
from ptycho_core_torch.memory import is_out_of_memory
from ptycho_core_torch.network import Batch, PtychoNetwork
from ptycho_core_torch.overlap import add_patches, cut

__all__ = ["Imager", "TrainedNetwork"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedNetwork(Trained):
    """Weights, probe and scales of a network on PyTorch."""

    network: PtychoNetwork
    execution: PyTorchExecutionConfig

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(weight.numel() for weight in self.network.parameters())

    def save(self, path: str | Path) -> Path:
        """Write the bundle: a path that ends in `.zip` is the file, anything else its directory.

        Tensors carry the canonical names of their architecture.
        """
        weights = {name: _array(tensor) for name, tensor in self.network.network.state_dict().items()}
        return write_stored(
            path,
            self,
            weights=weights | {name: _array(getattr(self.network, name)) for name in SCALARS},
            probe=self.probe,
            backend="pytorch",
            versions={"torch": version("torch")},
        )

    @property
    def _framework(self) -> Mapping[str, str]:
        return {"torch": version("torch")}

    @property
    def probe(self) -> np.ndarray:
        """The probe (P, N, N) complex64 in the gauge of the configuration."""
        return self.network.probe.cpu().numpy()

    @property
    def _output_scale(self) -> float:
        return math.exp(self.network.log_scale.item())

    @property
    def _device(self) -> torch.device:
        return torch.device({"gpu": "cuda"}.get(self.execution.accelerator, self.execution.accelerator))

    def _with_probe(self, probe: np.ndarray) -> TrainedNetwork:
        return replace(self, network=self.network.with_probe(probe))

    def _on_gpu(self) -> bool:
        return self._device.type != "cpu"

    def imager(self) -> Imager:
        """Put the network on its device, with a canvas that is still to be begun."""
        return Imager(self.network.to(self._device).eval(), self.execution.precision)

    def _is_out_of_memory(self, error: Exception) -> bool:
        return is_out_of_memory(error)


class Imager:
    """A network on its device, and the canvas on which it averages the patches of one scan."""

    def __init__(self, network: PtychoNetwork, precision: str) -> None:
        """Hold the network.

        Args:
            precision: in which its layers work, as in training.
        """
        self._network = network
        self._device = network.probe.device
        self._weights = network.weights
        self._half = torch.float16 if precision == "16-mixed" else torch.bfloat16
        self._mixed = precision != "32-true"
        self._seen: torch.Tensor | None = None

    def begin(self, shape: tuple[int, int]) -> None:
        """Take an empty canvas (H, W); what was averaged before is the image that frames are seen beside."""
        self._total = torch.zeros(shape, dtype=torch.complex64, device=self._device)
        self._covered = torch.zeros(shape, device=self._device)

    @torch.inference_mode()
    def add(self, batch: FrameBatch, corners: np.ndarray) -> None:
        """Show frames to the network and add their patches.

        Args:
            batch: B frames, group by group.
            corners: (B, 2) top-left pixels of their windows on the canvas.
        """
        frames, here = Batch.of(batch).to(self._device), torch.from_numpy(corners).to(self._device)
        seen = None if self._seen is None else cut(self._seen, here, batch.amplitude.shape[-1])
        with torch.autocast(self._device.type, self._half, enabled=self._mixed):
            patches = self._network.patches(frames, seen)
            if len(patches) < len(corners):
                patches = self._network.agreed(patches, frames.corners)
        add_patches(self._total, patches * self._weights, here)
        add_patches(self._covered, self._weights.expand(len(corners), -1, -1), here)

    @torch.inference_mode()
    def end(self) -> None:
        """Average; where no frame looked the image stays what it was, 1 in the first pass."""
        before = torch.ones_like(self._total) if self._seen is None else self._seen
        self._seen = torch.where(self._covered > 0, self._total / self._covered.clamp_min(1e-12), before)

    def image(self) -> np.ndarray:
        """Return the image (H, W) complex64 of the last pass that ended."""
        if self._seen is None:
            raise RuntimeError("no pass has ended")
        return self._seen.cpu().numpy()


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().to(torch.float32).contiguous().numpy()
