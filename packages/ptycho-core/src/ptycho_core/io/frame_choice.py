"""Which frames of a file are used: those asked for, those with a position, those that are data.

Frames are counted from 0 as the file stores them, whatever else was left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.naming import shown
from ptycho_config.plaintext import excerpt
from ptycho_core.files import expanded, is_file, is_no_regular_file
from ptycho_core.io.options import ReadOptions

__all__ = ["asked_for", "far_from_all_others", "interpolated", "listed_frames"]

#: A lone position is this many times the usual step away from its nearest neighbour.
LONELY_STEPS = 20.0
LARGEST_LONELY_FRACTION = 0.05
#: So many of them may be at one place.
LARGEST_LONELY_HEAP = 8
_INCLUSIVE = re.compile(r"(\d{1,18})-(\d{1,18})")
#: A file of frame numbers is no larger.
LARGEST_LIST_BYTES = 64 << 20
_LONGEST_NUMBER = 18  # digits, with the sign


def asked_for(
    options: ReadOptions, positions: Float64[np.ndarray, "frame 2"], name: str
) -> Bool[np.ndarray, " frame"]:
    """Mark the frames that `frames`, `exclude_frames` and `region` leave.

    Args:
        positions: (y, x) of every frame, in the unit of the file.

    Raises:
        ConfigError: a text cannot be read, or names frames that there are not.
        DataError: no frame is left.
    """
    n_frames = len(positions)
    used = np.ones(n_frames, dtype=bool)
    if options.frames is not None:
        used[:] = False
        used[_slice(options.frames)] = True
    if options.exclude_frames is not None:
        numbers = listed_frames(options.exclude_frames, n_frames)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= n_frames):
            wrong = numbers[(numbers < 0) | (numbers >= n_frames)]
            raise ConfigError(
                f"`exclude_frames` names frame {wrong[0]}; {name} has frames 0 to {n_frames - 1}."
            )
        used[numbers] = False
    if options.region is not None:
        low, high = _region(options.region)
        with np.errstate(invalid="ignore"):
            used &= ((positions >= low) & (positions <= high)).all(axis=1)
    if not used.any():
        said = ", ".join(
            f"`{key}` {getattr(options, key)}"
            for key in ("frames", "exclude_frames", "region")
            if getattr(options, key) is not None
        )
        finite = positions[np.isfinite(positions).all(axis=1)]
        spans = (
            f" The positions span {finite[:, 0].min():.6g}:{finite[:, 0].max():.6g} in y and "
            f"{finite[:, 1].min():.6g}:{finite[:, 1].max():.6g} in x."
            if len(finite)
            else ""
        )
        raise DataError(f"{name}: {said} leaves none of its {n_frames} frames.{spans}", finding="DATA-001")
    return used


def listed_frames(frames: str | Sequence[int], n_frames: int) -> Int64[np.ndarray, " listed"]:
    """Read frame numbers: a list, text such as `3,17,40:45`, or a file that holds either.

    Raises:
        ConfigError: it is none of these.
    """
    if not isinstance(frames, str):
        numbers = np.asarray(frames)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            if numbers.size:
                raise ConfigError(f"`exclude_frames` is {excerpt(repr(frames), 80)}. Expected whole numbers.")
            return np.zeros(0, np.int64)
        return numbers.astype(np.int64)
    found = _numbers(frames, n_frames)
    if found is not None:
        return found
    path = expanded(frames)
    if is_no_regular_file(path):
        raise ConfigError(f"`exclude_frames`: {path} is no regular file. Expected a file that lists frames.")
    if not is_file(path):
        raise ConfigError(
            f"`exclude_frames` is {excerpt(repr(frames), 80)}. Expected frame numbers and ranges such as "
            "3,17,40:45, or a file that lists them (there is none of that name)."
        )
    return _of_file(path, n_frames)


def _of_file(path: Path, n_frames: int) -> Int64[np.ndarray, " listed"]:
    refused = ConfigError(
        f"{path}: no list of frames. Expected whole numbers, one a line, or an NPY of them."
    )
    if path.stat().st_size > LARGEST_LIST_BYTES:
        raise refused
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError, OverflowError, MemoryError) as error:
            raise refused from error
        if array.ndim != 1 or array.dtype.kind not in "biu":
            raise refused
        return np.flatnonzero(array) if array.dtype.kind == "b" else array.astype(np.int64)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise refused from error
    found = _numbers(",".join(line.split("#")[0] for line in lines), n_frames)
    if found is None:
        raise refused
    return found


def _numbers(text: str, n_frames: int) -> Int64[np.ndarray, " listed"] | None:
    """Read `3,17,40:45`, or `40-44` as the warnings write it: only the end of the first kind of range is not
    included. None where it is another kind of text."""
    numbers: list[np.ndarray] = []
    for word in text.replace(",", " ").split():
        if whole := _INCLUSIVE.fullmatch(word):
            numbers.append(np.arange(int(whole[1]), min(int(whole[2]), n_frames) + 1))
            continue
        ends = word.split(":")
        if not all(end.lstrip("-").isdigit() or (end == "" and len(ends) > 1) for end in ends):
            return None
        if len(ends) > 3:
            return None
        numbers.append(np.arange(n_frames)[_slice(word)] if len(ends) > 1 else np.array([_number(word)]))
    return np.concatenate(numbers).astype(np.int64) if numbers else np.zeros(0, np.int64)


def _number(text: str) -> int:
    """Read a whole number; one beyond 64 bits becomes the largest, which no scan has."""
    number = int(text[:_LONGEST_NUMBER])
    return number if len(text) < _LONGEST_NUMBER else int(math.copysign(np.iinfo(np.int32).max, number))


def _slice(text: str) -> slice:
    try:
        ends = [_number(end) if end.strip() else None for end in text.split(":")]
        if len(ends) not in (2, 3) or (len(ends) == 3 and ends[2] is not None and ends[2] < 1):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"`{excerpt(text, 80)}` is no range of frames. Expected START:STOP or START:STOP:STEP, such as "
            "0:500 or ::2."
        ) from None
    return slice(*ends)


def _region(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Read `Y0:Y1,X0:X1`; an end that is left out is open."""
    try:
        axes = [[float(end) if end.strip() else None for end in axis.split(":")] for axis in text.split(",")]
        (y0, y1), (x0, x1) = axes
    except ValueError:
        raise ConfigError(
            f"`region` is {shown(text)}. Expected Y0:Y1,X0:X1, in the unit of the positions."
        ) from None
    low = [-np.inf if end is None else end for end in (y0, x0)]
    high = [np.inf if end is None else end for end in (y1, x1)]
    if any(first > last for first, last in zip(low, high, strict=True)):
        raise ConfigError(f"`region` is {shown(text)}, whose ends are the wrong way round.")
    return np.array(low), np.array(high)


def interpolated(positions: Float64[np.ndarray, "frame 2"]) -> Float64[np.ndarray, "frame 2"]:
    """Put missing positions on the straight line between the neighbours in time; none beyond either end."""
    known = np.isfinite(positions).all(axis=1)
    filled = positions.copy()
    if known.any():
        number = np.arange(len(positions))
        for axis in range(2):
            filled[:, axis] = np.interp(
                number, number[known], positions[known, axis], left=np.nan, right=np.nan
            )
    return filled


def far_from_all_others(
    positions_px: Float64[np.ndarray, "frame 2"], frame_px: int
) -> Bool[np.ndarray, " frame"]:
    """Mark positions, alone or a few together, that share no pixel with the others and stand far outside the
    scan's own steps."""
    n_frames = len(positions_px)
    if n_frames < 8:
        return np.zeros(n_frames, dtype=bool)
    nearest = np.asarray(KDTree(positions_px).query(positions_px, k=2)[0])[:, 1]
    heap = _heaps(positions_px, max(float(frame_px), LONELY_STEPS * float(np.median(nearest))))
    size = np.bincount(heap)[heap]
    far = (size <= LARGEST_LONELY_HEAP) & (size < size.max())
    return far if far.mean() <= max(LARGEST_LONELY_FRACTION, 1 / n_frames) else np.zeros_like(far)


def _heaps(positions_px: Float64[np.ndarray, "frame 2"], gap_px: float) -> Int64[np.ndarray, " frame"]:
    """Number the heaps of positions between which there is a gap, about: squares of its size are joined where
    they touch."""
    low = positions_px.min(axis=0)
    squares, of_frame = np.unique(np.floor((positions_px - low) / gap_px), axis=0, return_inverse=True)
    touching = KDTree(squares).query_pairs(1.0, p=np.inf, output_type="ndarray")
    count = len(squares)
    joined = coo_array((np.ones(len(touching)), (touching[:, 0], touching[:, 1])), shape=(count, count))
    return connected_components(joined, directed=False)[1].astype(np.int64)[of_frame.reshape(-1)]
