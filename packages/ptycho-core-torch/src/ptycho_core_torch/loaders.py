"""What a process learns from, as Lightning takes it: its share where several train together."""

from __future__ import annotations

import lightning as L
from torch.utils.data import DataLoader

from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core.learning.frames import Frames
from ptycho_core.learning.order import batches_of
from ptycho_core_torch.network import Batch

__all__ = ["make_loader"]


def make_loader(
    frames: Frames,
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    trainer: L.Trainer,
    seed: int,
) -> DataLoader:
    """Load what one process learns from.

    Args:
        config: settled.
        seed: of the order.
    """
    data, order = batches_of(frames, config, seed=seed, rank=trainer.global_rank, n_ranks=trainer.world_size)
    return DataLoader(
        data,  # pyright: ignore[reportArgumentType]  # it has items and a length, and is no torch class
        batch_size=None,
        sampler=order,
        collate_fn=Batch.of,  # pyright: ignore[reportArgumentType]  # `data` gives batches, not lists of items
        num_workers=execution.num_workers,
        pin_memory=execution.pin_memory,
        persistent_workers=execution.persistent_workers,
        prefetch_factor=execution.prefetch_factor if execution.num_workers else None,
    )
