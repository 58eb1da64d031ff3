"""A trained network: reconstruct scans with it, save it, load it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import torch
from ptycho_config.errors import ConfigError, TrainingError
from ptycho_config.execution import PyTorchExecutionConfig, SolverExecutionConfig
from ptycho_config.models import InferenceConfig, TrainingConfig
from ptycho_core.assemble import make_reconstruction
from ptycho_core.bundle import Scaling
from ptycho_core.callbacks import (
    Callback,
    CallbackList,
    EpochReport,
    LevelPlan,
    RunEvent,
    RunStart,
    StepReport,
)
from ptycho_core.grouping import group_frames
from ptycho_core.normalisation import intensity_scale, physical_probe
from ptycho_core.probe_refinement import refine_probe, same_probe
from ptycho_core.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core_torch.frames import Frames
from ptycho_core_torch.memory import is_out_of_memory, smaller_inference_advice
from ptycho_core_torch.network import PtychoNetwork
from ptycho_core_torch.overlap import add_patches, cut

__all__ = ["TrainedNetwork"]

_MARGIN_PX = 4
#: Frames from the middle of a scan that are enough to refine its probe.
_PROBE_FRAMES = 150
#: Frames of one inference step where nobody chose it: what fits the caches of a CPU, and what fills a GPU.
_FRAMES_AT_ONCE = {"cpu": 32, "other": 256}


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedNetwork:
    """Weights, probe and scales of a network, ready for scans of the same frame size."""

    network: PtychoNetwork
    training: TrainingConfig
    execution: PyTorchExecutionConfig
    scaling: Scaling
    probe_given: np.ndarray
    history: tuple[Mapping[str, Any], ...] = ()
    interrupted: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(weight.numel() for weight in self.network.parameters())

    def with_given_probe(self, probe: np.ndarray) -> TrainedNetwork:
        """Return the network with a note of the probe that its scan came with, before any refinement."""
        return replace(self, probe_given=probe)

    def save(self, path: str | Path) -> Path:
        """Write the bundle: a path that ends in `.zip` is the file, anything else its directory."""
        from ptycho_core_torch.bundles import save_network

        return save_network(self, path)

    def reconstruct(
        self,
        scan: Scan,
        config: InferenceConfig | None = None,
        *,
        callbacks: Sequence[Callback] = (),
    ) -> Reconstruction:
        """Give each frame to the network once and average the patches by the light they got.

        Raises:
            ConfigError: the frames have another size than those the network was trained on.
            TrainingError: the memory does not suffice; names the batch to try.
        """
        if scan.frame_px != self.network.model.N:
            raise ConfigError(
                f"The network was trained on frames of {self.network.model.N} px and {scan.name} has "
                f"frames of {scan.frame_px} px. Train one for this size, or use `--method solver`."
            )
        began = time.perf_counter()
        listeners = CallbackList(callbacks)
        device = torch.device({"gpu": "cuda"}.get(self.execution.accelerator, self.execution.accelerator))
        scan, members = _members(scan, self.training, None if config is None else config.n_groups)
        frames = Frames(scan)
        network = self._network_for(scan, listeners).to(device).eval()
        size = self.execution.inference_batch_size or _FRAMES_AT_ONCE.get(
            device.type, _FRAMES_AT_ONCE["other"]
        )
        n_passes, n_batches = network.model.unet_passes, -(-len(members) // size)
        plan = LevelPlan(scan.frame_px, n_passes, n_batches)
        listeners.on_start(
            RunStart("network", scan.name, scan.n_frames, scan.frame_px, (plan,), n_passes * n_batches)
        )
        corners = frames.corners + _MARGIN_PX
        batches = np.array_split(members, n_batches)
        try:
            with torch.inference_mode(), _precision(self.execution.precision, device):
                image, interrupted = _one_pass(network, frames, corners, batches, None, listeners, 1)
                for number in range(2, n_passes + 1):
                    if interrupted:
                        break
                    image, interrupted = _one_pass(
                        network, frames, corners, batches, image, listeners, number
                    )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(smaller_inference_advice(size)) from error
        seconds = time.perf_counter() - began
        probe = physical_probe(
            network.probe.cpu().numpy(),
            output_scale=math.exp(network.log_scale.item()),
            s=intensity_scale(self.scaling.nphotons, scan.frame_px),
            alpha=frames.alpha,
        )
        origin = scan.positions_px.min(axis=0) - _MARGIN_PX - scan.frame_px // 2
        result = make_reconstruction(
            scan,
            obj=image.cpu().numpy(),
            probe=probe.astype(np.complex64),
            origin_px=origin.astype(np.float64),
            method="network",
        )
        side = scan.frame_px
        row = {"level": 1, "size_px": side, "epoch": 1, "residual": result.data_residual, "seconds": seconds}
        listeners.on_epoch(
            EpochReport(1, 1, side, 1, 1, result.data_residual, scan.n_frames / seconds, seconds, 0.0)
        )
        return replace(
            result,
            history=({**row, "stepped_back": False},),
            timings={"network": seconds, "total": time.perf_counter() - began},
            interrupted=interrupted,
            provenance=dict(self.provenance) | {"torch": version("torch")},
        )

    def _network_for(self, scan: Scan, listeners: CallbackList) -> PtychoNetwork:
        """Return the network, with the probe of this scan where it is another than the one trained with."""
        known = (self.probe_given, self.network.probe.cpu().numpy())
        if scan.probe_source == "estimated" or any(same_probe(scan.probe, probe) for probe in known):
            return self.network
        execution = SolverExecutionConfig(arrays="numpy", accelerator="cpu")
        probe = refine_probe(scan, most_frames=_PROBE_FRAMES, execution=execution).probe
        listeners.on_event(
            RunEvent(
                "probe",
                f"The probe of {scan.name} is not the one that the network was trained with; the solver "
                "refined it from frames around the middle.",
            )
        )
        return self.network.with_probe(probe)


def _precision(precision: str, device: torch.device) -> torch.autocast:
    """The precision in which the layers of a network work: that of the execution, as in training."""
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "32-true")


def _one_pass(
    network: PtychoNetwork,
    frames: Frames,
    corners: torch.Tensor,
    batches: Sequence[np.ndarray],
    image: torch.Tensor | None,
    listeners: CallbackList,
    number: int,
) -> tuple[torch.Tensor, bool]:
    """Show all frames to the network and average the patches.

    Args:
        corners: (J, 2) of the windows on the canvas.
        batches: members (G, C) of groups.
        image: the canvas (H, W) after the pass before; None in the first.
        number: of this pass.
    Returns:
        The canvas on the network's device, 1 where no frame looks, and whether somebody wanted to stop.
    """
    side, device = frames.scan.frame_px, network.probe.device
    height, width = (corners.amax(0) + side + _MARGIN_PX).tolist()
    total = torch.zeros((height, width), dtype=torch.complex64, device=device)
    covered = torch.zeros((height, width), device=device)
    weights, done, interrupted = network.weights, 0, False
    for step, chosen in enumerate(batches, 1):
        members = chosen.reshape(-1)
        batch, here = frames.batch(members).to(device), corners[members].to(device)
        seen = None if image is None else cut(image, here, side)
        patches = network.patches(batch, seen)
        if len(patches) < chosen.size:
            patches = network.agreed(patches, batch.corners)
        add_patches(total, patches * weights, here)
        add_patches(covered, weights.expand(len(members), -1, -1), here)
        done = min(frames.scan.n_frames, done + len(chosen))
        listeners.on_step(StepReport(1, side, number, step, len(batches), float("nan"), done))
        if listeners.should_stop():
            interrupted = True
            listeners.on_event(RunEvent("stopped", f"Stopped on request after {done} frames."))
            break
    before = torch.ones_like(total) if image is None else image
    return torch.where(covered > 0, total / covered.clamp_min(1e-12), before), interrupted


def _members(scan: Scan, training: TrainingConfig, n_groups: int | None) -> tuple[Scan, np.ndarray]:
    """One group for each frame, or the first so many; the frames they use, and their members (G, C)."""
    gridsize = 1 if training.model.architecture == "unet" else training.model.gridsize
    members = group_frames(
        scan.positions_px,
        gridsize,
        neighbor_count=max(training.neighbor_count, gridsize**2 - 1),
        sequential=True,
    ).indices[:n_groups]
    used = np.unique(members)
    if len(used) < scan.n_frames:
        scan, members = scan.select(used), np.searchsorted(used, members)
    return scan, members
