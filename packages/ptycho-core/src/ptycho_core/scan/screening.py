"""Which frames are no data: decided from one reading of all of them, with a reason for each.

A false alarm costs more than a miss: every rule asks for evidence that Poisson noise and diffraction
cannot give, and a scan of few frames is not judged.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage
from scipy.spatial import KDTree

from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.survey import FrameSurvey

__all__ = ["screen_frames"]

FEWEST_FRAMES = 16
EMPTY_BESIDE_COUNTS = 20.0  # a frame of so many expected counts is empty by chance once in e^20
FAR_FACTOR = 3.0  # brighter or darker than its neighbours in space and in time
FAR_SPREADS = 8.0  # and so many of their own standard deviations away
FRAME_NEIGHBOURS = 9
TWIN_COUNTS = 100.0  # two frames of so many counts are never equal by chance
LARGEST_TWIN_FRACTION = 0.5  # every frame twice; more of them are no photon counts


def screen_frames(
    survey: FrameSurvey,
    positions_px: Float64[np.ndarray, "frame 2"],
    frames: np.ndarray | LazyFrames,
) -> dict[str, Bool[np.ndarray, " frame"]]:
    """Find the frames that are no data.

    What the sample absorbs changes the counts of neighbours in space alike, and a beam that fades those of
    neighbours in time; a frame is judged bright or dark only where it stands far from both.

    Args:
        survey: the reading of all frames, bad pixels left out.
        positions_px: (M, 2), finite.
        frames: as stored; only frames of equal counts are read again.

    Returns:
        The frames of each reason, (M,) bool, disjoint; reasons without frames are left out.
    """
    counts = survey.counts_per_frame
    taken = np.zeros(counts.size, dtype=bool)
    found: dict[str, np.ndarray] = {}

    def take(reason: str, chosen: np.ndarray) -> None:
        new = chosen & ~taken
        if new.any() and not (taken | new).all():
            found[reason] = new
            taken[...] |= new

    take("mostly NaN or infinite", survey.bad_values_per_frame > survey.counts_sum.size / 2)
    shining = counts[(counts > 0) & ~taken]
    usual = float(np.median(shining)) if shining.size else 0.0
    # Values that are no photons may have any scale: the faintest pixel of all frames has seen one, or less.
    one = min(1.0, float(survey.pixel_sum[survey.pixel_sum > 0].min(initial=1.0)))
    if survey.measurement == "amplitude" or usual > EMPTY_BESIDE_COUNTS * one:
        take("empty", counts == 0)
    if counts.size - np.count_nonzero(taken) >= FEWEST_FRAMES and usual > 0:
        bright, dark = _far_from_neighbours(counts, positions_px, taken)
        take("far brighter than all around", bright)
        take("far darker than all around", dark)
        take("stored twice", _stored_twice(survey, positions_px, frames, taken))
    return found


def _far_from_neighbours(
    counts: np.ndarray, positions_px: np.ndarray, taken: np.ndarray
) -> tuple[Bool[np.ndarray, " frame"], Bool[np.ndarray, " frame"]]:
    """Mark frames far brighter, far darker than their neighbours in space and than those in time.

    The edge of an absorber runs between neighbours in space: only a frame that all but two of them exceed, or
    stay below, is alone there.
    """
    usable = np.flatnonzero(~taken & (counts > 0))
    if usable.size < 2:
        return np.zeros(counts.size, dtype=bool), np.zeros(counts.size, dtype=bool)
    level = np.log(counts[usable])
    k = min(FRAME_NEIGHBOURS + 1, usable.size)
    near = np.asarray(KDTree(positions_px[usable]).query(positions_px[usable], k=k)[1])[:, 1:]
    around = np.sort(level[near], axis=1)
    above, below = level - around[:, -min(3, k - 1)], level - around[:, min(3, k - 1) - 1]
    in_time = level - ndimage.median_filter(level, min(FRAME_NEIGHBOURS, usable.size), mode="nearest")
    # Both kinds of neighbour must allow it, and Poisson noise alone never reaches it.
    noise = FAR_SPREADS / np.sqrt(np.maximum(np.median(counts[usable]), 1))
    in_space = level - np.median(around, axis=1)
    limit, in_time_limit = (
        max(np.log(FAR_FACTOR), FAR_SPREADS * 1.4826 * float(np.median(np.abs(off))), noise)
        for off in (in_space, in_time)
    )
    bright, dark = np.zeros(counts.size, dtype=bool), np.zeros(counts.size, dtype=bool)
    bright[usable] = (above > limit) & (in_time > in_time_limit)
    dark[usable] = (below < -limit) & (in_time < -in_time_limit)
    return bright, dark


def _stored_twice(
    survey: FrameSurvey,
    positions_px: Float64[np.ndarray, "frame 2"],
    frames: np.ndarray | LazyFrames,
    taken: np.ndarray,
) -> Bool[np.ndarray, " frame"]:
    """Mark frames that repeat the one before to the last count, as a detector that stands still writes them.

    Photons never fall twice alike, wherever the beam is. Frames without noise do, where there is no sample;
    then the same frame comes back after others. At the same position a repeated frame says nothing wrong.
    Which of two equal frames from different times is in its place, the solver finds out.
    """
    twins = np.zeros(taken.shape, dtype=bool)
    counts = survey.counts_per_frame
    if survey.measurement != "counts" or not survey.integral:
        return twins
    moved = (np.diff(positions_px, axis=0) != 0).any(axis=1)
    same = (np.diff(counts) == 0) & (counts[1:] >= TWIN_COUNTS) & moved & ~taken[1:]
    suspects = np.flatnonzero(same) + 1
    if suspects.size > LARGEST_TWIN_FRACTION * counts.size + 1:
        return twins
    seen: dict[bytes, int] = {}
    for frame in suspects.tolist():
        one = np.ascontiguousarray(frames[frame])
        if not np.array_equal(one, np.asarray(frames[frame - 1])):
            continue
        twins[frame] = True
        content = hashlib.blake2b(one.tobytes(), digest_size=16).digest()
        if seen.get(content, frame - 1) != frame - 1:
            return np.zeros(taken.shape, dtype=bool)
        seen[content] = frame
    return twins
