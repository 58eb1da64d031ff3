"""A network together with the physics around it: its inputs, its patches, and what a detector would see."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np

import torch
from ptycho_config.errors import ConfigError
from ptycho_config.models import ModelConfig
from ptycho_core.normalisation import scale_probe, soft_mask
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
        truth: (B, n, n) the true object patches, None where nobody knows them.
    """

    amplitude: Tensor
    counts: Tensor
    corners: Tensor
    rests_px: Tensor
    good: Tensor | None = None
    truth: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Move everything to a device."""
        moved = {
            name: part.to(device, non_blocking=True) for name, part in vars(self).items() if part is not None
        }
        return Batch(**moved)


class PtychoNetwork(nn.Module):
    """Object patches from diffraction patterns, and the way back to the detector.

    The probe is held in the gauge of the configuration, (P, N, N) complex; `log_scale` is the logarithm of
    the factor from unit amplitude to the root of counts.
    """

    probe: Tensor
    back_projection_std: Tensor

    def __init__(self, model: ModelConfig, probe: np.ndarray, intensity_scale: float) -> None:
        super().__init__()
        if model.overlap_constraint == "none" and not model.object_big and model.gridsize > 1:
            raise ConfigError(
                "`--object-big false` needs `--overlap-constraint group`: one patch for a group."
            )
        if probe.shape[-1] != model.N:
            raise ConfigError(
                f"`N` is {model.N} and the probe {probe.shape[-1]} px wide. Leave `N` out, or give a scan of "
                f"{model.N} px frames."
            )
        self.model = model
        self.network = _build(model)
        self.register_buffer("probe", _in_gauge(probe, model), persistent=False)
        self.register_buffer("back_projection_std", torch.ones(()))
        self.log_scale = nn.Parameter(torch.tensor(math.log(intensity_scale)))

    @property
    def weights(self) -> Tensor:
        """Weight (N, N) of each pixel of a patch where patches are averaged: the light it got."""
        light = (self.probe.real.square() + self.probe.imag.square()).sum(0)
        return light / light.max() + _WEIGHT_FLOOR

    def with_probe(self, probe: np.ndarray) -> PtychoNetwork:
        """Return the same network around another probe (P, N, N)."""
        other = copy.deepcopy(self)
        other.probe = _in_gauge(probe, self.model).to(self.probe.device)
        return other

    def calibrate(self, amplitude: Tensor) -> None:
        """Set the scale of the back-projection from some frames (B, N, N) of unit amplitude."""
        back = back_project(amplitude, self.probe)
        spread = (back.real.square().mean() + back.imag.square().mean()) / 2
        self.back_projection_std.copy_(spread.sqrt().clamp_min(1e-12))

    def inputs(self, amplitude: Tensor) -> Tensor:
        """What the network sees of unit amplitude (B, N, N): (B, 1 or 3, N, N)."""
        if self.model.input_channels == "amplitude":
            return amplitude[:, None]
        back = back_project(amplitude, self.probe) / self.back_projection_std
        return torch.stack([amplitude, back.real, back.imag], 1)

    def patches(self, amplitude: Tensor) -> Tensor:
        """Object patches (B, N, N), each in the window of its frame, one pass and nothing averaged.

        Where the groups of the model have several members, B counts frames group by group; with
        `object_big` off each group has one patch, given to the first of its members.
        """
        members = self.model.gridsize**2
        if members == 1:
            return self.network(self.inputs(amplitude))[:, 0]
        n = amplitude.shape[-1]
        return self.network(amplitude.view(-1, members, n, n)).reshape(-1, n, n)

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

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the patches as their overlap constraint leaves them, and the rates they predict."""
        patches = self.patches(batch.amplitude)
        lonely = self.model.overlap_constraint == "group" and self.model.gridsize == 1
        if self.model.overlap_constraint != "none" and not lonely:
            patches = self.agreed(patches, batch.corners)
        return patches, self.rate(patches, batch.rests_px)


def _in_gauge(probe: np.ndarray, model: ModelConfig) -> Tensor:
    mask = None
    if model.probe_mask:
        mask = soft_mask(model.N, sigma_px=model.probe_mask_sigma, diameter_px=model.probe_mask_diameter)
    scaled = scale_probe(probe, model.probe_gauge, probe_scale=model.probe_scale, mask=mask)
    return torch.from_numpy(scaled.astype(np.complex64))


def _build(model: ModelConfig) -> nn.Module:
    if model.architecture == "unet":
        if model.gridsize != 1:
            raise ConfigError(
                f"`unet` solves frames one by one and lets all of a batch agree; `gridsize` {model.gridsize} "
                "needs another architecture, such as `cnn`."
            )
        return Unet(1 if model.input_channels == "amplitude" else 3)
    from ptycho_core_torch.networks.classic import classic_network

    return classic_network(model)
