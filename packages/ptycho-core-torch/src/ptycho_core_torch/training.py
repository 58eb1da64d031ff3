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
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader

import torch
from ptycho_config import guards
from ptycho_config.errors import TrainingError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core.learning.advice import smaller_batch_advice
from ptycho_core.learning.prepare import Prepared, announce, calibration_frames, prepare, scaling_of
from ptycho_core.learning.recipe import batch_size_of, learning_rate_of
from ptycho_core.learning.report import TrainingReport, metric_to_watch
from ptycho_core.learning.resume import joined
from ptycho_core.result.callbacks import Callback, CallbackList
from ptycho_core.scan import Scan
from ptycho_core_torch.checkpoints import Checkpoints
from ptycho_core_torch.lightning_module import PtychoLightning
from ptycho_core_torch.loaders import make_loader
from ptycho_core_torch.memory import is_out_of_memory
from ptycho_core_torch.network import PtychoNetwork
from ptycho_core_torch.reporting import Reporter
from ptycho_core_torch.trained import TrainedNetwork
from ptycho_core_torch.trainer import device_in_use, make_trainer, quiet_lightning

__all__ = ["train_module", "train_network"]

#: The logger of the command line, which names no core and so listens to no logger of one.
_LOG = logging.getLogger("ptycho")


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
    return train_module(
        PtychoLightning(execution),
        scan,
        config,
        execution,
        callbacks=callbacks,
        test_scan=test_scan,
        directory=directory,
        start=start,
    )


def train_module(
    module: PtychoLightning,
    scan: Scan,
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    *,
    callbacks: Sequence[Callback] = (),
    test_scan: Scan | None = None,
    directory: Path | None = None,
    start: TrainedNetwork | None = None,
) -> TrainedNetwork:
    """Train by a module of the caller's; see `train_network`.

    Args:
        module: new, made with this execution.
    """
    guards.check_accumulation(module, execution.accum_steps)
    earlier = None if start is None else start.earlier
    prepared = prepare(scan, config, execution, test_scan=test_scan, earlier=earlier)
    config, frames = prepared.config, prepared.frames
    run = _Run(_network(prepared, start), prepared, execution, start)
    written = directory if execution.enable_checkpointing else None

    def keep(history: Sequence[Mapping[str, Any]]) -> None:
        if written is not None:
            run.present(history, interrupted=True).save(written)

    report = TrainingReport(
        callbacks, scan=frames.scan, n_epochs=prepared.n_epochs, max_time_s=config.max_time, keep=keep
    )
    reporter = Reporter(report)
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
            execution, config, listeners, n_epochs=prepared.n_epochs, directory=directory or Path(temporary)
        )
        loader = make_loader(frames, config, execution, trainer, prepared.seed + prepared.epochs_before)
        guards.check_accumulation_fits(execution.accum_steps, len(loader))
        module.take(
            run.network,
            config,
            learning_rate=learning_rate_of(config, execution),
            mean_counts_per_pixel=prepared.mean_counts_per_pixel,
            steps_per_epoch=math.ceil(len(loader) / execution.accum_steps),
            n_epochs=prepared.n_epochs_in_all,
            epochs_before=prepared.epochs_before,
            monitor="train_loss" if test_scan is None else "val_loss",
        )
        test_loader = None
        if test_scan is not None:
            test_frames = prepared.test_frames(test_scan)
            test_loader = make_loader(test_frames, config, execution, trainer, prepared.seed)
        if trainer.is_global_zero:
            _LOG.info("%s", device_in_use(trainer))
            announce(CallbackList(callbacks), config, execution, None if written is None else watched)
        try:
            _fit(trainer, module, loader, test_loader, smaller_batch_advice(batch_size_of(config), execution))
        except TrainingError as error:
            reporter.restore_last_good(run.network)
            failure = error
    trained = run.present(report.history, interrupted=report.interrupted)
    if failure is not None:
        kept = ""
        if directory is not None and report.history and trainer.is_global_zero:
            kept = f" The last good weights are in {trained.save(directory)}."
        raise TrainingError(f"{failure}{kept}", finding=failure.finding) from failure
    return trained


@dataclass(frozen=True)
class _Run:
    """What a training has, before its first step and after its last one."""

    network: PtychoNetwork
    prepared: Prepared
    execution: PyTorchExecutionConfig
    start: TrainedNetwork | None

    def present(self, history: Sequence[Mapping[str, Any]], *, interrupted: bool) -> TrainedNetwork:
        """Return the network as it is now, after these epochs."""
        config, frames = self.prepared.config, self.prepared.frames
        network = copy.deepcopy(self.network).cpu().eval()
        network.hold_probe()
        return TrainedNetwork(
            network=network,
            training=config,
            execution=self.execution,
            scaling=scaling_of(config.model, frames, output_scale=math.exp(self.network.log_scale.item())),
            probe_given=frames.scan.probe,
            history=joined(() if self.start is None else self.start.history, history),
            interrupted=interrupted,
        )


def _network(prepared: Prepared, start: TrainedNetwork | None) -> PtychoNetwork:
    """Make the network that learns, with its first weights or those to go on from."""
    frames = prepared.frames
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(prepared.seed)
        network = PtychoNetwork(prepared.config.model, frames.scan.probe, frames.intensity_scale)
    if start is None:
        network.calibrate(torch.from_numpy(calibration_frames(frames)))
    else:
        network.load_state_dict(start.network.state_dict())
        if prepared.keeps_probe:
            network.hold_probe(start.network.probe_parts.detach().cpu().clone())
    if prepared.trains_probe:
        network.train_probe()
    return network


def _fit(
    trainer: L.Trainer, module: PtychoLightning, loader: DataLoader, test_loader: Any, advice: str
) -> None:
    """Run the training.

    Args:
        advice: for the case that the memory does not suffice.
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
        raise TrainingError(advice) from error
