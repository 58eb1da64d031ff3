"""How a training begins: the settings are checked against the scan, and what was not chosen is settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptycho_config.errors import ConfigError
from ptycho_config.execution import NetworkExecution
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.bundle import ProbeMask, Scaling
from ptycho_core.learning.advice import settings_without_effect
from ptycho_core.learning.frames import Frames
from ptycho_core.learning.probe_refinement import same_probe
from ptycho_core.learning.recipe import batch_size_of, needs_truth, settled, view_share_of
from ptycho_core.learning.resume import check_frame_size, continued
from ptycho_core.learning.views import Views
from ptycho_core.result.callbacks import CallbackList
from ptycho_core.result.history import RunEvent
from ptycho_core.scan import Scan
from ptycho_core.scan.grouping import choose_frames

__all__ = ["Earlier", "Prepared", "announce", "calibration_frames", "prepare", "scaling_of"]

_CALIBRATION_FRAMES = 256
#: How often `unet` sees thinned frames where that was not chosen.
_PASSES_IN_DIM_LIGHT = 3


@dataclass(frozen=True)
class Earlier:
    """A training to go on with.

    Attributes:
        history: one row for each epoch that is done.
        probes: (P, N, N) each: the one that its scan came with, and the one that it ended with.
    """

    training: TrainingConfig
    history: Sequence[Mapping[str, Any]]
    probes: Sequence[np.ndarray]


@dataclass(frozen=True)
class Prepared:
    """What a training has before there is a network.

    Attributes:
        config: settled; its batch size, frame size and loss are those that run.
        with_truth: the loss looks at the true object.
        epochs_before: that an earlier run has done.
        keeps_probe: whether the network to go on with knows a better probe of this scan than the scan does.
        n_epochs: of this run; None where the time budget alone ends it.
    """

    config: TrainingConfig
    frames: Frames
    with_truth: bool
    epochs_before: int
    n_epochs: int | None
    keeps_probe: bool = False

    @property
    def trains_probe(self) -> bool:
        """Whether the optimiser changes the probe; labels say nothing of it."""
        return self.config.probe_trainable and self.config.model.model_type == "pinn"

    @property
    def seed(self) -> int:
        """Seed of the first weights, and of the order of the batches."""
        return self.config.seed or 0

    @property
    def n_epochs_in_all(self) -> int | None:
        """Epochs of the whole run, the earlier ones included."""
        return None if self.n_epochs is None else self.n_epochs + self.epochs_before

    @property
    def mean_counts_per_pixel(self) -> float:
        """The loss is divided by it, so that doses can be compared."""
        return self.frames.nphotons / self.frames.scan.frame_px**2

    def test_frames(self, scan: Scan) -> Frames:
        """Return the frames of the scan whose loss is watched."""
        return Frames(scan, self.config.nphotons, with_truth=self.with_truth)


def prepare(
    scan: Scan,
    config: TrainingConfig,
    execution: NetworkExecution,
    *,
    test_scan: Scan | None = None,
    earlier: Earlier | None = None,
) -> Prepared:
    """Check the settings against the scans and settle them.

    Raises:
        ConfigError: the configuration does not fit the scan, or the training to go on with.
    """
    timed = config.max_time is not None and "nepochs" not in config.model_fields_set
    if earlier is not None:
        check_frame_size(scan, earlier.training.model.N)
        config = continued(config, earlier.training, epochs_done=len(earlier.history))
    model = _fitting(config, scan)
    with_truth = needs_truth(config, (scan,) if test_scan is None else (scan, test_scan))
    seed = config.seed or 0
    if config.n_subsample is not None:
        part_seed = seed if config.subsample_seed is None else config.subsample_seed
        scan = scan.select(choose_frames(scan.n_frames, config.n_subsample, part_seed))
    share = view_share_of(config)
    frames = Frames(
        scan,
        config.nphotons,
        with_truth=with_truth,
        thin_to=config.thin_to,
        views=Views.of_scan(scan) if share else None,
        view_share=share,
        seed=seed,
    )
    config = settled(config, execution, frames)
    config = config.model_copy(
        update={"model": model, "batch_size": batch_size_of(config), "view_share": share}
    )
    before = 0 if earlier is None else len(earlier.history)
    known = () if earlier is None else earlier.probes
    return Prepared(
        config,
        frames,
        with_truth,
        epochs_before=before,
        n_epochs=None if timed else config.nepochs - before,
        keeps_probe=any(same_probe(scan.probe, probe) for probe in known),
    )


def _fitting(config: TrainingConfig, scan: Scan) -> ModelConfig:
    """The model with the size of the frames, and with the passes that dim light needs."""
    model = config.model
    if model.N not in (0, scan.frame_px) and "N" in model.model_fields_set:
        raise ConfigError(f"`N` is {model.N} and the frames of {scan.name} are {scan.frame_px} px wide.")
    model = model.model_copy(update={"N": scan.frame_px})
    dim = config.thin_to is not None and model.architecture == "unet"
    if dim and model.input_channels == "backprojection" and "unet_passes" not in model.model_fields_set:
        model = model.model_copy(update={"unet_passes": _PASSES_IN_DIM_LIGHT})
    return model


def calibration_frames(frames: Frames) -> np.ndarray:
    """Unit amplitudes (B, n, n) of frames from the whole scan, which set the scale of the back-projection."""
    n_frames = frames.scan.n_frames
    sample = np.linspace(0, n_frames - 1, min(_CALIBRATION_FRAMES, n_frames)).astype(np.int64)
    return frames.batch(sample).amplitude


def scaling_of(model: ModelConfig, frames: Frames, *, output_scale: float) -> Scaling:
    """Return the scales that a bundle carries.

    Args:
        output_scale: from unit amplitude to the root of counts, as it was learned.
    """
    return Scaling(
        gauge=model.probe_gauge,
        probe_scale=model.probe_scale,
        intensity_scale=output_scale,
        alpha=frames.alpha,
        nphotons=frames.nphotons,
        mean_counts=frames.mean_counts,
        mask=ProbeMask(sigma_px=model.probe_mask_sigma, diameter_px=model.probe_mask_diameter)
        if model.probe_mask
        else None,
        patch_weighting="probe",
        anchor="whole-pixels",
        pixel_convention="index",
    )


def announce(
    listeners: CallbackList, config: TrainingConfig, execution: NetworkExecution, watched: str | None
) -> None:
    """Say what was asked for and will not happen, and what will though it was not.

    Args:
        watched: the metric that ranks the checkpoints; None where none are kept.
    """
    ignored = settings_without_effect(config, execution)
    if ignored:
        listeners.on_event(RunEvent("ignored", f"Without effect in this version: {', '.join(ignored)}."))
    if config.view_share:
        part = f"{config.view_share:.0%} of the batches show other views of the sample"
        listeners.on_event(RunEvent("views", f"{part}; `--view-share 0` leaves them out."))
    wanted = execution.checkpoint_monitor_metric
    if watched not in (None, wanted):
        listeners.on_event(
            RunEvent(
                "checkpoints", f"Without a test scan there is no {wanted}: {watched} ranks the checkpoints."
            )
        )
