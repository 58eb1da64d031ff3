"""Geometry on load: find the beam, crop around it, rebin, turn and mirror frames or positions.

Detectors are larger than what is needed, their beam is not in the middle, and their axes are seldom those of
the stage. Frames are changed block by block while they are read; mask and probe follow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Complex, Float64

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.naming import shown
from ptycho_config.values import Orientation
from ptycho_core.io.options import ReadOptions
from ptycho_core.scan.lazy import ArraySource, LazyFrames

__all__ = [
    "ORIENTATIONS",
    "FrameGeometry",
    "beam_center_px",
    "mean_of_sample",
    "plan",
    "require_possible_geometry",
    "turned_positions",
]

ORIENTATIONS: tuple[Orientation, ...] = get_args(Orientation)
#: First rows and columns are exchanged or not, then y, then x is mirrored or not.
_TURNS: dict[str, tuple[bool, bool, bool]] = {
    "as-is": (False, False, False),
    "flip-y": (False, True, False),
    "flip-x": (False, False, True),
    "rotate-180": (False, True, True),
    "transpose": (True, False, False),
    "rotate-90": (True, True, False),
    "rotate-270": (True, False, True),
    "anti-transpose": (True, True, True),
}
_NEARLY_CENTRED_PX = 3


def require_possible_geometry(options: ReadOptions) -> None:
    """Refuse orientations that do not exist, and sizes below 1.

    Raises:
        ConfigError: so it is.
    """
    for key in ("frames_orientation", "positions_orientation"):
        if getattr(options, key) not in ORIENTATIONS:
            raise ConfigError(
                f"`{key}` is {shown(getattr(options, key))}. Expected one of {', '.join(ORIENTATIONS)}."
            )
    if options.rebin < 1 or (options.crop_px is not None and options.crop_px < 1):
        raise ConfigError(
            f"`rebin` is {options.rebin} and `crop_px` is {options.crop_px}. Expected numbers of at least 1."
        )
    if options.beam_center_px is not None and len(options.beam_center_px) != 2:
        raise ConfigError(f"`beam_center_px` is {options.beam_center_px}. Expected two numbers, y and x.")


@dataclass(frozen=True, kw_only=True)
class FrameGeometry:
    """A change of frames, see `ptycho_core.scan.lazy.FrameChange`.

    Attributes:
        shifted: the zero frequency was in the corner and goes to the centre first.
        top, left, side: the square that is kept.
        combine: how the pixels of a bin become one.
    """

    shifted: bool
    top: int
    left: int
    side: int
    rebin: int
    orientation: Orientation
    combine: Literal["sum", "root of squares", "any"]

    @property
    def transposes(self) -> bool:
        """Whether rows and columns are exchanged."""
        return _TURNS[self.orientation][0]

    def shape(self, frame_shape: tuple[int, int]) -> tuple[int, int]:
        side = self.side // self.rebin
        return side, side

    def dtype(self, dtype: np.dtype) -> np.dtype:
        if self.rebin == 1 or self.combine == "any":
            return dtype
        if dtype.kind == "f":
            return dtype if self.combine == "sum" or dtype.itemsize >= 4 else np.dtype(np.float32)
        if self.combine == "root of squares":
            return np.dtype(np.float64)
        # Sums must not wrap: a bin of 16-bit counts needs more than 16 bits.
        return np.dtype(np.uint32 if dtype.kind in "bu" and dtype.itemsize <= 2 else np.int64)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        if self.shifted:
            block = np.fft.fftshift(block, axes=(1, 2))
        block = block[:, self.top : self.top + self.side, self.left : self.left + self.side]
        if self.rebin > 1:
            block = self._binned(block)
        return turned_frames(block, self.orientation)

    def _binned(self, block: np.ndarray) -> np.ndarray:
        parts = [
            block[:, y :: self.rebin, x :: self.rebin] for y in range(self.rebin) for x in range(self.rebin)
        ]
        if self.combine == "any":
            return np.logical_or.reduce(parts)
        dtype = self.dtype(block.dtype)
        total = np.zeros(parts[0].shape, dtype)
        for part in parts:
            values = part.astype(dtype)
            total += values if self.combine == "sum" else values * values
        return total if self.combine == "sum" else np.sqrt(total, out=total)


def turned_frames(block: np.ndarray, orientation: str) -> np.ndarray:
    """Turn (k, N, N) images about index N/2, which stays where it is."""
    transpose, flip_y, flip_x = _TURNS[orientation]
    if transpose:
        block = np.swapaxes(block, 1, 2)
    for axis, flip in ((1, flip_y), (2, flip_x)):
        if flip:
            block = np.roll(np.flip(block, axis), 1, axis)
    return np.ascontiguousarray(block)


def turned_positions(
    positions: Float64[np.ndarray, "frame 2"], orientation: str
) -> Float64[np.ndarray, "frame 2"]:
    """Turn (y, x) positions about the origin."""
    transpose, flip_y, flip_x = _TURNS[orientation]
    turned = positions[:, ::-1] if transpose else positions
    return turned * np.array([-1.0 if flip_y else 1.0, -1.0 if flip_x else 1.0])


def plan(
    options: ReadOptions,
    frames: np.ndarray | LazyFrames,
    bad: np.ndarray | None,
    *,
    shifted: bool,
    amplitude: bool,
    name: str,
) -> tuple[FrameGeometry, list[str]]:
    """Decide which square of the frames is kept, and say so in sentences for the notes.

    Raises:
        DataError: the square does not fit around the beam.
    """
    height, width = frames.shape[1:]
    center: tuple[int, ...] | None = options.beam_center_px
    crop = options.crop_px
    notes: list[str] = []
    if center is None:
        center = _center(frames, bad, shifted=shifted, searched=crop is not None or height != width)
        if crop is not None:
            notes.append(f"The beam was found at pixel (y, x) = ({center[0]}, {center[1]}).")
    y, x = center
    if not (0 <= y < height and 0 <= x < width):
        raise DataError(
            f"{name}: the beam's centre ({y}, {x}) lies outside the frames of {height} x {width} pixels. "
            "Expected (y, x) in pixels as stored."
        )
    rebin = options.rebin
    before = (rebin - 1) // 2  # the bin that holds the beam has it in its middle
    bins = min((y - before) // rebin, (height - y + before) // rebin)
    bins = min(bins, (x - before) // rebin, (width - x + before) // rebin)
    largest = 2 * rebin * max(bins, 0)
    whole = min(height, width) - min(height, width) % (2 * rebin)
    side = crop
    if side is None:
        side = whole if height == width and options.beam_center_px is None else largest
    if side % (2 * rebin):
        raise DataError(
            f"{name}: `crop_px` is {side} and `rebin` {rebin}. Expected a side that {2 * rebin} divides, for "
            f"instance {side - side % (2 * rebin) or 2 * rebin}."
        )
    top, left = y - side // 2 - before, x - side // 2 - before
    if side == whole and height == width and options.beam_center_px is None:
        top, left = (min(max(start, 0), height - side) for start in (top, left))
    if side == 0 or min(top, left) < 0 or top + side > height or left + side > width:
        raise DataError(
            f"{name}: a square of {side} pixels around the beam at ({y}, {x}) does not fit into frames of "
            f"{height} x {width}. Expected `--crop-px {largest}` or less, or another `--beam-center-px`."
        )
    said = [f"{side} x {side} pixels around ({y}, {x}) were kept"] if (side, side) != (height, width) else []
    if rebin > 1:
        said.append(f"{rebin} x {rebin} pixels became one")
    if options.frames_orientation != "as-is":
        said.append(f"the frames were turned ({options.frames_orientation})")
    if said:
        notes.append(f"Of the frames of {height} x {width} pixels, {', '.join(said)}.")
    change = FrameGeometry(
        shifted=shifted,
        top=top,
        left=left,
        side=side,
        rebin=rebin,
        orientation=options.frames_orientation,
        combine="root of squares" if amplitude else "sum",
    )
    return change, notes


def _center(
    frames: np.ndarray | LazyFrames, bad: np.ndarray | None, *, shifted: bool, searched: bool
) -> tuple[int, int]:
    height, width = frames.shape[1:]
    middle = (height // 2, width // 2)
    if not searched:
        return middle
    pattern, good = mean_of_sample(frames, bad)
    if shifted:
        pattern, good = np.fft.fftshift(pattern), np.fft.fftshift(good)
    found = beam_center_px(pattern, good)
    near = max(abs(found[0] - middle[0]), abs(found[1] - middle[1])) <= _NEARLY_CENTRED_PX
    return middle if near and height == width and height % 2 == 0 else found


def changed_probe(
    probe: Complex[np.ndarray, "mode n n"], change: FrameGeometry, *, full_px: int
) -> Complex[np.ndarray, "mode side side"]:
    """Bring a probe of the frames as stored to the grid of the frames that are left.

    Fewer detector pixels are fewer frequencies, so the pixel of the object grows; larger ones are a smaller
    window. A probe of another side is taken to be on the new grid already.
    """
    if probe.shape[-1] != full_px:
        return probe
    if change.side != full_px:
        axes = (-2, -1)
        spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe, axes=axes), norm="ortho"), axes=axes)
        start = full_px // 2 - change.side // 2
        kept = slice(start, start + change.side)
        spectrum = np.fft.ifftshift(spectrum[:, kept, kept], axes=axes)
        probe = np.fft.fftshift(np.fft.ifft2(spectrum, norm="ortho"), axes=axes)
    side = change.side // change.rebin
    start = probe.shape[-1] // 2 - side // 2
    probe = probe[:, start : start + side, start : start + side]
    return turned_frames(probe, change.orientation)


def changed_mask(bad: np.ndarray, change: FrameGeometry) -> np.ndarray:
    """Bring a mask (True = bad) to the frames that are left; a bin with a bad pixel is bad."""
    changed = replace(change, combine="any")(bad if bad.ndim == 3 else bad[np.newaxis])
    return changed if bad.ndim == 3 else changed[0]


def lazily(frames: np.ndarray | LazyFrames) -> LazyFrames:
    """Give frames of either kind the interface of those that are read in blocks."""
    return frames if isinstance(frames, LazyFrames) else LazyFrames(ArraySource(frames))


SAMPLED_FRAMES = 64
_BRIGHT = 0.1  # share of the smoothed maximum


def mean_of_sample(
    frames: np.ndarray | LazyFrames, bad: np.ndarray | None
) -> tuple[Float64[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Average some frames, evenly spread over the scan, as stored; and mark the pixels to believe."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), SAMPLED_FRAMES)).astype(int))
    total = np.zeros(frames.shape[1:])
    good = np.ones(frames.shape[1:], dtype=bool)
    for number in chosen:
        frame = np.asarray(frames[int(number)], dtype=np.float64)
        good &= np.isfinite(frame)
        with np.errstate(over="ignore", invalid="ignore"):
            total += np.where(np.isfinite(frame), frame, 0) / chosen.size
    if bad is not None:
        good &= ~(bad if bad.ndim == 2 else bad.any(axis=0))
    return np.where(good & np.isfinite(total), np.maximum(total, 0), 0), good


def beam_center_px(
    pattern: Float64[np.ndarray, "height width"], good: Bool[np.ndarray, "height width"]
) -> tuple[int, int]:
    """Find the beam in a mean pattern: the centre of its brightest spot, single hot pixels left out."""
    from scipy import ndimage  # not needed, nor waited for, where nothing is cropped

    smooth = ndimage.median_filter(pattern, size=3)
    if not smooth.max() > 0:
        smooth = pattern
    if not smooth.max() > 0:
        return pattern.shape[0] // 2, pattern.shape[1] // 2
    spots, n_spots = ndimage.label(smooth > _BRIGHT * smooth.max())  # pyright: ignore[reportGeneralTypeIssues]
    light = ndimage.sum_labels(smooth, spots, np.arange(1, n_spots + 1))
    inside = (spots == 1 + int(np.argmax(light))) & good
    weight = np.where(inside if inside.any() else spots == 1 + int(np.argmax(light)), smooth, 0)
    y, x = ndimage.center_of_mass(weight)
    return round(float(y)), round(float(x))  # pyright: ignore[reportArgumentType]
