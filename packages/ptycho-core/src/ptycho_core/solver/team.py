"""The ranks that solve one scan together, and which of its frames each of them has.

Every rank knows where all frames lie, which takes 16 bytes each, and reads its own ones alone. Those are a
compact part of the scan (`scan.cells`).

One rank alone is a team as well, and everything here leaves its numbers as they are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64, Int64

from ptycho_config.errors import ConfigError
from ptycho_config.models import SolverConfig
from ptycho_core.ranks import ALONE, Ranks
from ptycho_core.result.history import RunEvent
from ptycho_core.scan import Scan
from ptycho_core.scan.cells import FEWEST_FRAMES, cells_of

__all__ = ["ON_ITS_OWN", "Team", "balance", "check_ranks", "most_ranks"]

Value = TypeVar("Value", np.ndarray, float)


@dataclass(frozen=True, eq=False)
class Team:
    """The ranks at work on one scan.

    Attributes:
        ranks: how they talk to each other.
        rank_of: (M,) the rank that has each frame of the scan; None where one has all.
        regions: (R, 2, 2) lowest and highest position (y, x) of each rank's part of the plane, which has no
            gap and no overlap; infinite where it does not end.
    """

    ranks: Ranks
    rank_of: Int64[np.ndarray, " frame"] | None
    regions: Float64[np.ndarray, "rank 2 2"]

    @classmethod
    def of(cls, ranks: Ranks, positions_px: Float64[np.ndarray, "frame 2"]) -> Team:
        """Cut the frames of a scan among ranks."""
        rank_of, regions = cells_of(positions_px, ranks.count)
        return cls(ranks, None if ranks.count == 1 else rank_of, regions)

    @property
    def several(self) -> bool:
        """Whether there is more than one rank."""
        return self.ranks.count > 1

    def mine(self, n_frames: int) -> Int64[np.ndarray, " own"]:
        """Return which of the frames of the scan this rank has, increasing."""
        if self.rank_of is None:
            return np.arange(n_frames)
        return np.flatnonzero(self.rank_of == self.ranks.rank)

    def here(self, positions_px: Float64[np.ndarray, "frame 2"]) -> Int64[np.ndarray, " here"]:
        """Return which positions lie in this rank's part of the plane."""
        low, high = self.regions[self.ranks.rank]
        return np.flatnonzero(((positions_px >= low) & (positions_px < high)).all(axis=1))

    def random(self, common: np.random.Generator, seed: int) -> np.random.Generator:
        """Return this rank's own source of chance; that of one rank alone is the common one."""
        return np.random.default_rng([seed, self.ranks.rank]) if self.several else common

    def total(self, values: Value) -> Value:
        """Add up what every rank has, the same bits for all of them."""
        if not self.several:
            return values
        if isinstance(values, np.ndarray):
            return self.ranks.sum(values)
        return float(self.ranks.sum(np.array([values], np.float64))[0])

    def mean(self, values: np.ndarray) -> float:
        """Return the mean over the frames of all ranks."""
        return self.total(float(values.sum(dtype=np.float64))) / self.total(float(len(values)))

    def mean_of_each(self, values: np.ndarray) -> Any:
        """Return the mean of values (m, ...) over the frames of all ranks: an array (...), or a number."""
        if not self.several:
            return values.mean(axis=0)
        return self.ranks.sum(np.asarray(values.sum(axis=0))) / self.total(float(len(values)))

    def largest(self, value: float) -> float:
        """Return the largest of what every rank has."""
        return self.ranks.largest(value) if self.several else value

    def extremes(self, values: Float64[np.ndarray, "own 2"]) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the largest (2,) of what the frames of all ranks have."""
        low, high = values.min(axis=0), values.max(axis=0)
        if not self.several:
            return low, high
        each = np.zeros((self.ranks.count, 2, 2))
        each[self.ranks.rank] = low, high
        each = self.ranks.sum(each)
        return each[:, 0].min(axis=0), each[:, 1].max(axis=0)

    def middle(self, value: float) -> float:
        """Return the median of the ranks' medians, which is about that of all frames."""
        if not self.several:
            return value
        each = np.zeros(self.ranks.count)
        each[self.ranks.rank] = value
        return float(np.median(self.ranks.sum(each)))

    def of_all_frames(
        self, values: np.ndarray, order: Int64[np.ndarray, " own"], n_frames: int
    ) -> np.ndarray:
        """Return one value for each frame of the scan, from one for each frame of this rank.

        Args:
            values: (m, ...) float, in the order of the batches. order: which frames of the scan those are.
        """
        spread = np.zeros((n_frames, *values.shape[1:]), values.dtype)
        spread[order] = values
        return self.total(spread)


def most_ranks(n_frames: int, config: SolverConfig | None = None) -> int:
    """Return how many ranks can solve a scan of so many frames together.

    Args:
        config: what is to be found; positions are held against an image of half of the frames.
    """
    halved = config is not None and config.refine_positions
    return max(1, (n_frames // 2 if halved else n_frames) // FEWEST_FRAMES)


#: A rank that computes for so many times as long as most others do is named.
_SLOW = 1.5


def balance(
    ranks: Ranks, *, n_frames: int, elapsed_s: float, sent_before: int, waited_before_s: float
) -> RunEvent:
    """Say how the work was shared: frames, seconds of compute and of waiting, and bytes of each rank.

    Args:
        n_frames: of this rank. elapsed_s: since it began, when it had sent and waited so much.
    """
    waited_s = ranks.waited_s - waited_before_s
    mine = {
        "host": ranks.host,
        "frames": n_frames,
        "computed_s": round(max(0.0, elapsed_s - waited_s), 3),
        "waited_s": round(waited_s, 3),
        "sent_mb": round((ranks.bytes_sent - sent_before) / 1e6, 3),
    }
    told = ranks.everyone(mine)
    computed = [one["computed_s"] for one in told]
    usual, most = float(np.median(computed)), max(computed)
    busy = sum(computed) / max(len(told) * max(one["computed_s"] + one["waited_s"] for one in told), 1e-9)
    frames, sent = ([one[key] for one in told] for key in ("frames", "sent_mb"))
    text = (
        f"{len(told)} ranks with {min(frames)} to {max(frames)} frames were at work {100 * busy:.0f} % of "
        f"the time; none sent more than {max(sent):.3g} MB."
    )
    if most > _SLOW * usual and most - usual > 1.0:
        slow = computed.index(most)
        text += (
            f" Rank {slow} ({told[slow]['host']}) is slow: it computed for {most:.1f} s, most others for "
            f"{usual:.1f} s, and they wait for it."
        )
    return RunEvent("ranks", text, {"ranks": told, "busy": busy})


def check_ranks(ranks: Ranks, scan: Scan, config: SolverConfig, *, prior_mean: object) -> None:
    """Refuse what several ranks cannot do together, and ranks that do not have the same before them.

    Raises:
        ConfigError: says what to do instead.
    """
    if ranks.count == 1:
        return
    most = most_ranks(scan.n_frames, config)
    if ranks.count > most:
        raise ConfigError(
            f"{scan.n_frames} frames are too few for {ranks.count} ranks. Start at most {most}, or let some "
            f"of them solve it: `ranks.part({most})`."
        )
    if prior_mean is not None:
        raise ConfigError(
            "`prior_mean` is asked for the whole scan at once, which no rank has. Leave it out, or solve the "
            "scan in one process."
        )
    positions = scan.positions_px.tobytes() + scan.probe.tobytes()
    seen = [
        hashlib.sha256(positions).hexdigest()[:16],
        scan.n_frames,
        scan.frame_px,
        config.model_dump_json(),
    ]
    told = ranks.everyone(seen)
    for rank, other in enumerate(told):
        if other != told[0]:
            what = "other settings" if other[:3] == told[0][:3] else f"another scan, of {other[1]} frames,"
            raise ConfigError(
                f"Rank {rank} has {what} than rank 0. Give all ranks the same file and the same settings."
            )


#: One rank that has all frames.
ON_ITS_OWN = Team.of(ALONE, np.zeros((1, 2)))
