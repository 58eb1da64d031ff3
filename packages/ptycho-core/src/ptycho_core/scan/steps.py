"""Photons told by the steps of the values: whole multiples of one number, of which dim pixels hold one.

So counts are that were multiplied by a constant, or divided by the monitor of each frame; then the number
differs from frame to frame. Amplitudes are multiples of nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Num

from ptycho_core.scan.lazy import LazyFrames

__all__ = ["FrameUnits", "counted_one_by_one", "unit_of_each_frame"]

#: Frames that are looked at, and have to tell.
_LOOKED_AT, _FEWEST_FRAMES = 64, 16


@dataclass(frozen=True)
class FrameUnits:
    """The number of which all values of a frame are whole multiples.

    Attributes:
        mean: over the frames that were looked at.
        least, most: of all of them.
    """

    mean: float
    least: float
    most: float

    @property
    def common(self) -> bool:
        """Whether all frames have the same."""
        return self.most - self.least < 1e-4 * self.mean


_SMALLEST_VALUES, _FEWEST_VALUES, _LARGEST_MULTIPLE = 400, 5, 1 << 20
#: A multiple is whole within the first number and the second times itself; so large a part has to be.
_WHOLE, _ROUNDING, _NEARLY_ALL = 2e-3, 1e-6, 0.98


def unit_of_each_frame(
    frames: np.ndarray | LazyFrames, bad_pixels: Bool[np.ndarray, "n n"] | None = None
) -> FrameUnits | None:
    """Return the photon in fractional values, if each frame has one; it may differ from frame to frame.

    Amplitudes are no multiples of anything, and rounded ones hold no single steps where it is dark.

    Args:
        frames: (M, N, N) floats as stored. bad_pixels: (N, N) as stored.
    """
    units: list[float] = []
    photons: list[np.ndarray] = []
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _LOOKED_AT)).astype(int))
    for number in chosen.tolist():
        frame = np.asarray(frames[number], np.float64)
        values = frame if bad_pixels is None else np.where(bad_pixels, 0.0, frame)
        values = np.where(np.isfinite(values), values, 0.0)
        if not values.any():
            continue
        unit = _unit(values)
        if unit is None:
            return None
        units.append(unit)
        photons.append(np.rint(values / unit))
    if len(units) < min(_FEWEST_FRAMES, len(frames)) or not units:
        return None
    counted = np.stack(photons).reshape(len(photons), -1)
    if not (counted_one_by_one(counted) and _as_noisy_as_photons(counted)):
        return None
    return FrameUnits(float(np.mean(units)), min(units), max(units))


def _unit(values: Float64[np.ndarray, "n n"]) -> float | None:
    """Return the largest number of which a frame's values are whole multiples."""
    some = np.unique(values[values > 0])[:_SMALLEST_VALUES]
    if some.size < _FEWEST_VALUES:
        return None
    gaps = np.diff(some, prepend=0.0)
    for unit in (float(np.median(gaps[:20])), float(gaps.min())):
        for _ in range(3):
            multiple = np.maximum(np.rint(some / unit), 1)
            unit = float((some * multiple).sum() / np.square(multiple).sum())
        multiple = np.rint(some / unit)
        whole = np.abs(some / unit - multiple) <= _WHOLE + _ROUNDING * multiple
        if whole.mean() >= _NEARLY_ALL and multiple.max() < _LARGEST_MULTIPLE:
            return unit
    return None


#: The dimmest pixels, and the values above 0 that are needed to tell, of which so large a part has to be 1.
_DIMMEST, _FEWEST_COUNTED, _SINGLE, _COUNTED_TO = 500, 100, 0.2, 6


def counted_one_by_one(counts: Num[np.ndarray, "frame pixel"]) -> bool:
    """Whether the dimmest pixels hold 1 more often than 2, 2 more often than 3, and so on.

    Where a photon gives several counts there is a gap below it, or a valley where the detector has noise.
    """
    mean = counts.mean(axis=0)
    dim = (mean > 0) & (mean < 2)
    if dim.sum() > _DIMMEST:
        # Pixels that had light once say as much as those that had it often, but cannot hold a second value.
        dim &= mean <= np.partition(mean[dim], _DIMMEST)[_DIMMEST]
    values = counts[:, dim]
    values = values[values > 0]
    seen = np.bincount(values[values <= _COUNTED_TO].astype(np.int64), minlength=_COUNTED_TO + 1)[1:]
    # A number of n scatters by its root; few values over many numbers would fall by that alone.
    falls = seen[1:] <= seen[:-1] + 2 * np.sqrt(seen[:-1] + 1)
    return bool(values.size >= _FEWEST_COUNTED and seen[0] > _SINGLE * values.size and falls.all())


def _as_noisy_as_photons(counts: Float64[np.ndarray, "frame pixel"]) -> bool:
    """Whether no group of pixels varies less than photons do, as values that were only rounded would."""
    mean, variance = counts.mean(axis=0), counts.var(axis=0, ddof=1)
    for least, most in ((0.05, 1.0), (1.0, 5.0), (5.0, 50.0)):
        some = (mean > least) & (mean <= most)
        if some.sum() >= 20 and variance[some].sum() < 0.7 * mean[some].sum():
            return False
    return True
