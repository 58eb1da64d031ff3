"""Train a network on a scan: the order of a run, and the Trainer it runs on."""

from __future__ import annotations

import copy
import logging
import math
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader

import torch
from ptycho_config import guards
from ptycho_config.errors import ConfigError, TrainingError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.bundle import ProbeMask, Scaling
from ptycho_core.callbacks import Callback, CallbackList, RunEvent
from ptycho_core.grouping import choose_frames, group_frames
from ptycho_core.scan import Scan
from ptycho_core_torch.frames import Frames, GroupBatches, Neighbourhoods, Shuffled
from ptycho_core_torch.lightning_module import PtychoLightning
from ptycho_core_torch.network import PtychoNetwork
from ptycho_core_torch.reporting import Reporter
from ptycho_core_torch.resume import continued, joined
from ptycho_core_torch.trained import TrainedNetwork
from ptycho_core_torch.without_effect import settings_without_effect

__all__ = ["train_network"]

#: Learning rate and clipping of `unet` where nobody chose them.
_UNET_RATE, _UNET_CLIP = 2e-3, 1.0
_UNET_BATCH, _CLASSIC_BATCH = 24, 16
_CALIBRATION_FRAMES = 256
#: Above this mean count per pixel the amplitude loss gave the sharper objects, below it the Poisson loss.
_MANY_COUNTS_PER_PIXEL = 10.0


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

    Args:
        test_scan: where given, its loss is `val_loss`, and training ends when it no longer falls.
        directory: for the logger's files, the bundle that is written about once a minute, and the last good
            weights where training fails.
        start: go on with this network and its settings. The optimiser begins anew.
    Raises:
        ConfigError: the configuration does not fit the scan, or not the network to go on with.
        PolicyError: EXEC-ACCUM-001, EXEC-ACCUM-002.
        TrainingError: the loss is not finite, the network collapsed, or the memory does not suffice.
    """
    epochs_before = 0 if start is None else len(start.history)
    given = config
    if start is not None:
        config = continued(config, start.training, epochs_done=epochs_before)
    model = config.model
    if model.N not in (0, scan.frame_px) and "N" in model.model_fields_set:
        raise ConfigError(f"`N` is {model.N} and the frames of {scan.name} are {scan.frame_px} px wide.")
    model = model.model_copy(update={"N": scan.frame_px})
    supervised = model.model_type == "supervised"
    if supervised and scan.ground_truth is None and scan.patch_truth is None:
        raise ConfigError(
            "supervised training needs labels: a scan with a ground truth. Use `--model-type pinn`.",
            finding="DATA-SUP-001",
        )
    seed = config.seed or 0
    if config.n_subsample is not None:
        part_seed = seed if config.subsample_seed is None else config.subsample_seed
        scan = scan.select(choose_frames(scan.n_frames, config.n_subsample, part_seed))
    frames = Frames(scan, config.nphotons, with_truth=supervised, thin_to=config.thin_to, seed=seed)
    unet = model.architecture == "unet"
    batch_size = config.batch_size or (_UNET_BATCH if unet else _CLASSIC_BATCH)
    in_groups = model.overlap_constraint != "batch"
    groups = _groups(scan, config, model) if in_groups else np.empty((scan.n_frames, 0))
    n_batches = max(1, math.ceil(len(groups) / batch_size))
    guards.check_accumulation_fits(execution.accum_steps, n_batches)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PtychoNetwork(model, scan.probe, frames.intensity_scale)
    sample = np.linspace(0, scan.n_frames - 1, min(_CALIBRATION_FRAMES, scan.n_frames)).astype(np.int64)
    if start is None:
        network.calibrate(frames.batch(sample).amplitude)
    else:
        network.load_state_dict(start.network.state_dict())
    if unet and "torch_loss_mode" not in config.model_fields_set:
        config = config.model_copy(update={"torch_loss_mode": _loss_for(frames)})
    timed = config.max_time is not None and "nepochs" not in given.model_fields_set
    n_epochs = -1 if timed else config.nepochs - epochs_before
    chosen = execution.model_fields_set
    module = PtychoLightning(
        network,
        config,
        learning_rate=_UNET_RATE if unet and "learning_rate" not in chosen else execution.learning_rate,
        mean_counts_per_pixel=frames.nphotons / scan.frame_px**2,
        n_steps=None if timed else config.nepochs * n_batches // execution.accum_steps,
        steps_before=epochs_before * n_batches // execution.accum_steps,
    )
    guards.check_accumulation(module, execution.accum_steps)
    ignored = settings_without_effect(config, execution)
    if ignored:
        CallbackList(callbacks).on_event(
            RunEvent("ignored", f"Without effect in this version: {', '.join(ignored)}.")
        )
    final = config.model_copy(update={"model": model, "batch_size": batch_size})

    def present(history: Sequence[Mapping[str, Any]], *, interrupted: bool) -> TrainedNetwork:
        return TrainedNetwork(
            network=copy.deepcopy(network).cpu().eval(),
            training=final,
            execution=execution,
            scaling=_scaling(network, frames),
            probe_given=scan.probe,
            history=joined(() if start is None else start.history, history),
            interrupted=interrupted,
        )

    def keep(history: Sequence[Mapping[str, Any]]) -> None:
        if directory is not None and execution.enable_checkpointing:
            present(history, interrupted=True).save(directory)

    reporter = Reporter(
        callbacks,
        keep=keep,
        scan=scan,
        n_batches=n_batches,
        n_epochs=None if timed else n_epochs,
        max_time_s=config.max_time,
    )
    with tempfile.TemporaryDirectory() as temporary, _quiet_lightning():
        listeners: list[L.Callback] = [reporter]
        if test_scan is not None:
            listeners.append(
                EarlyStopping("val_loss", patience=execution.early_stop_patience, check_finite=False)
            )
        trainer = _trainer(execution, config, listeners, n_epochs, directory or Path(temporary), unet)
        if trainer.world_size > 1:
            raise ConfigError(
                "Training on several devices is not part of this version. Use `--torch-devices 1`."
            )
        order = seed + epochs_before
        loader, test_loader = _loader(frames, groups, batch_size, execution, order), None
        if test_scan is not None:
            test_frames = Frames(test_scan, config.nphotons, with_truth=supervised)
            test_groups = (
                _groups(test_scan, config, model) if in_groups else np.empty((test_scan.n_frames, 0))
            )
            test_loader = _loader(test_frames, test_groups, batch_size, execution, seed)
        failure: TrainingError | None = None
        try:
            trainer.fit(module, loader, test_loader)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"Out of memory with {batch_size} frames a batch. "
                f"Try `--batch-size {max(1, batch_size // 2)}`."
            ) from error
        except TrainingError as error:
            reporter.restore_last_good(network)
            failure = error

    trained = present(reporter.history, interrupted=reporter.interrupted)
    if failure is not None:
        kept = "" if directory is None else f" The last good weights are in {trained.save(directory)}."
        raise TrainingError(f"{failure}{kept}", finding=failure.finding) from failure
    return trained


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


def _loss_for(frames: Frames) -> Literal["poisson", "mae"]:
    """Choose the loss where nobody did: amplitudes at high dose, Poisson counts at low dose.

    With many photons the model's own faults outweigh the noise, and distances of amplitudes bear them better;
    with few, only the likelihood knows what an empty pixel says.
    """
    seen = frames.mean_counts if frames.kept is None else frames.mean_counts * frames.kept
    return "mae" if seen / frames.scan.frame_px**2 >= _MANY_COUNTS_PER_PIXEL else "poisson"


def _groups(scan: Scan, config: TrainingConfig, model: ModelConfig) -> np.ndarray:
    """Members (G, C) of the groups that the network learns from."""
    return group_frames(
        scan.positions_px,
        model.gridsize,
        neighbor_count=config.neighbor_count,
        n_groups=config.n_groups,
        seed=config.seed or 0,
        sequential=config.sequential_sampling,
        enable_oversampling=config.enable_oversampling,
        neighbor_pool_size=config.neighbor_pool_size,
    ).indices


def _loader(
    frames: Frames, groups: np.ndarray, batch_size: int, execution: PyTorchExecutionConfig, seed: int
) -> DataLoader:
    """Load neighbourhoods of single frames where there are no groups, otherwise batches of groups."""
    n_batches = max(1, math.ceil(len(groups) / batch_size))
    if groups.shape[1] == 0:
        data, size = Neighbourhoods(frames, batch_size), 1
    else:
        data, size = GroupBatches(frames, groups), min(batch_size, len(groups))
    sampler = Shuffled(len(groups), n_batches, size=size, seed=seed)
    return DataLoader(
        data,
        batch_size=None,
        sampler=sampler,
        num_workers=execution.num_workers,
        pin_memory=execution.pin_memory,
        persistent_workers=execution.persistent_workers,
        prefetch_factor=execution.prefetch_factor if execution.num_workers else None,
    )


def _trainer(
    execution: PyTorchExecutionConfig,
    config: TrainingConfig,
    listeners: list[L.Callback],
    n_epochs: int,
    directory: Path,
    unet: bool,
) -> L.Trainer:
    clip = execution.gradient_clip_val
    if clip is None:
        clip = config.gradient_clip_val
    if clip is None and unet:
        clip = _UNET_CLIP
    return L.Trainer(
        accelerator={"cuda": "gpu"}.get(execution.accelerator, execution.accelerator),
        devices=execution.devices,
        num_nodes=execution.num_nodes,
        strategy=execution.strategy,
        precision=execution.precision,
        deterministic=execution.deterministic,
        max_epochs=n_epochs,
        accumulate_grad_batches=execution.accum_steps,
        gradient_clip_val=clip,
        gradient_clip_algorithm=execution.gradient_clip_algorithm,
        callbacks=listeners,
        logger=_logger(execution, directory),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=directory,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
    )


def _logger(execution: PyTorchExecutionConfig, directory: Path) -> Any:
    from lightning.pytorch import loggers

    kinds = {"csv": "CSVLogger", "tensorboard": "TensorBoardLogger", "mlflow": "MLFlowLogger"}
    if execution.logger_backend not in kinds:
        return False
    if execution.logger_backend == "mlflow":
        return loggers.MLFlowLogger(save_dir=str(directory / "mlruns"))
    return getattr(loggers, kinds[execution.logger_backend])(save_dir=directory)


@contextmanager
def _quiet_lightning():
    """Keep Lightning's hints to itself, and its switch for determinism to the run."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    deterministic = torch.are_deterministic_algorithms_enabled()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning.*")
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
            torch.use_deterministic_algorithms(deterministic)
