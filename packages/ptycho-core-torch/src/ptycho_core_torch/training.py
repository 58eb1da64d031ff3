"""Train a network on a scan: the order of a run."""

from __future__ import annotations

import copy
import logging
import math
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader

import torch
from ptycho_config import guards
from ptycho_config.errors import ConfigError, TrainingError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core.bundle import ProbeMask, Scaling
from ptycho_core.callbacks import Callback, CallbackList, RunEvent
from ptycho_core.grouping import choose_frames
from ptycho_core.scan import Scan
from ptycho_core.views import Views
from ptycho_core_torch.checkpoints import Checkpoints, metric_to_watch
from ptycho_core_torch.frames import Frames
from ptycho_core_torch.labels import needs_truth
from ptycho_core_torch.lightning_module import PtychoLightning
from ptycho_core_torch.loaders import make_loader
from ptycho_core_torch.memory import is_out_of_memory, smaller_batch_advice
from ptycho_core_torch.network import PtychoNetwork
from ptycho_core_torch.recipe import batch_size_of, learning_rate_of, settled, view_share_of
from ptycho_core_torch.reporting import Reporter
from ptycho_core_torch.resume import check_frame_size, continued, joined
from ptycho_core_torch.trained import TrainedNetwork
from ptycho_core_torch.trainer import device_in_use, make_trainer, quiet_lightning
from ptycho_core_torch.without_effect import settings_without_effect

__all__ = ["train_network"]

#: The logger of the command line, which names no core and so listens to no logger of one.
_LOG = logging.getLogger("ptycho")
_CALIBRATION_FRAMES = 256
#: How often `unet` sees thinned frames where nobody chose it.
_PASSES_IN_DIM_LIGHT = 3


def train_network(
    scan: Scan,
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    *,
    callbacks: Sequence[Callback] = (),
    test_scan: Scan | None = None,
    directory: Path | None = None,
    start: TrainedNetwork | None = None,
) -> TrainedNetwork:
    """Train on the measured diffraction of a scan, whose probe is taken as it is.

    With several devices Lightning starts the running program again, once for each further process. All train
    and return the same network; the first alone reports to the callbacks and writes. Each is asked whether to
    stop, and one yes stops all.

    Args:
        test_scan: where given, its loss is `val_loss`, and training ends when it no longer falls.
        directory: for the logger's files, Lightning's checkpoints, the bundle that is written about once a
            minute, and the last good weights where training fails.
        start: go on with this network and its settings. The optimiser begins anew.
    Raises:
        ConfigError: the configuration does not fit the scan, the host, or the network to go on with.
        PolicyError: EXEC-ACCUM-001, EXEC-ACCUM-002.
        TrainingError: the loss is not finite, the network collapsed, or the memory does not suffice.
    """
    _check_accumulation(scan, config, execution)
    run = _prepared(scan, config, execution, test_scan, start)
    epochs_before = 0 if start is None else len(start.history)
    timed = config.max_time is not None and "nepochs" not in config.model_fields_set
    config, frames, seed = run.config, run.frames, run.config.seed or 0
    n_epochs = None if timed else config.nepochs - epochs_before
    written = directory if execution.enable_checkpointing else None

    def keep(history: Sequence[Mapping[str, Any]]) -> None:
        if written is not None:
            run.present(history, interrupted=True).save(written)

    reporter = Reporter(callbacks, keep=keep, scan=frames.scan, n_epochs=n_epochs, max_time_s=config.max_time)
    watched = metric_to_watch(execution, tested=test_scan is not None)
    listeners: list[L.Callback] = [reporter]
    if test_scan is not None:
        patience = execution.early_stop_patience
        listeners.append(EarlyStopping("val_loss", patience=patience, check_finite=False))
    if written is not None:
        listeners.append(Checkpoints(written, execution, watched))
    failure: TrainingError | None = None
    with tempfile.TemporaryDirectory() as temporary, quiet_lightning():
        trainer = make_trainer(
            execution, config, listeners, n_epochs=n_epochs, directory=directory or Path(temporary)
        )
        loader = make_loader(frames, config, execution, trainer, seed + epochs_before)
        guards.check_accumulation_fits(execution.accum_steps, len(loader))
        module = PtychoLightning(
            run.network,
            config,
            learning_rate=learning_rate_of(config, execution),
            mean_counts_per_pixel=frames.nphotons / frames.scan.frame_px**2,
            steps_per_epoch=math.ceil(len(loader) / execution.accum_steps),
            n_epochs=None if timed else config.nepochs,
            epochs_before=epochs_before,
            monitor="train_loss" if test_scan is None else "val_loss",
        )
        guards.check_accumulation(module, execution.accum_steps)
        test_loader = None
        if test_scan is not None:
            test_frames = Frames(test_scan, config.nphotons, with_truth=run.with_truth)
            test_loader = make_loader(test_frames, config, execution, trainer, seed)
        if trainer.is_global_zero:
            _LOG.info("%s", device_in_use(trainer))
            _announce(callbacks, config, execution, None if written is None else watched)
        try:
            _fit(trainer, module, loader, test_loader)
        except TrainingError as error:
            reporter.restore_last_good(run.network)
            failure = error
    trained = run.present(reporter.history, interrupted=reporter.interrupted)
    if failure is not None:
        kept = ""
        if directory is not None and reporter.history and trainer.is_global_zero:
            kept = f" The last good weights are in {trained.save(directory)}."
        raise TrainingError(f"{failure}{kept}", finding=failure.finding) from failure
    return trained


@dataclass(frozen=True)
class _Run:
    """What a training has, before its first step and after its last one.

    Attributes:
        config: settled; its batch size, frame size and loss are those that run.
        with_truth: the loss looks at the true object.
    """

    network: PtychoNetwork
    config: TrainingConfig
    execution: PyTorchExecutionConfig
    frames: Frames
    with_truth: bool
    start: TrainedNetwork | None

    def present(self, history: Sequence[Mapping[str, Any]], *, interrupted: bool) -> TrainedNetwork:
        """Return the network as it is now, after these epochs."""
        return TrainedNetwork(
            network=copy.deepcopy(self.network).cpu().eval(),
            training=self.config,
            execution=self.execution,
            scaling=_scaling(self.network, self.frames),
            probe_given=self.frames.scan.probe,
            history=joined(() if self.start is None else self.start.history, history),
            interrupted=interrupted,
        )


def _check_accumulation(scan: Scan, config: TrainingConfig, execution: PyTorchExecutionConfig) -> None:
    """Ask a module like the one to train whether it may accumulate, before any frame is read."""
    if execution.accum_steps == 1:
        return
    model = config.model.model_copy(update={"N": scan.frame_px})
    with torch.random.fork_rng(devices=[]):
        network = PtychoNetwork(model, scan.probe, 1.0)
    plan = {"learning_rate": 1.0, "mean_counts_per_pixel": 1.0, "steps_per_epoch": 1, "n_epochs": None}
    guards.check_accumulation(PtychoLightning(network, config, **plan), execution.accum_steps)


def _prepared(
    scan: Scan,
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    test_scan: Scan | None,
    start: TrainedNetwork | None,
) -> _Run:
    """Check the settings against the scans, settle them, and make the network."""
    if start is not None:
        check_frame_size(scan, start.network.model.N)
        config = continued(config, start.training, epochs_done=len(start.history))
    model = config.model
    if model.N not in (0, scan.frame_px) and "N" in model.model_fields_set:
        raise ConfigError(f"`N` is {model.N} and the frames of {scan.name} are {scan.frame_px} px wide.")
    model = model.model_copy(update={"N": scan.frame_px})
    dim = config.thin_to is not None and model.architecture == "unet"
    if dim and model.input_channels == "backprojection" and "unet_passes" not in model.model_fields_set:
        model = model.model_copy(update={"unet_passes": _PASSES_IN_DIM_LIGHT})
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PtychoNetwork(model, scan.probe, frames.intensity_scale)
    if start is None:
        sample = np.linspace(0, scan.n_frames - 1, min(_CALIBRATION_FRAMES, scan.n_frames)).astype(np.int64)
        network.calibrate(frames.batch(sample).amplitude)
    else:
        network.load_state_dict(start.network.state_dict())
    config = settled(config, execution, frames)
    config = config.model_copy(
        update={"model": model, "batch_size": batch_size_of(config), "view_share": share}
    )
    return _Run(network, config, execution, frames, with_truth, start)


def _scaling(network: PtychoNetwork, frames: Frames) -> Scaling:
    model = network.model
    return Scaling(
        gauge=model.probe_gauge,
        probe_scale=model.probe_scale,
        intensity_scale=math.exp(network.log_scale.item()),
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


def _announce(
    callbacks: Sequence[Callback],
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    watched: str | None,
) -> None:
    """Say what was asked for and will not happen, and what will though nobody asked."""
    listeners = CallbackList(callbacks)
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


def _fit(trainer: L.Trainer, module: PtychoLightning, loader: DataLoader, test_loader: Any) -> None:
    """Run the training.

    Raises:
        KeyboardInterrupt: as anywhere else; Lightning would leave the program, and deaf to the next Ctrl-C.
        TrainingError: see `train_network`.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, loader, test_loader)
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from leaving
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, TrainingError) or not is_out_of_memory(error):
            raise
        raise TrainingError(smaller_batch_advice(batch_size_of(module.config))) from error
