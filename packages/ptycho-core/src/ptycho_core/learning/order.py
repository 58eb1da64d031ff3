"""What a network learns from, batch after batch: which frames lie in one, and the order of an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy.spatial import KDTree

from ptycho_config.models import TrainingConfig
from ptycho_core.learning.frames import FrameBatch, Frames
from ptycho_core.learning.recipe import batch_size_of
from ptycho_core.scan.grouping import group_frames

__all__ = ["GroupBatches", "Neighbourhoods", "Shuffled", "batches_of"]


class Neighbourhoods:
    """Item (i,): the frames nearest to the middle of group i, as one batch."""

    def __init__(self, frames: Frames, groups: np.ndarray, size: int) -> None:
        """Index the frames that are members of any group.

        Args:
            groups: members (G, C).
            size: of a batch, in groups.
        """
        self._frames, self._groups = frames, groups
        self._used = np.unique(groups)
        self._size = min(size * groups.shape[1], len(self._used))
        self._tree = KDTree(frames.scan.positions_px[self._used])

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, chosen: tuple[int, ...]) -> FrameBatch:
        (group,) = chosen
        middle = self._frames.scan.positions_px[self._groups[group]].mean(axis=0)
        _, nearest = self._tree.query(middle, k=self._size)
        return self._frames.batch(self._used[np.atleast_1d(nearest)])


class GroupBatches:
    """Item (i, j, …): the members of these groups, group by group, as one batch."""

    def __init__(self, frames: Frames, groups: np.ndarray) -> None:
        """Hold the members (G, C) of every group."""
        self._frames, self._groups = frames, groups

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, chosen: tuple[int, ...]) -> FrameBatch:
        return self._frames.batch(self._groups[list(chosen)].reshape(-1))


class Shuffled:
    """Items of a data set in a new order every epoch, seeded: tuples of `size` items, `n_batches` an epoch.

    Where several processes train together, each takes every `n_ranks`-th batch of one order: what they take
    at the same time is what one process takes one after the other.
    """

    def __init__(
        self, n_items: int, n_batches: int, *, size: int = 1, seed: int = 0, rank: int = 0, n_ranks: int = 1
    ) -> None:
        self._n_items, self._n_batches, self._size = n_items, n_batches, size
        self._seed, self._epoch = seed, 0
        self._rank, self._n_ranks = rank, n_ranks

    def of_all(self) -> Shuffled:
        """Return the order of all processes together, for one that does the work of all."""
        return Shuffled(self._n_items, self._n_batches * self._n_ranks, size=self._size, seed=self._seed)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; the loop may call this."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        random = np.random.default_rng([self._seed, self._epoch])
        self._epoch += 1
        length = self._n_batches * self._n_ranks * self._size
        order = np.resize(random.permutation(self._n_items), length).reshape(-1, self._size)
        yield from map(tuple, order[self._rank :: self._n_ranks].tolist())

    def __len__(self) -> int:
        return self._n_batches


def batches_of(
    frames: Frames, config: TrainingConfig, *, seed: int, rank: int = 0, n_ranks: int = 1
) -> tuple[Neighbourhoods | GroupBatches, Shuffled]:
    """Return what one process learns from, and its order: batches of groups.

    Where all frames of a batch must agree, the groups of a batch lie together.

    Args:
        config: settled.
        seed: of the order.
    """
    model, batch_size = config.model, batch_size_of(config)
    groups = group_frames(
        frames.scan.positions_px,
        model.gridsize,
        neighbor_count=config.neighbor_count,
        n_groups=config.n_groups,
        seed=config.seed or 0,
        sequential=config.sequential_sampling,
        enable_oversampling=config.enable_oversampling,
        neighbor_pool_size=config.neighbor_pool_size,
    ).indices
    n_items = len(groups)
    n_batches = max(1, math.ceil(n_items / (batch_size * n_ranks)))
    if model.overlap_constraint == "batch":
        size, data = 1, Neighbourhoods(frames, groups, batch_size)
    else:
        size, data = min(batch_size, n_items), GroupBatches(frames, groups)
    return data, Shuffled(n_items, n_batches, size=size, seed=seed, rank=rank, n_ranks=n_ranks)
