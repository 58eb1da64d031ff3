"""Which frames are looked at together.

A group is a seed frame and C - 1 of its nearest neighbours, C = gridsize^2. Groups are indices and offsets
only; no image is touched here. One KD-tree over all positions, ties ordered by (distance, index), every draw
from one seeded generator: the same seed gives the same groups in any process.

Within a group the members run row by row: sorted by y, cut into gridsize rows, each sorted by x.
Source: docs/reference/physics.md, "Grouping".
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float64, Inexact, Int32, Int64
from scipy.spatial import KDTree

from ptycho_config.errors import ConfigError, DataError, PolicyWarning

FINDING = "OVERSAMPLING-001"
TIES_EXPECTED = 8
MOST_CHOICES = 200_000
"""Subsets of a neighbour pool that are listed at most."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of frames and where their members lie.

    Attributes:
        indices: (G, C) frame numbers, distinct within a group.
        offsets: (G, 2) centre of each group, the mean of its members' positions, (y, x) pixels.
        relative: (G, C, 2) centre minus member's position; `offsets[:, None] - relative` are the positions.
        frames_used: sorted numbers of the frames that occur in any group.
    """

    indices: Int32[np.ndarray, "group member"]
    offsets: Float64[np.ndarray, "group 2"]
    relative: Float64[np.ndarray, "group member 2"]
    frames_used: Int64[np.ndarray, " used"]

    @property
    def n_groups(self) -> int:
        """Number of groups G."""
        return self.indices.shape[0]

    @property
    def group_size(self) -> int:
        """Number of members C."""
        return self.indices.shape[1]

    def positions_px(self) -> Float64[np.ndarray, "group member 2"]:
        """Return the members' positions, (y, x)."""
        return self.offsets[:, None] - self.relative


def group_frames(
    positions_px: Inexact[np.ndarray, "frame 2"],
    gridsize: int = 1,
    *,
    neighbor_count: int = 4,
    n_groups: int | None = None,
    seed: int | None = None,
    sequential: bool = False,
    enable_oversampling: bool = False,
    neighbor_pool_size: int | None = None,
) -> Groups:
    """Form groups of gridsize^2 neighbouring frames.

    Args:
        positions_px: (y, x) of every frame.
        gridsize: groups have gridsize^2 members; 1 means the frame alone.
        neighbor_count: K, members are drawn from that many nearest neighbours of the seed.
        n_groups: total number of groups; by default one for each frame.
        seed: of the generator.
        sequential: seeds are frames 0, 1, 2, ... and the draw of members is always the same.
        enable_oversampling: allow more groups than frames (gridsize > 1): further groups have the same seeds
            with other members.
        neighbor_pool_size: neighbours to draw from when there are more groups than frames; K by default.

    Raises:
        DataError: fewer frames than members.
        ConfigError: too few neighbours, or OVERSAMPLING-001: more groups than frames without opt-in, or with
            too small a pool.

    Example:
        >>> square = np.array([[40.0, 30.0], [40, 34], [46, 30], [46, 34]])
        >>> groups = group_frames(square, gridsize=2, n_groups=1, seed=0)
        >>> groups.indices.tolist(), groups.offsets.tolist()
        ([[0, 1, 2, 3]], [[43.0, 32.0]])
    """
    positions_px = np.asarray(positions_px, np.float64)
    n_frames, size = len(positions_px), gridsize**2
    wanted = n_frames if n_groups is None else n_groups
    _check(n_frames, gridsize, wanted, neighbor_count)
    rng = np.random.default_rng(0 if sequential else seed)
    if size == 1:
        indices = _seeds(n_frames, _capped(wanted, n_frames), rng, sequential)[:, None]
    elif wanted <= n_frames:
        seeds = _seeds(n_frames, wanted, rng, sequential)
        neighbours = nearest_neighbours(positions_px, neighbor_count)[seeds]
        indices = np.column_stack([seeds, _draw(neighbours, size - 1, rng)])
    else:
        pool = neighbor_count if neighbor_pool_size is None else neighbor_pool_size
        _check_oversampling(wanted, n_frames, size, pool, enable_oversampling)
        indices = _oversample(nearest_neighbours(positions_px, pool), size, wanted, rng, sequential)
    return _as_groups(positions_px, indices, gridsize)


def nearest_neighbours(
    positions_px: Inexact[np.ndarray, "frame 2"], neighbor_count: int
) -> Int64[np.ndarray, "frame neighbour"]:
    """Return the nearest other frames of every frame, nearest first; ties by frame number.

    A frame is never its own neighbour, though others at the same position are. At most J - 1 columns.
    """
    positions_px = np.asarray(positions_px, np.float64)
    n_frames = len(positions_px)
    count = min(neighbor_count, n_frames - 1)
    if count < 1:
        return np.empty((n_frames, 0), np.int64)
    tree = KDTree(positions_px)
    # The tree breaks ties as it pleases: ask for a few more, sort, and look closer where a tie may reach
    # beyond what was asked for.
    asked = min(n_frames, count + 1 + TIES_EXPECTED)
    near = np.asarray(tree.query(positions_px, k=asked)[1])
    frame = np.arange(n_frames)[:, None]
    distance = np.where(near == frame, np.inf, _distance(positions_px, frame, near))
    order = np.lexsort((near, distance), axis=1)
    found = np.take_along_axis(near, order, axis=1)[:, :count].astype(np.int64)
    distance = np.take_along_axis(distance, order, axis=1)
    if asked < n_frames:
        # The last finite distance is the farthest that was seen; itself or a twin may fill one place.
        farthest = np.where(np.isinf(distance[:, -1]), distance[:, -2], distance[:, -1])
        for frame in np.flatnonzero(distance[:, count - 1] >= farthest).tolist():
            radius = distance[frame, count - 1] + 1e-8
            others = np.sort(np.array(tree.query_ball_point(positions_px[frame], radius), np.int64))
            others = others[others != frame]
            nearest_first = np.argsort(_distance(positions_px, frame, others), kind="stable")
            found[frame] = others[nearest_first[:count]]
    return found


def choose_frames(
    n_frames: int, n_subsample: int | None, seed: int | None = None
) -> Int64[np.ndarray, " chosen"]:
    """Return the sorted numbers of a random part of the frames, without replacement; None means all."""
    if n_subsample is None or n_subsample >= n_frames:
        return np.arange(n_frames, dtype=np.int64)
    if n_subsample < 1:
        raise ConfigError(
            f"`n_subsample` is {n_subsample}; give a number from 1 to {n_frames}, the frames there are"
        )
    return np.sort(np.random.default_rng(seed).choice(n_frames, n_subsample, replace=False)).astype(np.int64)


def _distance(positions_px: np.ndarray, one: np.ndarray | int, others: np.ndarray) -> np.ndarray:
    """Distances with rounding noise removed, so that neighbours on a grid tie exactly."""
    apart = positions_px[others] - positions_px[one]
    return np.round(np.hypot(apart[..., 0], apart[..., 1]), 9)


def _seeds(n_frames: int, count: int, rng: np.random.Generator, sequential: bool) -> np.ndarray:
    if sequential or count == n_frames:
        return np.arange(count, dtype=np.int64)
    return rng.choice(n_frames, count, replace=False).astype(np.int64)


def _draw(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw distinct candidates from each row: those with the smallest of equally many random numbers."""
    order = np.argsort(rng.random(candidates.shape), axis=1)[:, :count]
    return np.take_along_axis(candidates, order, axis=1)


def _oversample(
    pools: np.ndarray, size: int, wanted: int, rng: np.random.Generator, sequential: bool
) -> np.ndarray:
    """Give the seeds one subset each, round after round, until there are enough groups.

    The members of a seed's subsets come from its pool in random order without repetition; when they are
    used up, they start anew.
    """
    n_frames, pool = pools.shape
    subsets = np.array(list(combinations(range(pool), size - 1)), np.int64)
    per_seed = -(-wanted // n_frames)
    if per_seed > len(subsets):
        warnings.warn(
            PolicyWarning(
                f"{wanted} groups of {size} from {n_frames} frames need {per_seed} choices for each seed, "
                f"a pool of {pool} neighbours has {len(subsets)}; groups repeat. "
                "Raise `neighbor_pool_size`",
                finding=FINDING,
            ),
            stacklevel=3,
        )
    full, rest = divmod(per_seed, len(subsets))
    order = np.stack(
        [
            np.concatenate(
                [
                    *(rng.permutation(len(subsets)) for _ in range(full)),
                    rng.choice(len(subsets), rest, replace=False),
                ]
            )
            for _ in range(n_frames)
        ]
    )
    seeds = np.arange(n_frames) if sequential else rng.permutation(n_frames)
    seed_of = np.tile(seeds, per_seed)[:wanted]
    round_of = np.repeat(np.arange(per_seed), n_frames)[:wanted]
    members = np.take_along_axis(pools[seed_of], subsets[order[seed_of, round_of]], axis=1)
    return np.column_stack([seed_of, members])


def _as_groups(positions_px: np.ndarray, indices: np.ndarray, gridsize: int) -> Groups:
    """Bring members into reading order and compute centres."""
    indices = np.sort(indices, axis=1)
    by_y = np.argsort(positions_px[indices, 0], axis=1, kind="stable")
    indices = np.take_along_axis(indices, by_y, axis=1)
    rows = indices.reshape(len(indices), gridsize, gridsize)
    by_x = np.argsort(positions_px[rows, 1], axis=2, kind="stable")
    indices = np.take_along_axis(rows, by_x, axis=2).reshape(indices.shape)
    members = positions_px[indices]
    offsets = members.mean(axis=1)
    return Groups(
        indices=indices.astype(np.int32),
        offsets=offsets,
        relative=offsets[:, None] - members,
        frames_used=np.unique(indices).astype(np.int64),
    )


def _capped(wanted: int, n_frames: int) -> int:
    if wanted > n_frames:
        warnings.warn(
            PolicyWarning(
                f"{wanted} groups of one frame were asked for and there are {n_frames} frames; "
                "each is used once",
                finding=FINDING,
            ),
            stacklevel=3,
        )
    return min(wanted, n_frames)


def _check(n_frames: int, gridsize: int, wanted: int, neighbor_count: int) -> None:
    size = gridsize**2
    if gridsize < 1 or wanted < 1:
        raise ConfigError(f"`gridsize` is {gridsize} and `n_groups` {wanted}; both must be at least 1")
    if n_frames < size:
        raise DataError(
            f"groups of gridsize {gridsize} need {size} frames and the scan has {n_frames}; "
            f"use `--gridsize {math.isqrt(n_frames)}`"
        )
    if size > 1 and neighbor_count < size - 1:
        raise ConfigError(
            f"`neighbor_count` is {neighbor_count} and gridsize {gridsize} needs {size - 1} neighbours "
            f"besides the seed; use `--neighbor-count {size - 1}` or more"
        )


def _check_oversampling(wanted: int, n_frames: int, size: int, pool: int, enabled: bool) -> None:
    if not enabled:
        raise ConfigError(
            f"{wanted} groups were asked for and there are {n_frames} frames; give `n_groups` of at most "
            f"{n_frames}, or `enable_oversampling=True` with a neighbour pool, so that groups share seeds",
            finding=FINDING,
        )
    if pool < size:
        raise ConfigError(
            f"oversampling needs `neighbor_pool_size >= C` and got a pool of {pool} for C = {size} members; "
            f"use `--neighbor-pool-size {size}` or more",
            finding=FINDING,
        )
    if math.comb(min(pool, n_frames - 1), size - 1) > MOST_CHOICES:
        raise ConfigError(
            f"a pool of {pool} neighbours has too many choices of {size - 1} members to list; "
            "use a smaller `neighbor_pool_size`",
            finding=FINDING,
        )
