"""One training step, and what steers the optimiser between steps.

Source: to train through the physics, without labels, O. Hoidn, A. A. Mishra and A. Mehta, Sci. Rep. 13 (2023)
22789, 10.1038/s41598-023-48351-7.
"""

from __future__ import annotations

import math
import time
from typing import Any

import lightning as L

import torch
from ptycho_config import guards
from ptycho_config.errors import TrainingError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core.learning.advice import (
    check_scale,
    flag_prefix,
    not_finite_advice,
    smaller_batch_advice,
)
from ptycho_core.learning.course import Course
from ptycho_core.learning.recipe import batch_size_of, clip_value_of
from ptycho_core_torch.clipping import clip_adaptively
from ptycho_core_torch.distributed import largest
from ptycho_core_torch.losses import (
    amplitude_mae,
    complex_mae,
    negative_log_likelihood,
    poisson_deviance,
    total_variation,
)
from ptycho_core_torch.memory import is_out_of_memory
from ptycho_core_torch.network import Batch, PtychoNetwork
from ptycho_core_torch.optimisers import optimiser_for
from ptycho_core_torch.schedules import WARM_UP_STEPS, scheduler_for
from torch import Tensor

__all__ = ["PtychoLightning"]

_FINE, _NOT_FINITE, _NO_MEMORY = 0.0, 1.0, 2.0


class PtychoLightning(L.LightningModule):
    """Trains a `PtychoNetwork` on measured diffraction alone, by automatic optimisation.

    It is made before any frame is read, so that it can be asked how it optimises (EXEC-ACCUM-001). `take`
    gives it the network, and what is known of the frames by then.
    """

    network: PtychoNetwork
    config: TrainingConfig

    def __init__(self, execution: PyTorchExecutionConfig) -> None:
        super().__init__()
        self._execution = execution
        self._began = time.monotonic()

    def take(
        self,
        network: PtychoNetwork,
        config: TrainingConfig,
        *,
        learning_rate: float,
        mean_counts_per_pixel: float,
        steps_per_epoch: int,
        n_epochs: int | None,
        epochs_before: int = 0,
        monitor: str = "train_loss",
    ) -> None:
        """Take the network that learns.

        Args:
            config: settled.
            mean_counts_per_pixel: the loss is divided by it, so that doses can be compared.
            steps_per_epoch: of the optimiser.
            n_epochs: of the whole run; None where the time budget alone ends it.
            epochs_before: how many of them an earlier run has done.
            monitor: the loss whose plateau `ReduceLROnPlateau` waits for.
        """
        self.network, self.config = network, config
        self._learning_rate, self._monitor = learning_rate, monitor
        self._course = Course(
            config, steps_per_epoch=steps_per_epoch, n_epochs=n_epochs, epochs_before=epochs_before
        )
        self._mean_counts = mean_counts_per_pixel
        self._supervised = config.model.model_type == "supervised"
        # Labels say nothing of the counts, and a parameter without a gradient would stop several processes.
        network.log_scale.requires_grad_(config.intensity_scale_trainable and not self._supervised)

    def on_train_start(self) -> None:
        """Start the clock of the time budget."""
        self._began = time.monotonic()

    @property
    def epochs_done(self) -> float:
        """Epochs of the whole run that are done, the earlier ones included; fractions count."""
        return self._course.epochs_after(self.global_step)

    @property
    def progress(self) -> float:
        """Part of the run that is done, by steps or by the time budget, whichever is further; 0 to 1."""
        return self._course.progress_after(self.global_step)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss of a neighbourhood.

        Raises:
            TrainingError: the loss is not finite, or the memory does not suffice, in any of the processes.
        """
        trouble, losses, cause = _FINE, None, None
        try:
            losses = self._losses(batch)
            if not torch.isfinite(losses[0]):
                trouble = _NOT_FINITE
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            trouble, cause = _NO_MEMORY, error
        trouble, self._course.elapsed_s = largest(self.trainer, trouble, time.monotonic() - self._began)
        if trouble == _NO_MEMORY:
            raise TrainingError(smaller_batch_advice(batch_size_of(self.config), self._execution)) from cause
        if trouble == _NOT_FINITE or losses is None:
            raise TrainingError(self._why_not_finite())
        loss, residual, nll = losses
        self.log_dict(
            {"train_loss": loss, "train_residual": residual, "train_nll": nll},
            on_step=False,
            on_epoch=True,
            batch_size=len(batch.counts),
            sync_dist=True,
        )
        self.last_residual = residual.detach()
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log the same loss on the test scan."""
        loss, residual, _ = self._losses(batch)
        self.log_dict(
            {"val_loss": loss, "val_residual": residual}, batch_size=len(batch.counts), sync_dist=True
        )

    def _why_not_finite(self) -> str:
        patches = self._last_patches
        return not_finite_advice(
            self.global_step + 1,
            self._execution,
            weights_finite=all(bool(torch.isfinite(weight).all()) for weight in self.parameters()),
            patches_finite=bool(torch.isfinite(patches.real).all() and torch.isfinite(patches.imag).all()),
        )

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        amplitude = batch.counts.sqrt()
        passes = list(self.network.passes(batch))
        loss = torch.stack([self._loss(patches, rate, amplitude, batch) for patches, rate in passes]).mean()
        patches, rate = passes[-1]
        with torch.no_grad():
            misfit = (rate.sqrt() - amplitude).abs()
            if batch.good is not None:
                misfit = misfit * batch.good
            residual = misfit.sum() / amplitude.sum()
            nll = negative_log_likelihood(rate, batch.counts, batch.good)
        self._last_patches = patches.detach()
        return loss, residual, nll

    def _loss(self, patches: Tensor, rate: Tensor, amplitude: Tensor, batch: Batch) -> Tensor:
        config = self.config
        if self._supervised and batch.truth is not None:
            loss = complex_mae(patches, batch.truth, self.network.weights)
        elif config.torch_loss_mode == "mae":
            loss = amplitude_mae(rate, amplitude, batch.good) / math.sqrt(self._mean_counts)
        else:
            loss = poisson_deviance(rate, batch.counts, batch.good) / self._mean_counts
        if config.realspace_weight and config.tv_weight:
            loss = loss + config.realspace_weight * config.tv_weight * total_variation(patches)
        if config.realspace_mae_weight and batch.truth is not None:
            distance = complex_mae(patches, batch.truth, self.network.weights)
            loss = loss + config.realspace_weight * config.realspace_mae_weight * distance
        return loss

    def end_epoch(self) -> None:
        """Take a probe that is trained back to its gauge."""
        if self.network.probe_parts.requires_grad:
            self.network.rescale_probe()

    def check_collapse(self) -> None:
        """Stop a network that gave the same patch for every frame of the last batch (TRAIN-COLLAPSE-001)."""
        if self.global_step > 10 * WARM_UP_STEPS:
            patches = self._last_patches
            spread = float(patches.std(0).mean() / patches.abs().mean())
            guards.check_collapse(*largest(self.trainer, spread), flags=flag_prefix(self._execution))

    def check_scale(self) -> None:
        """Stop a network whose scale of the counts is no number any more."""
        check_scale(self.network.log_scale.item(), self.global_step, self._execution)

    def configure_optimizers(self) -> Any:
        """The optimiser and the schedule of the configuration."""
        optimizer = optimiser_for(self.config, self.parameters(), self._learning_rate)
        schedule = scheduler_for(optimizer, self.config, self._course.factor, monitor=self._monitor)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the Trainer was told to, or adaptively, which it does not know."""
        limit = clip_value_of(self.config)
        if self.config.gradient_clip_algorithm == "agc":
            if limit:
                clip_adaptively(self.parameters(), limit)
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
