"""A trained network on TensorFlow: what images scans with it, and how it is saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_core.learning.frames import FrameBatch
from ptycho_core.learning.trained import SCALARS, Trained, write_stored
from ptycho_core_tf.devices import Placement, compute_dtype, jit_compile
from ptycho_core_tf.framework import hints_to_log, tf
from ptycho_core_tf.memory import is_out_of_memory
from ptycho_core_tf.network import Batch, PtychoNetwork
from ptycho_core_tf.overlap import add_patches, cut
from ptycho_core_tf.weights import read_weights

__all__ = ["Imager", "TrainedNetwork"]

WeightedPatches = Callable[[Batch, tf.Tensor | None], tuple[tf.Tensor, tf.Tensor]]


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
        """Write the bundle: a path that ends in `.zip` is the file, anything else its directory.

        Tensors carry the canonical names of their architecture.
        """
        network = self.network
        weights = {name: array.astype(np.float32) for name, array in read_weights(network.network).items()}
        scalars = {name: np.asarray(getattr(network, name).numpy(), np.float32) for name in SCALARS}
        return write_stored(
            path,
            self,
            weights=weights | scalars,
            probe=self.probe,
            backend="tensorflow",
            versions={"tensorflow": version("tensorflow")},
        )

    @property
    def _framework(self) -> Mapping[str, Any]:
        return {"tensorflow": version("tensorflow"), **self.placement.record}

    @property
    def probe(self) -> np.ndarray:
        """The probe (P, N, N) complex64 in the gauge of the configuration."""
        return self.network.probe.numpy()

    @property
    def _output_scale(self) -> float:
        return math.exp(float(self.network.log_scale.numpy()))

    def _with_probe(self, probe: np.ndarray) -> TrainedNetwork:
        return replace(self, network=self.network.with_probe(probe))

    def _on_gpu(self) -> bool:
        return self.placement.on_gpu

    def imager(self) -> Imager:
        """Put the network on its device, with a canvas that is still to be begun."""
        self.network.compute_dtype = compute_dtype(self.execution)
        self.network.jit_compile = jit_compile(self.execution, self.placement)
        return Imager(self.placement.device, self._weighted)

    @cached_property
    def _weighted(self) -> WeightedPatches:
        """`_weighted_patches` of this network as a graph, which is made once and not for every scan."""
        return tf.function(partial(_weighted_patches, self.network), reduce_retracing=True)

    def _is_out_of_memory(self, error: Exception) -> bool:
        return is_out_of_memory(error)


class Imager:
    """A network on its device, and the canvas on which it averages the patches of one scan."""

    def __init__(self, device: str, weighted: WeightedPatches) -> None:
        """Hold what makes patches.

        Args:
            weighted: gives the weighted patches of all frames and the weights, (B, N, N) complex and real.
        """
        self._device, self._weighted = device, weighted
        self._seen: tf.Tensor | None = None

    def begin(self, shape: tuple[int, int]) -> None:
        """Take an empty canvas (H, W); what was averaged before is the image that frames are seen beside."""
        with tf.device(self._device):
            self._total, self._covered = (self._empty(shape, kind) for kind in (np.complex64, np.float32))

    def _empty(self, shape: tuple[int, int], kind: type[np.number]) -> tf.Variable | np.ndarray:
        if "CPU" in self._device.upper():
            return np.zeros(shape, kind)
        return tf.Variable(tf.zeros(shape, kind), trainable=False)

    def add(self, batch: FrameBatch, corners: np.ndarray) -> None:
        """Show frames to the network and add their patches.

        Args:
            batch: B frames, group by group.
            corners: (B, 2) top-left pixels of their windows on the canvas.
        """
        with tf.device(self._device), hints_to_log():
            here = tf.constant(corners, tf.int64)
            seen = None if self._seen is None else cut(self._seen, here, batch.amplitude.shape[-1])
            patches, weights = self._weighted(Batch.of(batch), seen)
            add_patches(self._total, patches, here)
            add_patches(self._covered, weights, here)

    def end(self) -> None:
        """Average; where no frame looked the image stays what it was, 1 in the first pass."""
        with tf.device(self._device):
            total, covered = map(tf.convert_to_tensor, (self._total, self._covered))
            before = tf.ones_like(total) if self._seen is None else self._seen
            mean = total / tf.cast(tf.maximum(covered, 1e-12), tf.complex64)
            self._seen = tf.where(covered > 0, mean, before)

    def image(self) -> np.ndarray:
        """Return the image (H, W) complex64 of the last pass that ended."""
        if self._seen is None:
            raise RuntimeError("no pass has ended")
        return self._seen.numpy()


def _weighted_patches(
    network: PtychoNetwork, batch: Batch, seen: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Weighted patches of all frames, and the weights: (B, N, N) complex and real."""
    patches = network.patches(batch, seen)
    if not (network.by_frame or network.model.object_big):
        patches = network.agreed(patches, batch.corners)
    weights = tf.broadcast_to(network.weights, tf.shape(patches))
    return patches * tf.cast(weights, patches.dtype), weights
