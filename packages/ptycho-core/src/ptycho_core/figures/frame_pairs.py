"""A sample of frames as they were measured and as object and probe predict them, as small PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64
from matplotlib import colormaps

from ptycho_config.errors import DataError
from ptycho_core.figures.display import robust_limits
from ptycho_core.figures.view import DrawnResult
from ptycho_core.physics.residual import PredictedAmplitude
from ptycho_core.physics.variations import ProbeVariations
from ptycho_core.scan import Scan

__all__ = [
    "FrameComparison",
    "FramePair",
    "PlacedResult",
    "frame_pairs",
    "residual_colours",
    "sampled_frames",
]

#: Side of a picture; larger frames are averaged over squares of pixels.
_LARGEST_PX = 128
_WORST = 4


@runtime_checkable
class PlacedResult(DrawnResult, Protocol):
    """A result that says where its canvas lies, and how bright each frame was where that was found."""

    @property
    def origin_px(self) -> Float64[np.ndarray, "2"]: ...
    @property
    def frame_intensity(self) -> Float64[np.ndarray, " frame"] | None: ...
    @property
    def variations(self) -> ProbeVariations | None: ...


class FramePair(NamedTuple):
    """One frame, twice, with the same grey values: the logarithm of 1 + counts.

    Attributes:
        number: of the frame in the result. y_px, x_px: where it stands in the scan.
        residual: R of the frame. highest: counts that are brightest in both pictures.
        measured, predicted: PNG files.
    """

    number: int
    y_px: float
    x_px: float
    residual: float
    highest: float
    measured: bytes
    predicted: bytes


class FrameComparison:
    """The frames of a scan as they were measured and as a result predicts them, in the same unit.

    Attributes:
        numbers: (M,) the number in the result of each frame of the scan.
        sample: numbers in the scan of some frames: the worst explained ones, and others that are spread.
    """

    def __init__(self, reconstruction: PlacedResult, scan: Scan, count: int = 24) -> None:
        """Put a result beside its scan.

        Args:
            count: of frames in the sample, by which the prediction is brought to the unit of the counts.
        Raises:
            DataError: the scan is not the one that was reconstructed, or the object was cut so that frames
                reach beyond it.
        """
        self._result, self._scan = reconstruction, scan
        self.numbers = np.arange(scan.n_frames) if scan.frame_numbers is None else scan.frame_numbers
        n_result = len(reconstruction.positions_px)
        n_scan = scan.n_frames if scan.all_positions_px is None else len(scan.all_positions_px)
        if n_scan != n_result or scan.frame_px != reconstruction.frame_px:
            raise DataError(
                f"{scan.name} has {n_scan} frames of {scan.frame_px} px, the result {n_result} of "
                f"{reconstruction.frame_px} px. Give the scan that was reconstructed, read in the same way."
            )
        residual = reconstruction.residual_per_frame[self.numbers]
        self.sample = sampled_frames(reconstruction.positions_px[self.numbers], residual, count)
        self._scale = 1.0
        measured, predicted = self._amplitudes(self.sample)
        self._scale = float((predicted * measured).sum() / max(float(np.square(predicted).sum()), 1e-30))

    def counts(
        self, chosen: np.ndarray
    ) -> tuple[Float32[np.ndarray, "frame n n"], Float32[np.ndarray, "frame n n"]]:
        """Return measured and predicted counts of some frames of the scan, bad pixels 0."""
        measured, predicted = self._amplitudes(chosen)
        return np.square(measured), np.square(predicted)

    def _amplitudes(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        result, numbers = self._result, self.numbers[chosen]
        measured = self._scan.amplitude(chosen)
        if not len(chosen):
            return measured, measured
        intensity = result.frame_intensity
        model = PredictedAmplitude(
            result.object,
            result.probe,
            result.positions_px[numbers] - result.origin_px,
            frame_intensity=None if intensity is None else intensity[numbers],
            variations=None if result.variations is None else result.variations.select(numbers),
        )
        predicted = np.float32(self._scale) * model(slice(None))
        return measured, predicted * self._scan.good_pixels(chosen)


def frame_pairs(reconstruction: PlacedResult, compared: FrameComparison) -> list[FramePair]:
    """Draw the frames of the sample; two pictures of each are at most 128 pixels wide, some ten kilobytes."""
    pairs = []
    numbers = compared.numbers[compared.sample]
    for number, one, other in zip(numbers, *compared.counts(compared.sample), strict=True):
        images = [_averaged(counts) for counts in (one, other)]
        highest = max(float(images[0].max()), 1.0)
        y, x = (float(side) for side in reconstruction.positions_px[number])
        r = float(reconstruction.residual_per_frame[number])
        pairs.append(FramePair(int(number), y, x, r, highest, *(_png(image, highest) for image in images)))
    return pairs


def residual_colours(
    residual: Float32[np.ndarray, " frame"], chosen: Bool[np.ndarray, " frame"]
) -> list[str]:
    """Give the residuals of chosen frames their colours, from violet to yellow, as `#rrggbb`.

    A few wild ones among all frames change no other's.
    """
    low, high = robust_limits(residual, percent=1.0, least_span=0.01)
    colours = colormaps["viridis"]((residual[chosen] - low) / (high - low), bytes=True)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue, _ in colours.tolist()]


def sampled_frames(positions_px: np.ndarray, residual: np.ndarray, count: int) -> np.ndarray:
    """Choose frames that show a scan: the worst, then always the one that is farthest from all chosen.

    Args:
        positions_px: (M, 2). residual: (M,); frames without a finite one are not chosen.
    Returns:
        Their numbers in rising order, `count` at most.
    """
    known = np.flatnonzero(np.isfinite(residual) & np.isfinite(positions_px).all(axis=1))
    if len(known) <= count:
        return known
    worst = known[np.argsort(-residual[known], kind="stable")[: min(_WORST, count)]]
    chosen = [int(one) for one in worst]
    distance = np.full(len(known), np.inf)
    for one in chosen:
        distance = np.minimum(distance, _distance(positions_px[known], positions_px[one]))
    while len(chosen) < count:
        farthest = int(known[int(np.argmax(distance))])
        chosen.append(farthest)
        distance = np.minimum(distance, _distance(positions_px[known], positions_px[farthest]))
    return np.unique(chosen)


def _distance(positions_px: np.ndarray, one_px: np.ndarray) -> np.ndarray:
    return np.square(positions_px - one_px).sum(axis=1)


def _averaged(counts: Float32[np.ndarray, "n n"]) -> np.ndarray:
    """Average over squares of pixels until the frame is no larger than a picture; a rest is cut off."""
    factor = -(-len(counts) // _LARGEST_PX)
    side = len(counts) // factor
    whole = counts[: side * factor, : side * factor]
    return whole.reshape(side, factor, side, factor).mean(axis=(1, 3))


def _png(counts: np.ndarray, highest: float) -> bytes:
    """Write counts with the colours of `inferno`, one byte a pixel."""
    from PIL import Image

    values = np.log1p(np.clip(counts, 0, highest)) / np.log1p(highest)
    picture = Image.fromarray(np.rint(255 * values).astype(np.uint8))
    picture.putpalette(_palette())
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _palette() -> Sequence[int]:
    return colormaps["inferno"](np.arange(256), bytes=True)[:, :3].ravel().tolist()
