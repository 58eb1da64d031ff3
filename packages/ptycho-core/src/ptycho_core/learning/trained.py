"""A trained network, whichever core holds it: how it reconstructs a scan."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ptycho_config.errors import BundleError, ConfigError, TrainingError
from ptycho_config.execution import InferenceExecution, SolverExecutionConfig
from ptycho_config.models import InferenceConfig, ModelConfig, SolverConfig, TrainingConfig
from ptycho_core.bundle import Bundle, Scaling, write_bundle
from ptycho_core.citations import Record, cited
from ptycho_core.learning.advice import smaller_inference_advice
from ptycho_core.learning.frames import FrameBatch, Frames
from ptycho_core.learning.prepare import Earlier
from ptycho_core.learning.probe_refinement import refine_probe, same_probe
from ptycho_core.physics.normalisation import intensity_scale, physical_probe
from ptycho_core.result.assemble import make_reconstruction
from ptycho_core.result.callbacks import (
    Callback,
    CallbackList,
    EpochReport,
    LevelPlan,
    RunStart,
    StepReport,
    told_of_the_end,
)
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.grouping import group_frames

__all__ = ["SCALARS", "Imager", "Trained", "write_stored"]

#: An object of amplitude 1 is transparent.
_LARGEST_AMPLITUDE = 1e6
_MARGIN_PX = 4
#: Frames from the middle of a scan that are enough to refine its probe.
_PROBE_FRAMES = 150
#: Frames of one inference step where it was not chosen: what fits the caches of a CPU, and what fills a GPU.
_FRAMES_AT_ONCE = {"cpu": 32, "gpu": 256}


@runtime_checkable
class Imager(Protocol):
    """A network on its device, and the canvas on which it averages the patches of one scan."""

    def begin(self, shape: tuple[int, int]) -> None:
        """Take an empty canvas (H, W); what was averaged before is the image that frames are seen beside."""
        ...

    def add(self, batch: FrameBatch, corners: np.ndarray) -> None:
        """Show frames to the network and add their patches.

        Args:
            batch: B frames, group by group.
            corners: (B, 2) top-left pixels of their windows on the canvas.
        """
        ...

    def end(self) -> None:
        """Average; where no frame looked the image stays what it was, 1 in the first pass."""
        ...

    def image(self) -> np.ndarray:
        """Return the image (H, W) complex64 of the last pass that ended."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained(ABC):
    """Weights, probe and scales of a network, ready for scans of the same frame size.

    Attributes:
        network: the `PtychoNetwork` of a core, or what was exported.
        probe_given: (P, N, N) that the scan came with, before any refinement.
        history: one row an epoch.
        scaling: what the network was trained with; a bundle carries it.
        interrupted: the training was ended early, on request.
    """

    network: Any
    training: TrainingConfig
    execution: InferenceExecution
    scaling: Scaling
    probe_given: np.ndarray
    history: tuple[Mapping[str, Any], ...] = ()
    interrupted: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def earlier(self) -> Earlier:
        """This, as a training to go on with."""
        return Earlier(self.training, self.history, (self.probe_given, self.probe))

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Number of trained numbers."""

    @abstractmethod
    def save(self, path: str | Path) -> Path:
        """Write the bundle: a path that ends in `.zip` is the file, anything else its directory."""

    @property
    @abstractmethod
    def probe(self) -> np.ndarray:
        """The probe (P, N, N) complex64 in the gauge of the configuration."""

    @abstractmethod
    def imager(self) -> Imager:
        """Put the network on its device, with a canvas that is still to be begun."""

    @property
    @abstractmethod
    def _framework(self) -> Mapping[str, Any]:
        """Version of what computes, and what it made of the execution where it resolves that itself."""

    @property
    @abstractmethod
    def _output_scale(self) -> float:
        """From unit amplitude to the root of counts."""

    @abstractmethod
    def _with_probe(self, probe: np.ndarray) -> Trained:
        """Return the same around another probe (P, N, N), in physical units."""

    @abstractmethod
    def _on_gpu(self) -> bool:
        """Whether a GPU computes."""

    @abstractmethod
    def _is_out_of_memory(self, error: Exception) -> bool:
        """Whether an error means that the memory does not suffice."""

    def with_given_probe(self, probe: np.ndarray) -> Trained:
        """Return the network with a note of the probe that its scan came with, before any refinement."""
        return replace(self, probe_given=probe)

    @property
    def group_size(self) -> int:
        """Frames that the network sees together to make an image of one."""
        return _gridsize(self.training.model) ** 2

    def groups(self, positions_px: np.ndarray) -> np.ndarray:
        """Return the frames (M, C) that the network sees together for each of M frames, that frame first."""
        return _groups(positions_px, self.training)

    def papers(self, *, probe_refined: bool = False) -> list[Record]:
        """Give the papers behind an image by this network, as `run.json` holds them.

        Args:
            probe_refined: the solver found the probe, and took part in that.
        """
        modes = len(self.probe)
        solver = SolverConfig(probe_modes=modes, prior="none") if probe_refined else None
        return cited(solver=solver, model=self.training.model, probe_modes=modes)

    def reconstruct(
        self, scan: Scan, config: InferenceConfig | None = None, *, callbacks: Sequence[Callback] = ()
    ) -> Reconstruction:
        """Give each frame to the network once and average the patches by the light they got.

        Raises:
            ConfigError: the frames have another size than those the network was trained on.
            TrainingError: the memory does not suffice; names the batch to try.
        """
        with told_of_the_end(callbacks):
            return self._reconstructed(scan, config, CallbackList(callbacks))

    def _reconstructed(
        self, scan: Scan, config: InferenceConfig | None, listeners: CallbackList
    ) -> Reconstruction:
        """Do what `reconstruct` says."""
        model = self.training.model
        if scan.frame_px != model.N:
            raise ConfigError(
                f"The network was trained on frames of {model.N} px and {scan.name} has "
                f"frames of {scan.frame_px} px. Train one for this size, or use `--method solver`."
            )
        began = time.perf_counter()
        scan, members = _members(scan, self.training, None if config is None else config.n_groups)
        trained = self._for_probe_of(scan, listeners)
        size = self.execution.inference_batch_size or _FRAMES_AT_ONCE["gpu" if self._on_gpu() else "cpu"]
        try:
            image, interrupted = _image(trained.imager(), scan, members, size, model.unet_passes, listeners)
        except Exception as error:
            if not self._is_out_of_memory(error):
                raise
            raise TrainingError(smaller_inference_advice(size, self.execution)) from error
        seconds = time.perf_counter() - began
        origin = scan.positions_px.min(axis=0) - _MARGIN_PX - scan.frame_px // 2
        result = trained.judged(scan, image, origin.astype(np.float64))
        side, residual = scan.frame_px, result.data_residual
        row = {"level": 1, "size_px": side, "epoch": 1, "residual": residual, "seconds": seconds}
        listeners.on_epoch(EpochReport(1, 1, side, 1, 1, residual, scan.n_frames / seconds, seconds, 0.0))
        return replace(
            result,
            history=({**row, "stepped_back": False},),
            timings={"network": seconds, "total": time.perf_counter() - began},
            interrupted=interrupted,
            provenance={
                **self.provenance,
                **self._framework,
                "papers": trained.papers(probe_refined=trained is not self),
            },
        )

    def judged(self, scan: Scan, image: np.ndarray, origin_px: np.ndarray) -> Reconstruction:
        """Join an image of the scan (H, W) with the probe that it was made with, and judge it.

        Args:
            origin_px: scan coordinate (y, x) of its pixel [0, 0].

        Raises:
            BundleError: the image is none: not finite, or far too bright.
        """
        if not float(np.abs(image).max(initial=0)) < _LARGEST_AMPLITUDE:
            raise BundleError(
                f"The network gives no image of {scan.name}: its values are not finite, or beyond "
                f"{_LARGEST_AMPLITUDE:.0e}. Its weights or scaling do not fit; train again with `ptycho "
                "train`, or use `--method solver`.",
                finding="BUNDLE-001",
            )
        frames = Frames(scan)
        probe = physical_probe(
            self.probe,
            output_scale=self._output_scale,
            s=intensity_scale(self.scaling.nphotons, scan.frame_px),
            alpha=frames.alpha,
        )
        return make_reconstruction(
            scan,
            obj=image,
            probe=probe.astype(np.complex64),
            origin_px=origin_px,
            method="network",
        )

    def _for_probe_of(self, scan: Scan, listeners: CallbackList) -> Trained:
        """Return this, with the probe of the scan where it is another than the one trained with."""
        known = (self.probe_given, self.probe)
        if scan.probe_source == "estimated" or any(same_probe(scan.probe, probe) for probe in known):
            return self
        execution = SolverExecutionConfig(arrays="numpy", accelerator="cpu")
        probe = refine_probe(scan, most_frames=_PROBE_FRAMES, execution=execution).probe
        listeners.on_event(
            RunEvent(
                "probe",
                f"The probe of {scan.name} is not the one that the network was trained with; the solver "
                "refined it from frames around the middle.",
            )
        )
        return self._with_probe(probe)


def _image(
    imager: Imager, scan: Scan, members: np.ndarray, size: int, n_passes: int, listeners: CallbackList
) -> tuple[np.ndarray, bool]:
    """Show all frames to the network, pass after pass.

    Args:
        members: (G, C) of groups.
        size: groups of one step.
    Returns:
        The canvas, 1 where no frame looks, and whether it was stopped on request.
    """
    frames, side = Frames(scan), scan.frame_px
    corners = frames.corners + _MARGIN_PX
    height, width = (corners.max(axis=0) + side + _MARGIN_PX).tolist()
    batches = np.array_split(members, -(-len(members) // size))
    plan = LevelPlan(side, n_passes, len(batches))
    listeners.on_start(RunStart("network", scan.name, scan.n_frames, side, (plan,), n_passes * len(batches)))
    for number in range(1, n_passes + 1):
        imager.begin((height, width))
        done = 0
        for step, chosen in enumerate(batches, 1):
            indices = chosen.reshape(-1)
            imager.add(frames.batch(indices), corners[indices])
            done = min(scan.n_frames, done + len(chosen))
            listeners.on_step(StepReport(1, side, number, step, len(batches), float("nan"), done))
            if listeners.should_stop():
                listeners.on_event(RunEvent("stopped", f"Stopped on request after {done} frames."))
                imager.end()
                return imager.image(), True
        imager.end()
    return imager.image(), False


def _members(scan: Scan, training: TrainingConfig, n_groups: int | None) -> tuple[Scan, np.ndarray]:
    """One group for each frame, or the first so many; the frames they use, and their members (G, C)."""
    members = _groups(scan.positions_px, training)[:n_groups]
    used = np.unique(members)
    if len(used) < scan.n_frames:
        scan, members = scan.select(used), np.searchsorted(used, members)
    return scan, members


def _groups(positions_px: np.ndarray, training: TrainingConfig) -> np.ndarray:
    gridsize = _gridsize(training.model)
    neighbours = max(training.neighbor_count, gridsize**2 - 1)
    return group_frames(positions_px, gridsize, neighbor_count=neighbours, sequential=True).indices


def _gridsize(model: ModelConfig) -> int:
    return 1 if model.architecture == "unet" else model.gridsize


def write_stored(
    path: str | Path,
    trained: Trained,
    *,
    weights: Mapping[str, np.ndarray],
    probe: np.ndarray,
    backend: str,
    versions: Mapping[str, str],
) -> Path:
    """Write `wts.h5.zip`.

    Args:
        weights: tensors of the architecture and `SCALARS`, float32, in the canonical layout.
        probe: (P, N, N) in the gauge of the configuration.
        backend, versions: the core that writes, and its framework; those that trained it are kept.
    """
    model = trained.training.model
    bundle = Bundle(
        architecture=model.architecture,
        model=model.model_dump(mode="json"),
        training=trained.training.model_dump(mode="json", exclude={"model"}),
        weights=dict(weights),
        scaling=trained.scaling,
        probe=probe,
        probe_given=trained.probe_given.astype(np.complex64),
        history=trained.history,
        # Who opens a bundle and writes it again did not train it.
        provenance={"backend": backend, **versions, **trained.provenance},
    )
    return write_bundle(path, bundle)


#: Scalars of a `PtychoNetwork` that are stored beside the tensors of its architecture.
SCALARS = ("log_scale", "back_projection_std")
