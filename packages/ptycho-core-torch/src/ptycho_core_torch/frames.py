"""Tensors of a scan's frames, gathered for the frames of a batch only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.spatial import KDTree
from torch.utils.data import Dataset, Sampler

import torch
from ptycho_config.errors import ConfigError
from ptycho_core.normalisation import intensity_scale, unit_factor_from_mean_energy
from ptycho_core.physics import cut_patches, whole_and_rest
from ptycho_core.scan import Scan
from ptycho_core.views import Views
from ptycho_core_torch.forward import split_positions
from ptycho_core_torch.network import Batch

__all__ = ["Frames", "GroupBatches", "Neighbourhoods", "Shuffled"]


#: While frames are new nothing teaches as much as they do; a network that knows them learns their habits.
_NEW_UNTIL, _KNOWN_AFTER = 5.0, 15.0


class Frames:
    """A scan as batches of tensors. Holds the scan and a few numbers, no copy of the frames.

    Attributes:
        corners: (J, 2) top-left pixel of each window, (y, x), counted from the smallest position.
        kept: part of the photons that the network sees; None where it sees all.
    """

    def __init__(
        self,
        scan: Scan,
        nphotons: float | None = None,
        *,
        with_truth: bool = False,
        thin_to: float | None = None,
        views: Views | None = None,
        view_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Measure the scan.

        Args:
            nphotons: mean photons of a frame; those measured when not given, which makes rates real counts.
            with_truth: batches carry the true object patches, which supervised training needs.
            thin_to: the amplitudes are of frames thinned binomially to this mean count, anew each time; the
                counts stay those measured. A thinned Poisson count is the count of a dimmer measurement.
            views: of the scan's object, where thinned batches shall show others than those measured.
            view_share: part of the batches that do, once the measured frames are well known: none before each
                was seen five times, so many after fifteen.
            seed: of the thinning and of the views.
        Raises:
            ConfigError: the frames are no photon counts, or not brighter than `thin_to`.
        """
        self.scan, self._with_truth = scan, with_truth
        self.mean_counts = scan.mean_counts_per_frame()
        self.nphotons = nphotons or self.mean_counts
        self.alpha = unit_factor_from_mean_energy(self.mean_counts, scan.frame_px)
        self.kept = None if thin_to is None else self._kept_part(thin_to)
        self._views, self._view_share, self._given = views, view_share, 0
        self._random = np.random.default_rng(seed)
        self.intensity_scale = intensity_scale(self.nphotons, scan.frame_px)
        positions = torch.from_numpy(scan.positions_px - scan.positions_px.min(axis=0))
        whole, rests = split_positions(positions)
        self.corners, self._rests = whole, rests.to(torch.float32)
        good = scan.good_pixels() if scan.bad_pixels is not None else None
        self._good = None if good is None or good.all() else torch.from_numpy(good.astype(np.float32))

    def batch(self, indices: np.ndarray) -> Batch:
        """Gather some frames."""
        amplitude, seen = self._amplitudes(indices)
        good = self._good if self._good is None or self._good.ndim == 2 else self._good[indices]
        if good is not None:
            amplitude, seen = amplitude * good, seen * good
        good = good[None] if good is not None and good.ndim == 2 else good
        truth = self._truth(indices) if self._with_truth else None
        counts = (amplitude * (self.alpha * self.intensity_scale)).square()
        brighter = 1.0 if self.kept is None else self.kept**-0.5
        unit = seen * (self.alpha * brighter)
        return Batch(unit, counts, self.corners[indices], self._rests[indices], good, truth)

    def _amplitudes(self, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network must explain, and what it sees: amplitudes (B, n, n), measured or of a view."""
        if self.kept is None:
            amplitude = torch.from_numpy(self.scan.amplitude(indices))
            return amplitude, amplitude
        share = self._share_of_views()
        self._given += len(indices)
        if self._views is not None and self._random.random() < share:
            expected = self._views.counts(self.scan.positions_px[indices], self._random)
            drawn = self._random.poisson(expected * self.kept)
            return torch.from_numpy(np.sqrt(expected)), torch.from_numpy(np.sqrt(drawn, dtype=np.float32))
        amplitude = self.scan.amplitude(indices)
        counts = np.rint(amplitude.astype(np.float64) ** 2).astype(np.int64)
        thinned = self._random.binomial(counts, self.kept)
        return torch.from_numpy(amplitude), torch.from_numpy(np.sqrt(thinned, dtype=np.float32))

    def _share_of_views(self) -> float:
        """Part of the batches that show views by now: none while the frames are new."""
        times_seen = self._given / self.scan.n_frames
        return self._view_share * min(1.0, max(0.0, (times_seen - _NEW_UNTIL) / (_KNOWN_AFTER - _NEW_UNTIL)))

    def _kept_part(self, thin_to: float) -> float:
        sample = np.square(self.scan.amplitude(slice(0, 16)), dtype=np.float64)
        if self.scan.measurement != "counts" or np.abs(sample - np.round(sample)).max() > 1e-2:
            raise ConfigError(
                "`--thin-to` needs frames of photon counts; these are not. Give a scan of whole counts, or "
                "leave `--thin-to` out."
            )
        if thin_to >= self.mean_counts:
            raise ConfigError(
                f"`--thin-to` is {thin_to:g} and the frames of {self.scan.name} have {self.mean_counts:.4g} "
                "counts on average. Give fewer."
            )
        return thin_to / self.mean_counts

    def _truth(self, indices: np.ndarray) -> torch.Tensor:
        scan = self.scan
        if scan.patch_truth is not None:
            return torch.from_numpy(np.ascontiguousarray(scan.patch_truth[indices]))
        whole, _ = whole_and_rest(scan.positions_px[indices])
        return torch.from_numpy(
            cut_patches(np.asarray(scan.ground_truth), whole, scan.frame_px).astype(np.complex64)
        )


class Neighbourhoods(Dataset[Batch]):
    """Item i: the frames nearest to the middle of group i, as one batch."""

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

    def __getitem__(self, index: int) -> Batch:
        middle = self._frames.scan.positions_px[self._groups[index]].mean(axis=0)
        _, nearest = self._tree.query(middle, k=self._size)
        return self._frames.batch(self._used[np.atleast_1d(nearest)])


class GroupBatches(Dataset[Batch]):
    """Item (i, j, …): the members of these groups, group by group, as one batch."""

    def __init__(self, frames: Frames, groups: np.ndarray) -> None:
        """Hold the members (G, C) of every group."""
        self._frames, self._groups = frames, groups

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, chosen: tuple[int, ...]) -> Batch:
        return self._frames.batch(self._groups[list(chosen)].reshape(-1))


class Shuffled(Sampler[Any]):
    """Items of a data set in a new order every epoch, seeded.

    One at a time, or `size` at once as a tuple; an epoch has `n_batches` of them. Where several processes
    train together, each takes every `n_ranks`-th batch of one order: what they take at the same time is
    what one process takes one after the other.
    """

    def __init__(
        self, n_items: int, n_batches: int, *, size: int = 1, seed: int = 0, rank: int = 0, n_ranks: int = 1
    ) -> None:
        self._n_items, self._n_batches, self._size = n_items, n_batches, size
        self._seed, self._epoch = seed, 0
        self._rank, self._n_ranks = rank, n_ranks

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls this."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        random = np.random.default_rng([self._seed, self._epoch])
        self._epoch += 1
        length = self._n_batches * self._n_ranks * self._size
        order = np.resize(random.permutation(self._n_items), length).reshape(-1, self._size)
        for batch in order[self._rank :: self._n_ranks].tolist():
            yield batch[0] if self._size == 1 else tuple(batch)

    def __len__(self) -> int:
        return self._n_batches
