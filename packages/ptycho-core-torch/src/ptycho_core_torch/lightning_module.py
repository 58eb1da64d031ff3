"""One training step, and the course of the learning rate."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning as L

import torch
from ptycho_config import guards
from ptycho_config.errors import TrainingError
from ptycho_config.models import TrainingConfig
from ptycho_core_torch.losses import (
    amplitude_mae,
    complex_mae,
    negative_log_likelihood,
    poisson_deviance,
    total_variation,
)
from ptycho_core_torch.network import Batch, PtychoNetwork
from torch import Tensor

__all__ = ["PtychoLightning"]

_WARM_UP_STEPS = 20
#: Last learning rate over the first where the course is our own.
_LAST_RATE = 0.02


class PtychoLightning(L.LightningModule):
    """Trains a `PtychoNetwork` on measured diffraction alone, by automatic optimisation."""

    def __init__(
        self,
        network: PtychoNetwork,
        config: TrainingConfig,
        *,
        learning_rate: float,
        mean_counts_per_pixel: float,
        n_steps: int | None,
        steps_before: int = 0,
    ) -> None:
        """Prepare.

        Args:
            mean_counts_per_pixel: the loss is divided by it, so that doses can be compared.
            n_steps: length of the run; None where the time budget alone ends it.
            steps_before: how many of them an earlier run has done.
        """
        super().__init__()
        self.network, self.config = network, config
        self._learning_rate, self._n_steps = learning_rate, n_steps
        self._steps_before = steps_before
        self._mean_counts = mean_counts_per_pixel
        self._began = time.monotonic()
        network.log_scale.requires_grad_(config.intensity_scale_trainable)

    def on_train_start(self) -> None:
        """Start the clock of the time budget."""
        self._began = time.monotonic()

    @property
    def progress(self) -> float:
        """Part of the run that is done, by steps or by the time budget, whichever is further; 0 to 1."""
        steps = self._n_steps
        done = 0.0 if steps is None else (self._steps_before + self.global_step) / max(1, steps)
        if self.config.max_time is not None:
            done = max(done, (time.monotonic() - self._began) / self.config.max_time)
        return min(1.0, done)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss of a neighbourhood.

        Raises:
            TrainingError: the loss is not finite; names the step.
        """
        loss, residual, nll = self._losses(batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss is not finite at step {self.global_step + 1}; "
                "lower `--torch-learning-rate`, or set `--torch-gradient-clip-val 1`."
            )
        self.log_dict(
            {"train_loss": loss, "train_residual": residual, "train_nll": nll},
            on_step=False,
            on_epoch=True,
            batch_size=len(batch.counts),
        )
        self.last_residual = residual.detach()
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log the same loss on the test scan."""
        loss, residual, _ = self._losses(batch)
        self.log_dict({"val_loss": loss, "val_residual": residual}, batch_size=len(batch.counts))

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        patches, rate = self.network(batch)
        amplitude = batch.counts.sqrt()
        if batch.truth is not None:
            loss = complex_mae(patches, batch.truth, self.network.weights)
        elif config.torch_loss_mode == "mae":
            loss = amplitude_mae(rate, amplitude, batch.good) / math.sqrt(self._mean_counts)
        else:
            loss = poisson_deviance(rate, batch.counts, batch.good) / self._mean_counts
        if config.realspace_weight and config.tv_weight:
            loss = loss + config.realspace_weight * config.tv_weight * total_variation(patches)
        with torch.no_grad():
            misfit = (rate.sqrt() - amplitude).abs()
            if batch.good is not None:
                misfit = misfit * batch.good
            residual = misfit.sum() / amplitude.sum()
            nll = negative_log_likelihood(rate, batch.counts, batch.good)
            spread = patches.std(0).mean() / patches.abs().mean()
        self.last_spread = spread
        return loss, residual, nll

    def check_collapse(self) -> None:
        """Stop a network that gave the same patch for every frame of the last batch (TRAIN-COLLAPSE-001)."""
        if self.global_step > 10 * _WARM_UP_STEPS:
            guards.check_collapse(float(self.last_spread))

    def configure_optimizers(self) -> Any:
        """AdamW with a short warm-up and a cosine, over the steps or the time that the run has."""
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=self._learning_rate,
            weight_decay=self.config.weight_decay,
            betas=(self.config.adam_beta1, self.config.adam_beta2),
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        warm = min(1.0, step / _WARM_UP_STEPS + 0.05)
        return warm * (0.5 * (1 + math.cos(math.pi * self.progress)) * (1 - _LAST_RATE) + _LAST_RATE)
