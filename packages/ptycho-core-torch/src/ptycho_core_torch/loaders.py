"""What a process learns from, batch after batch: its share where several train together."""

from __future__ import annotations

import math

import lightning as L
import numpy as np
from torch.utils.data import DataLoader

from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.grouping import group_frames
from ptycho_core.scan import Scan
from ptycho_core_torch.frames import Frames, GroupBatches, Neighbourhoods, Shuffled
from ptycho_core_torch.recipe import batch_size_of

__all__ = ["make_loader"]


def make_loader(
    frames: Frames,
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    trainer: L.Trainer,
    seed: int,
) -> DataLoader:
    """Load what one process learns from.

    Batches of groups; where all frames of a batch must agree, groups that lie together.

    Args:
        config: settled.
        seed: of the order.
    """
    batch_size, n_ranks = batch_size_of(config), trainer.world_size
    groups = _groups(frames.scan, config, config.model)
    n_items = len(groups)
    if config.model.overlap_constraint == "batch":
        size, data = 1, Neighbourhoods(frames, groups, batch_size)
    else:
        size, data = min(batch_size, n_items), GroupBatches(frames, groups)
    n_batches = max(1, math.ceil(n_items / (batch_size * n_ranks)))
    return DataLoader(
        data,
        batch_size=None,
        sampler=Shuffled(n_items, n_batches, size=size, seed=seed, rank=trainer.global_rank, n_ranks=n_ranks),
        num_workers=execution.num_workers,
        pin_memory=execution.pin_memory,
        persistent_workers=execution.persistent_workers,
        prefetch_factor=execution.prefetch_factor if execution.num_workers else None,
    )


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
