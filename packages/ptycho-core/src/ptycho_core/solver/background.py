"""A flat background found during the solve: what every pixel of every frame counts besides the sample.

Every third epoch some frames are predicted, and the background goes to where their counts are most likely,
object and probe as they are (Poisson). An object that cannot explain the dark pixels yet would hand their
light to the background; so the first epochs leave it alone, and it never exceeds what the darkest part of the
detector counted on the mean.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float64

from ptycho_core.result.history import RunEvent
from ptycho_core.solver.team import ON_ITS_OWN, Team

__all__ = ["FlatBackground", "darkest_counts", "likeliest"]

_WAIT_EPOCHS, _EVERY = 3, 3
#: Pixels that are looked at in an epoch: the error of a background of one count is below half a per cent.
_SAMPLED_PIXELS = 1 << 16
#: Side of the squares whose mean is taken, and the share of them that may be darker than the darkest part.
_SQUARE_PX, _DARKER = 5, 0.02
#: The prediction takes some noise for signal, so the fit is a few per cent too small. So near to what the
#: darkest part counted, nothing else is there, and that is taken.
_NEARLY = 0.9
_MOST_ITERATIONS, _CLOSE = 30, 1e-4


class FlatBackground:
    """The background of a scan, in counts per pixel, the same at every level.

    Attributes:
        counts: the background as it is known now.
        at_most: what it cannot exceed.
    """

    def __init__(self, counts: float, *, at_most: float) -> None:
        self.at_most = at_most
        self.counts = min(counts, at_most)
        self._epoch = 0
        self._random = np.random.default_rng(0)

    def event(self) -> RunEvent:
        """Say how large it is."""
        return RunEvent(
            "background",
            f"Background found: {self.counts:.3g} counts per pixel; the darkest part has {self.at_most:.3g}.",
            {"background": self.counts},
        )

    def sample(self, n_frames: int, size_px: int) -> np.ndarray | None:
        """Choose the frames to look at after an epoch; None where it is too early, or not its turn."""
        self._epoch += 1
        if self._epoch <= _WAIT_EPOCHS or self._epoch % _EVERY != (_WAIT_EPOCHS + 1) % _EVERY:
            return None
        number = min(n_frames, max(1, _SAMPLED_PIXELS // size_px**2))
        return np.sort(self._random.choice(n_frames, number, replace=False))

    def fit(self, counts: np.ndarray, predicted: np.ndarray, team: Team = ON_ITS_OWN) -> None:
        """Take the background under which the counts of some pixels are most likely.

        Args:
            counts, predicted: measured, and predicted without a background; of good pixels only.
            team: whose ranks look at frames of their own each; the mean of what they find is taken.
        """
        finite = float(np.isfinite(predicted).all())
        if team.total(finite) == team.ranks.count:
            found = likeliest(counts, predicted, start=self.counts)
            found = team.total(found) / team.ranks.count
            self.counts = self.at_most if found > _NEARLY * self.at_most else found


def darkest_counts(mean: Float64[np.ndarray, "n n"], good: Bool[np.ndarray, "n n"]) -> float:
    """Return the mean counts per pixel in the darkest part of the mean pattern."""
    known = scipy.ndimage.uniform_filter(good.astype(np.float64), _SQUARE_PX)
    blurred = scipy.ndimage.uniform_filter(np.where(good, mean, 0.0), _SQUARE_PX)
    return float(np.quantile(blurred[good] / known[good], _DARKER)) if good.any() else 0.0


def likeliest(counts: np.ndarray, predicted: np.ndarray, *, start: float) -> float:
    """Find b >= 0 that makes Poisson counts of mean `predicted + b` most likely, by Newton's steps.

    The score, the mean of counts / (predicted + b) - 1, falls with b and is convex: Newton's steps never pass
    its root from the left, and from the right they are kept above 0.

    Args:
        counts, predicted: of the same shape; predicted more than 0.
        start: where to look from.
    """
    if float((counts / predicted).mean(dtype=np.float64)) <= 1:
        return 0.0
    b = max(start, float(predicted.min()))
    for _ in range(_MOST_ITERATIONS):
        mean = predicted + np.float32(b)
        ratio = counts / mean
        step = (float(ratio.mean(dtype=np.float64)) - 1) / float((ratio / mean).mean(dtype=np.float64))
        b = max(b + step, b / 4)
        if abs(step) <= _CLOSE * b:
            break
    return b
