"""What all frames of a scan say together, each rank having read its own part of them.

A scan that was opened knows it already. A part of one, such as a half of its frames, has to be read for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from ptycho_core.ranks import Ranks
from ptycho_core.scan import Scan
from ptycho_core.scan.cells import FEWEST_FRAMES, cells_of
from ptycho_core.scan.lazy import ArraySource, LazyFrames
from ptycho_core.scan.survey import FrameSurvey, Measurement, survey_frames

__all__ = ["own_frames", "survey_together", "surveyed"]

_SUMS = ("counts_sum", "pixel_sum", "pixel_squares", "pixel_negatives", "pixel_negative_sum")


def surveyed(scan: Scan, ranks: Ranks) -> Scan:
    """Return a scan that knows what its frames say together; all ranks call this with the same frames."""
    if ranks.count == 1 or not ranks.any("_statistics" not in vars(scan)):
        return scan
    found = survey_together(
        scan.frames,
        scan.positions_px,
        ranks,
        bad_pixels=scan.bad_as_stored,
        measurement=scan.measurement,
    )
    return scan.moved_to(scan.positions_px).remember(found)


def own_frames(
    positions_px: Float64[np.ndarray, "frame 2"], ranks: Ranks
) -> Int64[np.ndarray, " own"] | None:
    """Return which frames this rank has where it shares them with others; None where it has to read all."""
    if ranks.count == 1 or len(positions_px) < FEWEST_FRAMES * ranks.count:
        return None
    return np.flatnonzero(cells_of(positions_px, ranks.count)[0] == ranks.rank)


def survey_together(
    frames: np.ndarray | LazyFrames,
    positions_px: Float64[np.ndarray, "frame 2"],
    ranks: Ranks,
    *,
    bad_pixels: np.ndarray | None = None,
    measurement: Measurement | Literal["auto"] = "auto",
) -> FrameSurvey:
    """Do what `survey_frames` does, each rank reading its own frames; all of them call this.

    Args:
        positions_px: (M, 2), finite.
    """
    own = own_frames(positions_px, ranks)
    if own is None:
        return survey_frames(frames, bad_pixels=bad_pixels, measurement=measurement)
    source = LazyFrames(ArraySource(frames)) if isinstance(frames, np.ndarray) else frames
    mine = source.select(own)
    bad = bad_pixels[own] if bad_pixels is not None and bad_pixels.ndim == 3 else bad_pixels
    part = ranks.one(lambda: survey_frames(mine, bad_pixels=bad, measurement=measurement))
    taken_for = _measurement_of_all(part, frames.dtype, measurement, ranks)
    if ranks.any(part.measurement != taken_for):
        again = part.measurement != taken_for
        part = ranks.one(
            lambda: survey_frames(mine, bad_pixels=bad, measurement=taken_for) if again else part
        )
    return _joined(replace(part, measurement=taken_for), own, len(positions_px), ranks)


def _measurement_of_all(
    part: FrameSurvey, dtype: np.dtype, asked: Measurement | Literal["auto"], ranks: Ranks
) -> Measurement:
    """Return what the values of all ranks are taken for, by the rule of `survey_frames`."""
    if asked != "auto":
        return asked
    fractions, largest = ranks.any(not part.integral), ranks.largest(part.maximum)
    return "amplitude" if dtype.kind == "f" and (fractions or largest <= 1) else "counts"


def _joined(part: FrameSurvey, own: Int64[np.ndarray, " own"], n_frames: int, ranks: Ranks) -> FrameSurvey:
    """Put together what every rank found in its own frames."""
    highest = ranks.largest(part.maximum)

    def placed(values: np.ndarray) -> np.ndarray:
        every = np.zeros(n_frames, values.dtype)
        every[own] = values
        return ranks.sum(every)

    def marked(mask: np.ndarray | None, in_how_many: int) -> np.ndarray | None:
        if not ranks.any(mask is not None):
            return None
        here = np.zeros(part.counts_sum.shape, np.int64) if mask is None else mask.astype(np.int64)
        return ranks.sum(here) >= in_how_many

    def first(number: int | None) -> int | None:
        found = [
            one for one in ranks.everyone(None if number is None else int(own[number])) if one is not None
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
