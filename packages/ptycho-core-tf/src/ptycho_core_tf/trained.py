"""A trained network on TensorFlow: what images scans with it, and how it is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_core.learning.frames import FrameBatch
from ptycho_core.learning.trained import Trained
from ptycho_core_tf.devices import Placement, compute_dtype, jit_compile
from ptycho_core_tf.framework import tf
from ptycho_core_tf.memory import is_out_of_memory
from ptycho_core_tf.network import Batch, PtychoNetwork
from ptycho_core_tf.overlap import add_patches, cut

__all__ = ["Imager", "TrainedNetwork"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedNetwork(Trained):
    """Weights, probe and scales of a network on TensorFlow."""

    network: PtychoNetwork
    execution: TensorFlowExecutionConfig
    placement: Placement
    """Where it images."""

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(int(np.prod(variable.shape)) for variable in self.network.parameters)

    def save(self, path: str | Path) -> Path:
        """Write the bundle: a path that ends in `.zip` is the file, anything else its directory."""
        from ptycho_core_tf.bundles import save_network

        return save_network(self, path)

    @property
    def _framework(self) -> Mapping[str, Any]:
        return {"tensorflow": version("tensorflow"), **self.placement.record}

    @property
    def _probe(self) -> np.ndarray:
        return self.network.probe.numpy()

    @property
    def _output_scale(self) -> float:
        return math.exp(float(self.network.log_scale.numpy()))

    def _with_probe(self, probe: np.ndarray) -> TrainedNetwork:
        return replace(self, network=self.network.with_probe(probe))

    def _on_gpu(self) -> bool:
        return self.placement.on_gpu

    def _imager(self) -> Imager:
        self.network.compute_dtype = compute_dtype(self.execution)
        self.network.jit_compile = jit_compile(self.execution, self.placement)
        return Imager(self.network, self.placement.device)

    def _is_out_of_memory(self, error: Exception) -> bool:
        return is_out_of_memory(error)


class Imager:
    """A network on its device, and the canvas on which it averages the patches of one scan."""

    def __init__(self, network: PtychoNetwork, device: str) -> None:
        self._network, self._device = network, device
        self._seen: tf.Tensor | None = None
        self._patches = tf.function(self._of_frames, reduce_retracing=True)

    def begin(self, shape: tuple[int, int]) -> None:
        """Take an empty canvas (H, W); what was averaged before is the image that frames are seen beside."""
        with tf.device(self._device):
            self._total = tf.Variable(tf.zeros(shape, tf.complex64), trainable=False)
            self._covered = tf.Variable(tf.zeros(shape, tf.float32), trainable=False)

    def add(self, batch: FrameBatch, corners: np.ndarray) -> None:
        """Show frames to the network and add their patches.

        Args:
            batch: B frames, group by group.
            corners: (B, 2) top-left pixels of their windows on the canvas.
        """
        with tf.device(self._device):
            here = tf.constant(corners, tf.int64)
            seen = None if self._seen is None else cut(self._seen, here, batch.amplitude.shape[-1])
            patches, weights = self._patches(Batch.of(batch), seen)
            add_patches(self._total, patches, here)
            add_patches(self._covered, weights, here)

    def end(self) -> None:
        """Average; where no frame looked the image stays what it was, 1 in the first pass."""
        with tf.device(self._device):
            covered = tf.convert_to_tensor(self._covered)
            before = tf.ones_like(self._total) if self._seen is None else self._seen
            mean = self._total / tf.cast(tf.maximum(covered, 1e-12), tf.complex64)
            self._seen = tf.where(covered > 0, mean, before)

    def image(self) -> np.ndarray:
        """Return the image (H, W) complex64 of the last pass that ended."""
        if self._seen is None:
            raise RuntimeError("no pass has ended")
        return self._seen.numpy()

    def _of_frames(self, batch: Batch, seen: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Weighted patches of all frames, and the weights: (B, N, N) complex and real."""
        network = self._network
        patches = network.patches(batch, seen)
        if not (network.by_frame or network.model.object_big):
            patches = network.agreed(patches, batch.corners)
        weights = tf.broadcast_to(network.weights, tf.shape(patches))
        return patches * tf.cast(weights, patches.dtype), weights
