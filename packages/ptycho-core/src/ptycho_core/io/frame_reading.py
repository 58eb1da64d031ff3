"""All frames, read once: what they are, where their zero frequency is, and which pixels are bad."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ptycho_core.io.npz import Checksum
from ptycho_core.io.offered import Arrays
from ptycho_core.io.values import find_dc, measurement_reason, require_sound_frames
from ptycho_core.lazy import LazyFrames
from ptycho_core.survey import FrameSurvey, frame_chunks, survey_frames

__all__ = ["bad_with_nan", "place_of_dc", "read_frames"]


def read_frames(
    arrays: Arrays,
    frames: np.ndarray | LazyFrames,
    bad: np.ndarray | None,
    measurement: str,
    notes: list[str],
) -> tuple[np.ndarray | LazyFrames, FrameSurvey]:
    """Read all frames once: check their checksum and their values, and decide what they are."""
    frames, checksum = _contiguous(frames, arrays.checksum)
    declared = arrays.declared_measurement if measurement == "auto" else None
    survey = survey_frames(
        frames,
        bad_pixels=bad,
        measurement=declared[0] if declared else measurement,  # type: ignore[arg-type]
        on_chunk=None if checksum is None else checksum.update,
    )
    if checksum is not None:
        checksum.verify()
    require_sound_frames(survey, arrays.name, frames.size)
    notes.append(_measurement_note(measurement, declared, frames, survey))
    dark = int(np.count_nonzero(survey.counts_per_frame == 0))
    if dark:
        notes.append(f"{dark} of {frames.shape[0]} frames hold no counts.")
    return frames, survey


def _contiguous(
    frames: np.ndarray | LazyFrames, checksum: Checksum | None
) -> tuple[np.ndarray | LazyFrames, Checksum | None]:
    """Copy frames whose frame axis is scattered over the file, once, into one piece per frame."""
    if isinstance(frames, LazyFrames) or frames.flags.c_contiguous:
        return frames, checksum
    if checksum is not None:
        in_file_order = frames if frames.flags.f_contiguous else np.moveaxis(frames, 0, 2)
        checksum.update(in_file_order)
        checksum.verify()
    return np.ascontiguousarray(frames), None


def _measurement_note(
    asked: str, declared: tuple[str, str] | None, frames: np.ndarray | LazyFrames, survey: FrameSurvey
) -> str:
    if declared is not None:
        reason = declared[1]
    elif asked != "auto":
        reason = "that is what was asked for"
    else:
        reason = measurement_reason(frames, survey)
    return f"DATA-001: the values are taken for {survey.measurement}, because {reason}."


def place_of_dc(
    asked: str, declared: Literal["center", "corner"] | None, survey: FrameSurvey, notes: list[str]
) -> Literal["center", "corner"]:
    """Decide where the zero frequency is, and note why."""
    place: Literal["center", "corner"]
    if asked != "auto":
        place, reason = "corner" if asked == "corner" else "center", "that is what was asked for"
    elif declared is not None:
        place, reason = declared, "the file's metadata says so"
    else:
        place, reason = find_dc(survey.counts_sum / survey.counts_per_frame.size)
    notes.append(f"DATA-001: the zero frequency is in the {place}, because {reason}.")
    return place


def bad_with_nan(
    frames: np.ndarray | LazyFrames, bad: np.ndarray | None, survey: FrameSurvey, notes: list[str]
) -> np.ndarray | None:
    """Join the mask given with the pixels that are NaN; one mask for all frames where that is enough."""
    if survey.nan_always is not None and survey.nan_ever is not None:
        if np.array_equal(survey.nan_always, survey.nan_ever):
            nan = survey.nan_ever
        else:
            nan = np.zeros(frames.shape, dtype=bool)
            for chunk in frame_chunks(frames.shape[0], frames[0].size * frames.dtype.itemsize):
                np.isnan(frames[chunk], out=nan[chunk])
        notes.append(f"{survey.n_nan} values are NaN and count as bad pixels.")
        bad = nan if bad is None else bad | nan
    if bad is not None:
        notes.append(f"{100 * float(bad.mean()):.2g} % of the pixels are bad.")
    return bad
