"""The shapes that scan files come in, turned into ours: frames first, (y, x) positions, modes first.

Only shapes are judged here; `frame_values` judges what the arrays hold. No function copies frames unless it
says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ptycho_config.errors import DataError
from ptycho_core.scan.lazy import LazyFrames

SMALLEST_FRAME_PX = 8
#: So many frames more than positions, as a part of these, are what a scan may record behind its end.
LARGEST_SURPLUS = 0.25


@dataclass(frozen=True)
class ArrangedFrames:
    """Frames with the frame axis first.

    Attributes:
        moved: the file had the frame axis last.
        ambiguous: both readings fitted, frames-first was taken.
    """

    frames: np.ndarray | LazyFrames
    moved: bool
    ambiguous: bool


def require_real_numbers(array: np.ndarray | LazyFrames, name: str, what: str) -> None:
    """Raise DataError unless the array holds real numbers."""
    if array.dtype.kind in "biuf":
        return
    if array.dtype.kind == "c":
        advice = (
            "Detectors measure no phase; store `numpy.abs(x)` (amplitude) or `numpy.abs(x)**2` (counts)."
            if what == "the diffraction"
            else "Take the real part if the imaginary part is zero."
        )
        raise DataError(
            f"{name}: {what} is complex ({array.dtype}). Expected real numbers. {advice}", finding="DATA-001"
        )
    raise DataError(
        f"{name}: {what} has the type {array.dtype}. Expected real numbers; convert with "
        "`.astype('float32')`.",
        finding="DATA-001",
    )


def _without_outer_axes(frames: np.ndarray) -> np.ndarray:
    while frames.ndim > 3 and frames.shape[0] == 1:
        frames = frames[0]
    while frames.ndim > 3 and frames.shape[-1] == 1:
        frames = frames[..., 0]
    return frames


def arrange_frames(frames: np.ndarray | LazyFrames, n_positions: int, name: str) -> ArrangedFrames:
    """Bring frames into the layout (frame, y, x) by comparing with the number of positions (FORMAT-001).

    Accepts (M, N, N), (N, N, M), and either with further axes of length 1. When both ends of the shape fit
    the number of positions, frames-first, the documented layout, is taken.

    Raises:
        DataError: neither reading fits.
    """
    require_real_numbers(frames, name, "the diffraction")
    given_shape = frames.shape
    if isinstance(frames, np.ndarray):
        frames = _without_outer_axes(frames)
    if frames.ndim != 3:
        raise DataError(
            f"{name}: the diffraction has shape {given_shape}. Expected (frames, N, N), one square pattern "
            f"per position ({n_positions} positions were found).",
            finding="DATA-001",
        )
    if 0 in frames.shape:
        raise DataError(f"{name}: the diffraction is empty, its shape is {given_shape}. Expected frames.")
    moved = _frame_axis_is_last(frames.shape, n_positions, given_shape, name)
    ambiguous = not moved and frames.shape[0] == frames.shape[2] == frames.shape[1] == n_positions
    arranged = frames
    if moved:
        arranged = np.moveaxis(frames, 2, 0) if isinstance(frames, np.ndarray) else frames.frames_first()
    return ArrangedFrames(arranged, moved, ambiguous)


def axis_assumption(arranged: ArrangedFrames) -> str:
    """Say which axis was taken for the frame axis; an empty text where the layout is the documented one."""
    n_frames, side, _ = arranged.frames.shape
    if arranged.moved:
        return (
            f"the frames are stored as ({side}, {side}, {n_frames}); the last axis was taken for the frame "
            "axis"
        )
    if arranged.ambiguous:
        return f"{n_frames} frames of {side} x {side} pixels fit both ways; the first axis was taken"
    return ""


def _frame_axis_is_last(
    shape: tuple[int, ...], n_positions: int, given_shape: tuple[int, ...], name: str
) -> bool:
    first, middle, last = shape
    if first == n_positions and not (last == n_positions and first == middle != last):
        return False
    if last == n_positions:
        return True
    # What was recorded after the last position or frame is left out later, if the frames alone show which
    # axis is theirs.
    at_most = n_positions + max(1, int(LARGEST_SURPLUS * n_positions))
    if middle == last and first <= at_most:
        return False
    if first == middle and last <= at_most:
        return True
    raise DataError(
        f"{name}: the diffraction has shape {given_shape}, but there are {n_positions} positions. Expected "
        f"({n_positions}, N, N) or (N, N, {n_positions}), one (y, x) position per frame. `ptycho inspect` "
        "lists both; drop the frames that were recorded without a position.",
        finding="FORMAT-001",
    )


def require_usable_side(shape: tuple[int, ...], name: str) -> None:
    """Refuse frames that are not square, or whose side is odd or very small.

    Raises:
        DataError: so it is; names the crop that helps.
    """
    _, height, width = shape
    if height != width:
        side = min(height, width)
        raise DataError(
            f"{name}: the frames are {height} x {width} pixels. Expected square frames; crop them around the "
            f"beam with `--crop-px {_round_side(side)}` or less.",
            finding="DATA-001",
        )
    if height % 2 or height < SMALLEST_FRAME_PX:
        raise DataError(
            f"{name}: the frames have a side of N = {height} pixels. Expected an even N of at least "
            f"{SMALLEST_FRAME_PX}; crop them around the beam, for instance with `--crop-px "
            f"{max(SMALLEST_FRAME_PX, _round_side(height))}`.",
            finding="DATA-001",
        )


def _round_side(side: int) -> int:
    """Return a side that the networks take too, where it is large enough: a multiple of 16."""
    return side - side % (16 if side >= 32 else 2)


def arrange_positions(positions: np.ndarray, name: str) -> Float64[np.ndarray, "frame 2"]:
    """Bring (y, x) positions into the shape (frame, 2), float64.

    Raises:
        DataError: another shape, or not real numbers.
    """
    require_real_numbers(positions, name, "the array of positions")
    given_shape = positions.shape
    while positions.ndim > 2 and positions.shape[0] == 1:
        positions = positions[0]
    if positions.ndim != 2 or positions.shape[1] != 2:
        raise DataError(
            f"{name}: the positions have shape {given_shape}. Expected (frames, 2), one (y, x) pair in "
            "pixels per frame.",
            finding="DATA-001",
        )
    if positions.shape[0] == 0:
        raise DataError(f"{name}: there are no positions. Expected one (y, x) pair in pixels per frame.")
    with np.errstate(invalid="ignore"):  # NaN and infinite values are refused later, by frame
        return np.array(positions, dtype=np.float64)


def pair_coordinates(x: np.ndarray, y: np.ndarray, name: str) -> np.ndarray:
    """Make (frame, 2) positions (y, x) of `xcoords` and `ycoords`."""
    of_raster = x.ndim == 2 and x.shape == y.shape
    for key, values in (("xcoords", x), ("ycoords", y)):
        require_real_numbers(values, name, f"`{key}`")
        if of_raster:
            continue
        if values.size != max(values.shape, default=0):
            raise DataError(
                f"{name}: `{key}` has shape {values.shape}. Expected (frames,), one number in pixels per "
                "frame.",
                finding="DATA-001",
            )
    if x.size != y.size:
        raise DataError(
            f"{name}: `xcoords` has {x.size} values, `ycoords` has {y.size}. Expected one of each per frame.",
            finding="DATA-001",
        )
    return np.stack([y.reshape(-1), x.reshape(-1)], axis=1)


def arrange_probe(probe: np.ndarray, frame_px: int, name: str) -> np.ndarray:
    """Bring a probe into the shape (mode, N, N).

    Accepts (N, N), (N, N, 1), (P, N, N), and further leading axes of length 1.

    Raises:
        DataError: another shape or side than the frames.
    """
    if probe.dtype.kind not in "iufc":
        raise DataError(
            f"{name}: the probe has the type {probe.dtype}. Expected complex64.", finding="DATA-001"
        )
    given_shape = probe.shape
    while probe.ndim > 3 and probe.shape[0] == 1:
        probe = probe[0]
    if probe.ndim == 3 and probe.shape[2] == 1 and probe.shape[1] != 1:
        probe = probe[..., 0]
    if probe.ndim == 2:
        probe = probe[np.newaxis]
    if probe.ndim != 3 or probe.shape[0] == 0 or probe.shape[1] != probe.shape[2]:
        raise DataError(
            f"{name}: the probe has shape {given_shape}. Expected ({frame_px}, {frame_px}), or "
            f"(modes, {frame_px}, {frame_px}).",
            finding="DATA-001",
        )
    if probe.shape[1] != frame_px:
        raise DataError(
            f"{name}: the probe is {probe.shape[1]} x {probe.shape[1]} pixels, the frames are {frame_px} x "
            f"{frame_px}. Expected the same side; crop or pad one of them, or leave the probe out and have "
            "it estimated.",
            finding="DATA-001",
        )
    return probe


def arrange_mask(mask: np.ndarray, frames_shape: tuple[int, ...], *, moved: bool, name: str) -> np.ndarray:
    """Bring a mask of pixels into (N, N) or (M, N, N), bool; every value but 0 is True.

    Args:
        moved: the frames had their frame axis last, so a mask per frame has it there too.

    Raises:
        DataError: another shape.
    """
    given_shape = mask.shape
    if mask.dtype.kind not in "biuf":
        raise DataError(f"{name}: the mask of pixels has the type {mask.dtype}. Expected bool.")
    while mask.ndim > 2 and mask.shape[0] == 1 and mask.shape != frames_shape:
        mask = mask[0]
    if mask.ndim == 3 and moved:
        mask = np.moveaxis(mask, 2, 0)
    if mask.shape not in (frames_shape, frames_shape[1:]):
        raise DataError(
            f"{name}: the mask of pixels has shape {given_shape}. Expected {frames_shape[1:]} or "
            f"{frames_shape}.",
            finding="DATA-001",
        )
    return mask != 0
