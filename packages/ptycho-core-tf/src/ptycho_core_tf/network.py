"""A network together with the physics around it: its inputs, its patches, and what a detector would see."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from ptycho_config.models import ModelConfig
from ptycho_core.learning.architectures import check_network, unet_channels
from ptycho_core.learning.frames import FrameBatch
from ptycho_core.physics.normalisation import probe_back_in_gauge, probe_in_gauge
from ptycho_core_tf.forward import back_project, detector_intensity, move_probe
from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.fused import compiled_parts
from ptycho_core_tf.networks.pooling import compiled_whole
from ptycho_core_tf.networks.unet import Unet
from ptycho_core_tf.overlap import cut, merge, place
from ptycho_core_tf.weights import named_variables, read_weights, write_weights

__all__ = ["Batch", "PtychoNetwork"]

#: Added to |P|^2 / max|P|^2, so that every pixel of a patch has some weight.
_WEIGHT_FLOOR = 1e-3


class Batch(NamedTuple):  # a tuple, which tf.function, tf.data and strategies take apart by themselves
    """Frames that are solved together; B frames, n = N pixels.

    Attributes:
        amplitude: (B, n, n) unit amplitude, mean energy (N/2)^2 over the scan, zero frequency in the centre.
        counts: (B, n, n) measured counts.
        corners: (B, 2) int64, top-left pixel (y, x) of each window on a canvas.
        rests_px: (B, 2) what is left of the positions, which moves the probe.
        good: (B or 1, n, n) 1 where the detector works, None where it works everywhere.
        truth: (B, n, n) the true object patches, None where they are not known.
    """

    amplitude: tf.Tensor
    counts: tf.Tensor
    corners: tf.Tensor
    rests_px: tf.Tensor
    good: tf.Tensor | None = None
    truth: tf.Tensor | None = None

    @classmethod
    def of(cls, frames: FrameBatch) -> Batch:
        """Copy frames of the host."""
        return cls(*(None if part is None else tf.convert_to_tensor(part) for part in frames))

    def to(self, device: str) -> Batch:
        """Copy everything to a device."""
        with tf.device(device):
            return Batch(*(None if part is None else tf.identity(part) for part in self))


class PtychoNetwork(tf.Module):  # no Keras layer: those claim the names `weights`, `output` and `dtype`
    """Object patches from diffraction patterns, and the way back to the detector.

    The probe is held in the gauge of the configuration; `log_scale` is the logarithm of the factor from unit
    amplitude to the root of counts.

    Attributes:
        probe_parts: (P, N, N, 2), real and imaginary part of the probe; a parameter where it is trained.
    """

    def __init__(
        self, model: ModelConfig, probe: np.ndarray, intensity_scale: float, *, dtype: str = "float32"
    ) -> None:
        """Build the network.

        Args:
            dtype: of weights and results, `float32` or `float64`.
        """
        super().__init__()
        check_network(model, probe.shape[-1])
        self.model = model
        self.compute_dtype = dtype
        """What the network itself computes in; half precision is allowed, the physics keeps its own."""
        self.jit_compile: bool | Literal["auto"] = "auto"
        """What XLA compiles: the network, nothing, or what it makes faster: on a CPU, what lies between the
        convolutions."""
        self.network = _build(model, dtype)
        self._compiled = tf.function(self._traced_whole, jit_compile=True, autograph=False)
        self.probe_parts = tf.Variable(
            _parts(probe_in_gauge(probe, model)), trainable=False, dtype=dtype, name="probe"
        )
        self._trains_probe = False
        self.back_projection_std = tf.Variable(
            tf.ones((), dtype), trainable=False, name="back_projection_std"
        )
        self.log_scale = tf.Variable(math.log(intensity_scale), dtype=dtype, name="log_scale")

    @property
    def probe(self) -> tf.Tensor:
        """The probe (P, N, N) complex."""
        parts = tf.convert_to_tensor(self.probe_parts)
        return tf.complex(parts[..., 0], parts[..., 1])

    @property
    def weights(self) -> tf.Tensor:
        """Weight (N, N) of each pixel of a patch where patches are averaged: the light it got."""
        light = tf.reduce_sum(tf.square(tf.stop_gradient(tf.convert_to_tensor(self.probe_parts))), (0, 3))
        return light / tf.reduce_max(light) + _WEIGHT_FLOOR

    @property
    def parameters(self) -> list[tf.Variable]:
        """What training changes: the network's weights, `log_scale`, and the probe where it is trained."""
        probe = [self.probe_parts] if self._trains_probe else []
        return [*named_variables(self.network).values(), self.log_scale, *probe]

    def with_probe(self, probe: np.ndarray) -> PtychoNetwork:
        """Return the same network around another probe (P, N, N)."""
        other = PtychoNetwork(self.model, probe, 1.0, dtype=self.log_scale.dtype.name)
        other.take(self, probe=False)
        return other

    def train_probe(self) -> None:
        """Let the optimiser change the probe too."""
        self._trains_probe = True

    def hold_probe(self, parts: tf.Tensor | np.ndarray | None = None) -> None:
        """Hold the probe still, as it is, or with other parts (P, N, N, 2)."""
        self._trains_probe = False
        if parts is not None:
            self.probe_parts.assign(parts)

    def rescale_probe(self) -> None:
        """Take a probe that was trained back to its gauge; `log_scale` makes up for it, and rates stay."""
        fitting, factor = probe_back_in_gauge(self.probe.numpy(), self.model)
        self.probe_parts.assign(_parts(fitting))
        self.log_scale.assign(self.log_scale.numpy() - math.log(factor))

    def copied(self) -> PtychoNetwork:
        """Return the same network on a device of its own, whatever devices hold this one."""
        other = PtychoNetwork(self.model, self.probe.numpy(), 1.0, dtype=self.log_scale.dtype.name)
        other.take(self)
        return other

    def take(self, other: PtychoNetwork, *, probe: bool = True) -> None:
        """Take weights and scales of another network of the same model, and its probe unless told not to."""
        write_weights(self.network, read_weights(other.network))
        self.compute_dtype, self.jit_compile = other.compute_dtype, other.jit_compile
        for name in ("log_scale", "back_projection_std", *(["probe_parts"] if probe else [])):
            getattr(self, name).assign(getattr(other, name).numpy())

    def calibrate(self, amplitude: tf.Tensor) -> None:
        """Set the scale of the back-projection from some frames (B, N, N) of unit amplitude."""
        back = back_project(amplitude, self.probe)
        spread = tf.reduce_mean(tf.square(tf.math.real(back)) + tf.square(tf.math.imag(back))) / 2
        self.back_projection_std.assign(tf.maximum(tf.sqrt(spread), 1e-12))

    def inputs(self, batch: Batch, image: tf.Tensor | None = None) -> tf.Tensor:
        """What the network sees of frames: (B, 1, N, N) amplitude, (B, 3, N, N) with the back-projection.

        Where frames are seen more than once, (B, 5, N, N): the back-projection from the image so far, and
        that image, as real and imaginary part of (B, N, N) minus 1; it is transparent at first.
        """
        return self._inputs(batch, image)

    def _inputs(
        self, batch: Batch, image: tf.Tensor | None = None, probes: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Do so with `probes` as `_moved` gives them, where they are known already."""
        if self.model.input_channels == "amplitude":
            return batch.amplitude[:, None]
        if self.model.unet_passes == 1:
            back = self._standardised(back_project(batch.amplitude, tf.stop_gradient(self.probe)))
            return tf.stack([batch.amplitude, *back], 1)
        if image is None:
            image = tf.ones_like(batch.amplitude, dtype=self.probe.dtype)
        # It learns from what it explains, not from what it shows the network.
        probes = tf.stop_gradient(self._moved(batch.rests_px) if probes is None else probes)
        back = self._standardised(back_project(batch.amplitude, probes, image))
        return tf.stack([batch.amplitude, *back, tf.math.real(image) - 1, tf.math.imag(image)], 1)

    def patches(self, batch: Batch, image: tf.Tensor | None = None) -> tf.Tensor:
        """Object patches (B, N, N), each in the window of its frame, one pass and nothing averaged.

        Where the groups of the model have several members, the classic networks count frames group by group;
        with `object_big` off each group has one patch, given to the first of its members.

        Args:
            image: what the frames agreed on in the pass before, (B, N, N).
        """
        return self._patches(batch, image)

    def _patches(
        self, batch: Batch, image: tf.Tensor | None = None, probes: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Do so with `probes` as `_moved` gives them, where they are known already."""
        if self.by_frame:
            return self._seen(self._inputs(batch, image, probes))[:, 0]
        n = batch.amplitude.shape[-1]
        groups = tf.reshape(batch.amplitude, [-1, self.model.gridsize**2, n, n])
        return tf.reshape(self._seen(groups), [-1, n, n])

    @property
    def by_frame(self) -> bool:
        """Whether the network sees each frame for itself, whatever its group."""
        return self.model.architecture == "unet" or self.model.gridsize == 1

    def agreed(self, patches: tf.Tensor, corners: tf.Tensor) -> tf.Tensor:
        """Average patches where they overlap with others: of the batch, or of their group."""
        n = patches.shape[-1]
        members = self._members(corners)
        groups = tf.reshape(corners, tf.stack([-1, members, 2]))
        local = groups - tf.reduce_min(groups, 1, keepdims=True)
        size = tf.reduce_max(local, (0, 1)) + n
        # Groups must not meet: each has its own storey of one tall canvas.
        n_groups = tf.shape(groups, tf.int64)[0]
        storey = tf.range(n_groups) * size[0]
        local = local + tf.stack([storey, tf.zeros_like(storey)], -1)[:, None]
        shape = (n_groups * size[0], size[1])
        windows = tf.reshape(local, [-1, 2])
        if self.by_frame or self.model.object_big:
            canvas, _ = merge(patches, windows, self.weights, shape)
        else:
            centres = tf.floor(tf.reduce_mean(tf.cast(local, tf.float32), 1) + 0.5)
            canvas = place(patches, tf.cast(centres, tf.int64), shape)
        return cut(canvas, windows, n)

    def rate(self, patches: tf.Tensor, rests_px: tf.Tensor) -> tf.Tensor:
        """Counts that the detector would see of the patches: (B, N, N)."""
        return self._rate(patches, self._moved(rests_px))

    def _rate(self, patches: tf.Tensor, probes: tf.Tensor) -> tf.Tensor:
        return tf.exp(2 * self.log_scale) * detector_intensity(probes, patches)

    def _moved(self, rests_px: tf.Tensor) -> tf.Tensor:
        """Give the probe modes of each frame, (B, P, N, N)."""
        return move_probe(self.probe, rests_px)

    def passes(self, batch: Batch) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Give the patches and the rates they predict after each pass; see `__call__`.

        A pass takes the image of the one before as it is: nothing is learned through it.
        """
        lonely = self.model.overlap_constraint == "group" and self.model.gridsize == 1
        image, probes = None, self._moved(batch.rests_px)
        for _ in range(self.model.unet_passes):
            patches = self._patches(batch, image, probes)
            if self.model.overlap_constraint != "none" and not lonely:
                patches = self.agreed(patches, batch.corners)
            image = tf.stop_gradient(patches)
            yield patches, self._rate(patches, probes)

    def __call__(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the patches as their overlap constraint leaves them, and the rates they predict."""
        return list(self.passes(batch))[-1]

    def _members(self, corners: tf.Tensor) -> tf.Tensor:
        """How many frames must agree with each other."""
        if self.model.overlap_constraint == "batch":
            return tf.shape(corners)[0]
        return tf.constant(self.model.gridsize**2)

    def _standardised(self, back: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.math.real(back) / self.back_projection_std, tf.math.imag(back) / self.back_projection_std

    def _traced_whole(self, images: tf.Tensor) -> tf.Tensor:
        with compiled_whole():
            return self.network(images)

    def _seen(self, images: tf.Tensor) -> tf.Tensor:
        narrowed = tf.cast(images, self.compute_dtype)
        if self.jit_compile is True:
            return self._compiled(narrowed)
        with compiled_parts(self.jit_compile == "auto" and not tf.config.list_logical_devices("GPU")):
            return self.network(narrowed)


def _parts(probe: np.ndarray) -> np.ndarray:
    return np.stack([np.real(probe), np.imag(probe)], -1)


def _build(model: ModelConfig, dtype: str) -> tf.Module:
    if model.architecture == "unet":
        return Unet(unet_channels(model), dtype=dtype)
    from ptycho_core_tf.networks.classic import classic_network

    return classic_network(model, dtype=dtype)
