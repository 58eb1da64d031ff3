"""The door: arrays from wherever they came become a checked `Scan`, or one clear refusal."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ptycho_config.errors import ConfigError, DataError
from ptycho_core.io.geometry import (
    FrameGeometry,
    Geometry,
    changed_mask,
    changed_probe,
    lazily,
    mean_of_sample,
    plan,
    turned_positions,
)
from ptycho_core.io.layout import (
    arrange_frames,
    arrange_mask,
    arrange_positions,
    arrange_probe,
    require_usable_side,
)
from ptycho_core.io.npz import Checksum
from ptycho_core.io.overlap import warn_without_overlap
from ptycho_core.io.start_probe import estimate_probe
from ptycho_core.io.units import metres_to_pixels, object_pixel_m
from ptycho_core.io.values import (
    LARGEST_EXTENT_IN_METRES,
    find_dc,
    measurement_reason,
    require_sound_frames,
    require_sound_positions,
    warn,
)
from ptycho_core.lazy import LazyFrames
from ptycho_core.scan import Scan
from ptycho_core.survey import FrameSurvey, frame_chunks, survey_frames

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Arrays:
    """What a file or a caller brings, before anything is checked. Fields as in `Scan`.

    Attributes:
        frames: an array, or frames that stay in their file.
        positions_px: (y, x), in the convention that `position_convention` names; in another unit where
            `position_unit_m` says so; None where the file has none.
        position_unit_m: metres in the unit of the positions; None: pixels, or not known.
        position_unit_open: nobody said that the positions are pixels; small numbers are then metres.
        position_scale: by which positions in pixels are multiplied, after a crop.
        detector_pixel_m: side of a detector pixel.
        pixel_size_asked: `pixel_size_m` is what the caller wants, not what the file says.
        format: what kind of file it was, for `ptycho inspect`.
        bad_pixels: True = bad, DC in the same place as in `frames`.
        declared_measurement: what the file says its values are, and why we think so.
        declared_dc: where the file says that the zero frequency is.
        checksum: of the frames, still to be verified while they are read.
    """

    name: str
    frames: np.ndarray | LazyFrames
    positions_px: np.ndarray | None
    position_unit_m: float | None = None
    position_unit_open: bool = True
    position_scale: float = 1.0
    detector_pixel_m: float | None = None
    pixel_size_asked: bool = False
    format: str = "NPZ"
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


def admit(
    arrays: Arrays, *, measurement: str = "auto", dc: str = "auto", geometry: Geometry | None = None
) -> Scan:
    """Check everything once, decide what is open, and build the scan.

    The frames are read exactly once, in chunks; what that reading finds stays with the scan.

    Raises:
        DataError: something is wrong with the data; the message names it and the cure.
        ConfigError: `measurement`, `dc` or a physical quantity is no possible value.
    """
    geometry = geometry or Geometry()
    _require_settings(arrays, measurement, dc)
    notes = list(arrays.notes) if arrays.format == "NPZ" else [f"The file is {arrays.format}.", *arrays.notes]
    frames, positions, moved = _frames_and_positions(arrays, notes)
    bad = _given_mask(arrays, frames.shape, moved=moved)
    probe = None if arrays.probe is None else np.asarray(arrays.probe)
    arrays, frames, bad, probe = _with_geometry(
        arrays, frames, bad, probe, geometry, measurement=measurement, dc=dc, notes=notes
    )
    frame_px = frames.shape[-1]
    require_usable_side(frames.shape, arrays.name)
    pixel_size_m = _pixel_size_m(arrays, frame_px, notes)
    positions_px = _positions_px(arrays, positions, geometry, pixel_size_m, frame_px, notes)
    probe = None if probe is None else _sound_probe(probe, frame_px, arrays.name)
    frames, survey = _read_frames(arrays, frames, bad, measurement, notes)
    place = _place_of_dc(dc if not geometry.changes_frames else "auto", arrays.declared_dc, survey, notes)
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
        pixel_size_m=pixel_size_m,
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
    for key in ("pixel_size_m", "energy_ev", "distance_m", "detector_pixel_m", "nphotons"):
        _require_positive(key, getattr(arrays, key))


def _frames_and_positions(
    arrays: Arrays, notes: list[str]
) -> tuple[np.ndarray | LazyFrames, np.ndarray, bool]:
    """Arrange frames and positions, one of each per frame; the last value: the frame axis was last."""
    name = arrays.name
    if arrays.positions_px is None:
        raise DataError(
            f"{name}: no positions were found. Expected one (y, x) pair per frame; name them with "
            "`--positions-file` (CSV, NPY, NPZ, HDF5 or a product file) or, in this file, `--positions-key`.",
            finding="DATA-001",
        )
    positions = arrange_positions(np.asarray(arrays.positions_px), name)
    given = arrays.frames if isinstance(arrays.frames, LazyFrames) else np.asanyarray(arrays.frames)
    arranged = arrange_frames(given, positions.shape[0], name)
    frames, n_frames = arranged.frames, arranged.frames.shape[0]
    _say_which_axis(arranged.moved, arranged.ambiguous, frames.shape, name, notes)
    surplus = positions.shape[0] - n_frames
    if surplus > 0:
        warn(
            f"{name}: {n_frames} frames but {positions.shape[0]} positions; the last {surplus} are dropped.",
            finding="DATA-001",
        )
        notes.append(f"The last {surplus} positions have no frame and were dropped.")
        positions = positions[:n_frames].copy()
    return frames, positions, arranged.moved


def _with_geometry(
    arrays: Arrays,
    frames: np.ndarray | LazyFrames,
    bad: np.ndarray | None,
    probe: np.ndarray | None,
    geometry: Geometry,
    *,
    measurement: str,
    dc: str,
    notes: list[str],
) -> tuple[Arrays, np.ndarray | LazyFrames, np.ndarray | None, np.ndarray | None]:
    """Crop, rebin and turn frames, mask and probe; lengths follow."""
    if not geometry.changes_frames:
        return arrays, frames, bad, probe
    pattern, _ = mean_of_sample(frames, bad)
    place = dc if dc != "auto" else arrays.declared_dc
    if place is None and pattern.shape[0] == pattern.shape[1]:
        place, _ = find_dc(pattern)
    declared = arrays.declared_measurement if measurement == "auto" else None
    amplitude = measurement == "amplitude" or (declared is not None and declared[0] == "amplitude")
    if measurement == "auto" and declared is None and frames.dtype.kind == "f" and geometry.rebin > 1:
        sample = slice(0, min(len(frames), 8))
        bad_sample = bad[sample] if bad is not None and bad.ndim == 3 else bad
        amplitude = survey_frames(frames[sample], bad_pixels=bad_sample).measurement == "amplitude"
    full = frames.shape[1:]
    change = plan(
        geometry, frames, bad, shifted=place == "corner", amplitude=amplitude, name=arrays.name, notes=notes
    )
    if arrays.checksum is not None:  # it is of the values as stored
        for chunk in frame_chunks(frames.shape[0], frames[0].size * frames.dtype.itemsize):
            arrays.checksum.update(np.asarray(frames[chunk]))
        arrays.checksum.verify()
    square = full[0] if full[0] == full[1] else None
    arrays = replace(
        _rescaled(arrays, change, square, notes),
        checksum=None,
        declared_dc="center",
        patch_truth=None,
    )
    if probe is not None and square is not None:
        probe = changed_probe(arrange_probe(probe, probe.shape[-1], arrays.name), change, full_px=square)
    return arrays, lazily(frames).then(change), None if bad is None else changed_mask(bad, change), probe


def _rescaled(arrays: Arrays, change: FrameGeometry, full_px: int | None, notes: list[str]) -> Arrays:
    """Let positions in pixels, the pixel of the object and that of the detector follow a crop and a bin."""
    if arrays.detector_pixel_m is not None:
        arrays = replace(arrays, detector_pixel_m=arrays.detector_pixel_m * change.rebin)
    if arrays.ground_truth is not None:
        notes.append("The true object belongs to the frames as stored and was left out.")
        arrays = replace(arrays, ground_truth=None)
    if full_px is None or change.side == full_px:
        return arrays
    factor = change.side / full_px
    notes.append(f"Fewer frequencies are kept, so a pixel of the object is {1 / factor:.4g} times as large.")
    if arrays.pixel_size_m is not None and not arrays.pixel_size_asked:
        arrays = replace(arrays, pixel_size_m=arrays.pixel_size_m / factor)
    return replace(arrays, position_scale=factor)


def _pixel_size_m(arrays: Arrays, frame_px: int, notes: list[str]) -> float | None:
    """Return the object's pixel: what somebody said, else what energy, distance and detector give."""
    follows = object_pixel_m(
        energy_ev=arrays.energy_ev,
        distance_m=arrays.distance_m,
        detector_pixel_m=arrays.detector_pixel_m,
        frame_px=frame_px,
    )
    known = arrays.pixel_size_m
    if follows is None:
        return known
    if known is None:
        notes.append(
            f"A pixel of the object is {follows:.4g} m, "
            f"wavelength x distance / ({frame_px} x detector pixel)."
        )
        return follows
    if abs(follows / known - 1) > 0.01:
        warn(
            f"{arrays.name}: the object's pixel is said to be {known:.4g} m, while energy, distance and "
            f"detector pixel give {follows:.4g} m. The first is used.",
            finding="DATA-001",
        )
    return known


def _positions_px(
    arrays: Arrays,
    positions: np.ndarray,
    geometry: Geometry,
    pixel_size_m: float | None,
    frame_px: int,
    notes: list[str],
) -> np.ndarray:
    """Bring the positions to object pixels in the index convention, turned as asked."""
    unit_m = arrays.position_unit_m
    if unit_m is None and arrays.position_unit_open and pixel_size_m is not None and len(positions) > 1:
        extent = float(np.max(np.ptp(positions, axis=0)))
        if 0 < extent < LARGEST_EXTENT_IN_METRES:
            notes.append(f"The positions span {extent:.3g} and are taken for metres.")
            unit_m = 1.0
    if unit_m is not None:
        positions = metres_to_pixels(positions, unit_m, pixel_size_m, arrays.name)
        notes.append(f"Positions were divided by the object's pixel, {pixel_size_m:.4g} m.")
    else:
        positions = positions * arrays.position_scale
    if geometry.positions_orientation != "as-is":
        positions = turned_positions(positions, geometry.positions_orientation)
        notes.append(f"The positions were turned ({geometry.positions_orientation}).")
    require_sound_positions(positions, frame_px, arrays.name)
    if arrays.position_convention == "center":
        positions = positions + 0.5
        notes.append(
            "Positions counted pixel centres; half a pixel was added so that index N/2 sits on them."
        )
    return positions


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
