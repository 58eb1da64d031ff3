"""A network together with the physics around it: its inputs, its patches, and what a detector would see."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import torch
from ptycho_config.models import ModelConfig
from ptycho_core.learning.architectures import check_network, unet_channels
from ptycho_core.learning.frames import FrameBatch
from ptycho_core.physics.normalisation import probe_back_in_gauge, probe_in_gauge
from ptycho_core_torch.forward import back_project, detector_intensity, move_probe
from ptycho_core_torch.networks.unet import Unet
from ptycho_core_torch.overlap import cut, merge, place
from torch import Tensor, nn

__all__ = ["Batch", "PtychoNetwork"]

#: Added to |P|^2 / max|P|^2, so that every pixel of a patch has some weight.
_WEIGHT_FLOOR = 1e-3


@dataclass(frozen=True)
class Batch:
    """Frames that are solved together; B frames, n = N pixels.

    Attributes:
        amplitude: (B, n, n) unit amplitude, mean energy (N/2)^2 over the scan, zero frequency in the centre.
        counts: (B, n, n) measured counts.
        corners: (B, 2) int64, top-left pixel (y, x) of each window on a canvas.
        rests_px: (B, 2) what is left of the positions, which moves the probe.
        good: (B or 1, n, n) 1 where the detector works, None where it works everywhere.
        truth: (B, n, n) the true object patches, None where they are not known.
    """

    amplitude: Tensor
    counts: Tensor
    corners: Tensor
    rests_px: Tensor
    good: Tensor | None = None
    truth: Tensor | None = None

    @classmethod
    def of(cls, frames: FrameBatch) -> Batch:
        """Share the memory of frames on the host."""
        return cls(*(None if part is None else torch.from_numpy(part) for part in frames))  # pyright: ignore[reportArgumentType]

    def to(self, device: torch.device | str) -> Batch:
        """Move everything to a device."""
        moved = {
            name: part.to(device, non_blocking=True) for name, part in vars(self).items() if part is not None
        }
        return Batch(**moved)


class PtychoNetwork(nn.Module):
    """Object patches from diffraction patterns, and the way back to the detector.

    The probe is held in the gauge of the configuration; `log_scale` is the logarithm of the factor from unit
    amplitude to the root of counts.

    Attributes:
        probe_parts: (P, N, N, 2), real and imaginary part of the probe; a parameter where it is trained.
    """

    probe_parts: Tensor
    back_projection_std: Tensor

    def __init__(self, model: ModelConfig, probe: np.ndarray, intensity_scale: float) -> None:
        super().__init__()
        check_network(model, probe.shape[-1])
        self.model = model
        self.network = _build(model)
        self.register_buffer("probe_parts", _parts(probe_in_gauge(probe, model)), persistent=False)
        self.register_buffer("back_projection_std", torch.ones(()))
        self.log_scale = nn.Parameter(torch.tensor(math.log(intensity_scale)))

    @property
    def probe(self) -> Tensor:
        """The probe (P, N, N) complex; it shares the memory of its parts."""
        return torch.view_as_complex(self.probe_parts)

    @property
    def weights(self) -> Tensor:
        """Weight (N, N) of each pixel of a patch where patches are averaged: the light it got."""
        light = self.probe_parts.detach().square().sum((0, 3))
        return light / light.max() + _WEIGHT_FLOOR

    def with_probe(self, probe: np.ndarray) -> PtychoNetwork:
        """Return the same network around another probe (P, N, N)."""
        other = copy.deepcopy(self)
        other.hold_probe(_parts(probe_in_gauge(probe, self.model)).to(self.probe_parts.device))
        return other

    def train_probe(self) -> None:
        """Let the optimiser change the probe too."""
        parts = self.probe_parts
        del self.probe_parts
        self.probe_parts = nn.Parameter(parts.clone())

    def hold_probe(self, parts: Tensor | None = None) -> None:
        """Hold the probe still, as it is, or with other parts (P, N, N, 2)."""
        parts = self.probe_parts.detach() if parts is None else parts
        del self.probe_parts
        self.register_buffer("probe_parts", parts, persistent=False)

    @torch.no_grad()
    def rescale_probe(self) -> None:
        """Take a probe that was trained back to its gauge; `log_scale` makes up for it, and rates stay."""
        fitting, factor = probe_back_in_gauge(self.probe.detach().cpu().numpy(), self.model)
        self.probe_parts.copy_(_parts(fitting))
        self.log_scale -= math.log(factor)

    def calibrate(self, amplitude: Tensor) -> None:
        """Set the scale of the back-projection from some frames (B, N, N) of unit amplitude."""
        back = back_project(amplitude, self.probe.detach())
        spread = (back.real.square().mean() + back.imag.square().mean()) / 2
        self.back_projection_std.copy_(spread.sqrt().clamp_min(1e-12))

    def inputs(self, batch: Batch, image: Tensor | None = None) -> Tensor:
        """What the network sees of frames: (B, 1, N, N) amplitude, (B, 3, N, N) with the back-projection.

        Where frames are seen more than once, (B, 5, N, N): the back-projection from the image so far, and
        that image, as real and imaginary part of (B, N, N) minus 1; it is transparent at first.
        """
        if self.model.input_channels == "amplitude":
            return batch.amplitude[:, None]
        probe = self.probe.detach()  # it learns from what it explains, not from what it shows the network
        if self.model.unet_passes == 1:
            back = back_project(batch.amplitude, probe) / self.back_projection_std
            return torch.stack([batch.amplitude, back.real, back.imag], 1)
        if image is None:
            image = torch.ones_like(batch.amplitude, dtype=probe.dtype)
        probes = move_probe(probe, batch.rests_px)
        back = back_project(batch.amplitude, probes, image) / self.back_projection_std
        return torch.stack([batch.amplitude, back.real, back.imag, image.real - 1, image.imag], 1)

    def patches(self, batch: Batch, image: Tensor | None = None) -> Tensor:
        """Object patches (B, N, N), each in the window of its frame, one pass and nothing averaged.

        Where the groups of the model have several members, the classic networks count frames group by group;
        with `object_big` off each group has one patch, given to the first of its members.

        Args:
            image: what the frames agreed on in the pass before, (B, N, N).
        """
        if self.by_frame:
            return self.network(self.inputs(batch, image))[:, 0]
        n = batch.amplitude.shape[-1]
        return self.network(batch.amplitude.view(-1, self.model.gridsize**2, n, n)).reshape(-1, n, n)

    @property
    def by_frame(self) -> bool:
        """Whether the network sees each frame for itself, whatever its group."""
        return self.model.architecture == "unet" or self.model.gridsize == 1

    def agreed(self, patches: Tensor, corners: Tensor) -> Tensor:
        """Average patches where they overlap with others: of the batch, or of their group."""
        n = patches.shape[-1]
        members = len(corners) if self.model.overlap_constraint == "batch" else self.model.gridsize**2
        groups = corners.view(-1, members, 2)
        local = groups - groups.amin(1, keepdim=True)
        height, width = (local.amax((0, 1)) + n).tolist()
        # Groups must not meet: each has its own storey of one tall canvas.
        storey = torch.arange(len(groups), device=corners.device) * height
        local = local + torch.stack([storey, torch.zeros_like(storey)], -1)[:, None]
        shape = (len(groups) * height, width)
        if len(patches) < len(corners):
            centres = torch.floor(local.to(torch.float32).mean(1) + 0.5).to(torch.int64)
            canvas = place(patches, centres, shape)
        else:
            canvas, _ = merge(patches, local.view(-1, 2), self.weights, shape)
        return cut(canvas, local.view(-1, 2), n)

    def rate(self, patches: Tensor, rests_px: Tensor) -> Tensor:
        """Counts that the detector would see of the patches: (B, N, N)."""
        probes = move_probe(self.probe, rests_px)
        return torch.exp(2 * self.log_scale) * detector_intensity(probes, patches)

    def passes(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the patches and the rates they predict after each pass; see `forward`.

        A pass takes the image of the one before as it is: nothing is learned through it.
        """
        lonely = self.model.overlap_constraint == "group" and self.model.gridsize == 1
        image = None
        for _ in range(self.model.unet_passes):
            patches = self.patches(batch, image)
            if self.model.overlap_constraint != "none" and not lonely:
                patches = self.agreed(patches, batch.corners)
            image = patches.detach()
            yield patches, self.rate(patches, batch.rests_px)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the patches as their overlap constraint leaves them, and the rates they predict."""
        return list(self.passes(batch))[-1]


def _parts(probe: np.ndarray) -> Tensor:
    return torch.view_as_real(torch.from_numpy(probe.astype(np.complex64))).contiguous()


def _build(model: ModelConfig) -> nn.Module:
    if model.architecture == "unet":
        # The layout that oneDNN and cuDNN want beside channels-last images; else steps copy the weights.
        return Unet(unet_channels(model)).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    from ptycho_core_torch.networks.classic import classic_network

    return classic_network(model)
