"""What all frames of a scan say together, each rank having read its share of them.

A scan that was opened knows it already. A part of one, such as a half of its frames, has to be read for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptycho_core.ranks import Ranks
from ptycho_core.scan import Scan
from ptycho_core.scan.survey import FrameSurvey

__all__ = ["surveyed"]

_SUMS = ("counts_sum", "pixel_sum", "pixel_squares", "pixel_negatives", "pixel_negative_sum")


def surveyed(scan: Scan, ranks: Ranks) -> Scan:
    """Return a scan that knows what its frames say together; all ranks call this with the same frames."""
    if ranks.count == 1 or not ranks.any("_statistics" not in vars(scan)):
        return scan
    edges = np.arange(ranks.count + 1) * scan.n_frames // ranks.count
    rows = slice(int(edges[ranks.rank]), int(edges[ranks.rank + 1]))
    part = ranks.one(lambda: scan.select(rows).survey())
    return scan.moved_to(scan.positions_px).remember(_joined(part, rows, scan.n_frames, ranks))


def _joined(part: FrameSurvey, rows: slice, n_frames: int, ranks: Ranks) -> FrameSurvey:
    """Put together what every rank found in its rows."""
    highest = ranks.largest(part.maximum)

    def placed(values: np.ndarray) -> np.ndarray:
        every = np.zeros(n_frames, values.dtype)
        every[rows] = values
        return ranks.sum(every)

    def marked(mask: np.ndarray | None, in_how_many: int) -> np.ndarray | None:
        if not ranks.any(mask is not None):
            return None
        here = np.zeros(part.counts_sum.shape, np.int64) if mask is None else mask.astype(np.int64)
        return ranks.sum(here) >= in_how_many

    def first(number: int | None) -> int | None:
        found = [
            one for one in ranks.everyone(None if number is None else number + rows.start) if one is not None
        ]
        return min(found, default=None)

    at_maximum = part.pixel_at_maximum * (part.maximum == highest)
    return FrameSurvey(
        minimum=-ranks.largest(-part.minimum),
        maximum=highest,
        integral=not ranks.any(not part.integral),
        measurement=part.measurement,
        first_infinite=first(part.first_infinite),
        first_all_nan=first(part.first_all_nan),
        n_nan=int(ranks.sum(np.array(part.n_nan))),
        bad_values_per_frame=placed(part.bad_values_per_frame),
        n_negative=int(ranks.sum(np.array(part.n_negative))),
        nan_always=marked(part.nan_always, ranks.count),
        nan_ever=marked(part.nan_ever, 1),
        counts_per_frame=placed(part.counts_per_frame),
        pixel_minimum=_each(np.minimum, part.pixel_minimum, ranks),
        pixel_maximum=_each(np.maximum, part.pixel_maximum, ranks),
        pixel_at_maximum=ranks.sum(at_maximum),
        **{name: ranks.sum(getattr(part, name)) for name in _SUMS},
    )


def _each(
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray], values: np.ndarray, ranks: Ranks
) -> np.ndarray:
    """Return the smallest or the largest of each pixel over all ranks."""
    found = values
    for one in ranks.in_turn(values):
        found = choose(found, one)
    return ranks.from_first(found)
