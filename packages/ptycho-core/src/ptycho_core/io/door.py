"""The door: arrays from wherever they came become a checked `Scan`, or one clear refusal."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ptycho_config.errors import ConfigError, DataError
from ptycho_core.io.layout import arrange_frames, arrange_mask, arrange_positions, arrange_probe
from ptycho_core.io.npz import Checksum
from ptycho_core.io.overlap import warn_without_overlap
from ptycho_core.io.start_probe import estimate_probe
from ptycho_core.io.values import (
    find_dc,
    measurement_reason,
    require_sound_frames,
    require_sound_positions,
    warn,
)
from ptycho_core.scan import Scan
from ptycho_core.survey import FrameSurvey, frame_chunks, survey_frames

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Arrays:
    """What a file or a caller brings, before anything is checked. Fields as in `Scan`.

    Attributes:
        positions_px: (y, x), in the convention that `position_convention` names.
        bad_pixels: True = bad, DC in the same place as in `frames`.
        declared_measurement: what the file says its values are, and why we think so.
        declared_dc: where the file says that the zero frequency is.
        checksum: of the frames, still to be verified while they are read.
    """

    name: str
    frames: np.ndarray
    positions_px: np.ndarray
    probe: np.ndarray | None = None
    probe_source: Literal["file", "given"] = "file"
    bad_pixels: np.ndarray | None = None
    position_convention: Literal["index", "center"] = "index"
    ground_truth: np.ndarray | None = None
    patch_truth: np.ndarray | None = None
    pixel_size_m: float | None = None
    energy_ev: float | None = None
    distance_m: float | None = None
    nphotons: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)  # Any: whatever JSON the file's author chose
    notes: tuple[str, ...] = ()
    source: Path | None = None
    known_sha256: str | None = None
    declared_measurement: tuple[Literal["amplitude", "counts"], str] | None = None
    declared_dc: Literal["center", "corner"] | None = None
    checksum: Checksum | None = None


def admit(arrays: Arrays, *, measurement: str = "auto", dc: str = "auto") -> Scan:
    """Check everything once, decide what is open, and build the scan.

    The frames are read exactly once, in chunks; what that reading finds stays with the scan.

    Raises:
        DataError: something is wrong with the data; the message names it and the cure.
        ConfigError: `measurement`, `dc` or a physical quantity is no possible value.
    """
    _require_settings(arrays, measurement, dc)
    notes = list(arrays.notes)
    frames, positions_px, moved = _frames_and_positions(arrays, notes)
    frame_px = frames.shape[-1]
    probe = None if arrays.probe is None else _sound_probe(np.asarray(arrays.probe), frame_px, arrays.name)
    bad = _given_mask(arrays, frames.shape, moved=moved)
    frames, survey = _read_frames(arrays, frames, bad, measurement, notes)
    place = _place_of_dc(dc, arrays.declared_dc, survey, notes)
    bad = _bad_with_nan(frames, bad, survey, notes)
    scan = Scan(
        name=arrays.name,
        frames=frames,
        positions_px=positions_px,
        probe=np.zeros((1, frame_px, frame_px), dtype=np.complex64) if probe is None else probe,
        measurement=survey.measurement,
        dc=place,
        bad_pixels=np.fft.fftshift(bad, axes=(-2, -1)) if bad is not None and place == "corner" else bad,
        probe_source="estimated" if probe is None else arrays.probe_source,
        position_convention=arrays.position_convention,
        ground_truth=_truth(arrays.ground_truth, "objectGuess", 2, arrays.name),
        patch_truth=_patch_truth(arrays.patch_truth, frames.shape[0], arrays.name),
        source=arrays.source,
        known_sha256=arrays.known_sha256,
        pixel_size_m=arrays.pixel_size_m,
        energy_ev=arrays.energy_ev,
        distance_m=arrays.distance_m,
        nphotons=arrays.nphotons,
        metadata=arrays.metadata,
        notes=tuple(notes),
    ).remember(survey)
    if probe is None:
        probe, note = estimate_probe(scan)
        scan = replace(scan, probe=probe, notes=(*scan.notes, note)).remember(survey)
    warn_without_overlap(scan)
    for note in scan.notes:
        _LOG.info("%s: %s", scan.name, note)
    return scan


def _require_settings(arrays: Arrays, measurement: str, dc: str) -> None:
    _require_choice("measurement", measurement, ("auto", "amplitude", "counts"))
    _require_choice("dc", dc, ("auto", "center", "corner"))
    for key in ("pixel_size_m", "energy_ev", "distance_m", "nphotons"):
        _require_positive(key, getattr(arrays, key))


def _frames_and_positions(arrays: Arrays, notes: list[str]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Arrange frames and positions, one of each per frame; the last value: the frame axis was last."""
    name = arrays.name
    positions_px = arrange_positions(np.asarray(arrays.positions_px), name)
    arranged = arrange_frames(np.asanyarray(arrays.frames), positions_px.shape[0], name)
    frames, n_frames = arranged.frames, arranged.frames.shape[0]
    _say_which_axis(arranged.moved, arranged.ambiguous, frames.shape, name, notes)
    surplus = positions_px.shape[0] - n_frames
    if surplus > 0:
        warn(
            f"{name}: {n_frames} frames but {positions_px.shape[0]} positions; the last {surplus} are "
            "dropped.",
            finding="DATA-001",
        )
        notes.append(f"The last {surplus} positions have no frame and were dropped.")
        positions_px = positions_px[:n_frames].copy()
    require_sound_positions(positions_px, frames.shape[-1], name)
    if arrays.position_convention == "center":
        positions_px += 0.5
        notes.append(
            "Positions counted pixel centres; half a pixel was added so that index N/2 sits on them."
        )
    return frames, positions_px, arranged.moved


def _given_mask(arrays: Arrays, frames_shape: tuple[int, ...], *, moved: bool) -> np.ndarray | None:
    if arrays.bad_pixels is None:
        return None
    bad = arrange_mask(np.asarray(arrays.bad_pixels), frames_shape, moved=moved, name=arrays.name)
    if bad.all():
        raise DataError(
            f"{arrays.name}: every pixel is marked bad. `bad_pixels` is True where a pixel is bad, `mask` "
            "where it is good; is it the other way round?",
            finding="DATA-001",
        )
    return bad


def _read_frames(
    arrays: Arrays, frames: np.ndarray, bad: np.ndarray | None, measurement: str, notes: list[str]
) -> tuple[np.ndarray, FrameSurvey]:
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


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"`{name}` is {value!r}. Expected one of {', '.join(choices)}.")


def _require_positive(name: str, value: float | None) -> None:
    if value is not None and not (np.isfinite(value) and value > 0):
        raise ConfigError(
            f"`{name}` is {value!r}. Expected a positive number, or leave it out where unknown."
        )


def _say_which_axis(
    moved: bool, ambiguous: bool, shape: tuple[int, ...], name: str, notes: list[str]
) -> None:
    n_frames, side, _ = shape
    if moved:
        said = (
            f"the frames are stored as ({side}, {side}, {n_frames}); the last axis was taken for the frame "
            "axis"
        )
    elif ambiguous:
        said = f"{n_frames} frames of {side} x {side} pixels fit both ways; the first axis was taken"
    else:
        return
    warn(f"{name}: {said}. Store them as (frames, N, N) to have it in writing.", finding="FORMAT-001")
    notes.append(f"FORMAT-001: {said}.")


def _contiguous(frames: np.ndarray, checksum: Checksum | None) -> tuple[np.ndarray, Checksum | None]:
    """Copy frames whose frame axis is scattered over the file, once, into one piece per frame."""
    if frames.flags.c_contiguous:
        return frames, checksum
    if checksum is not None:
        in_file_order = frames if frames.flags.f_contiguous else np.moveaxis(frames, 0, 2)
        checksum.update(in_file_order)
        checksum.verify()
    return np.ascontiguousarray(frames), None


def _measurement_note(
    asked: str, declared: tuple[str, str] | None, frames: np.ndarray, survey: FrameSurvey
) -> str:
    if declared is not None:
        reason = declared[1]
    elif asked != "auto":
        reason = "that is what was asked for"
    else:
        reason = measurement_reason(frames, survey)
    return f"DATA-001: the values are taken for {survey.measurement}, because {reason}."


def _place_of_dc(
    asked: str, declared: Literal["center", "corner"] | None, survey: FrameSurvey, notes: list[str]
) -> Literal["center", "corner"]:
    place: Literal["center", "corner"]
    if asked != "auto":
        place, reason = "corner" if asked == "corner" else "center", "that is what was asked for"
    elif declared is not None:
        place, reason = declared, "the file's metadata says so"
    else:
        place, reason = find_dc(survey.counts_sum / survey.counts_per_frame.size)
    notes.append(f"DATA-001: the zero frequency is in the {place}, because {reason}.")
    return place


def _bad_with_nan(
    frames: np.ndarray, bad: np.ndarray | None, survey: FrameSurvey, notes: list[str]
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


def _sound_probe(probe: np.ndarray, frame_px: int, name: str) -> np.ndarray:
    arranged = arrange_probe(probe, frame_px, name)
    with np.errstate(over="ignore", invalid="ignore"):
        modes = np.ascontiguousarray(arranged, dtype=np.complex64)
        energy = float(np.sum(np.abs(modes).astype(np.float64) ** 2))
    if not np.isfinite(energy):
        raise DataError(
            f"{name}: the probe holds NaN, infinite or overflowing values. Expected finite numbers; leave "
            "the probe out to have it estimated from the frames.",
            finding="DATA-001",
        )
    if energy == 0:
        raise DataError(
            f"{name}: the probe is zero everywhere. Expected light; leave the probe out to have it "
            "estimated.",
            finding="DATA-001",
        )
    return modes


def _truth(array: np.ndarray | None, key: str, rank: int, name: str) -> np.ndarray | None:
    """Take a ground truth if it is one; it is not needed, so a wrong one is left out with a warning."""
    if array is None:
        return None
    array = np.asarray(array)
    if array.dtype.kind not in "iufc" or array.ndim != rank or not np.isfinite(array).all():
        warn(
            f"{name}: `{key}` {array.dtype} {array.shape} is no ground truth and is ignored.",
            finding="DATA-001",
        )
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(array, dtype=np.complex64)


def _patch_truth(array: np.ndarray | None, n_frames: int, name: str) -> np.ndarray | None:
    if array is None:
        return None
    array = np.asarray(array)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3 and array.shape[0] != n_frames:
        warn(
            f"{name}: `Y` has {array.shape[0]} patches for {n_frames} frames and is ignored.",
            finding="DATA-001",
        )
        return None
    return _truth(array, "Y", 3, name)
