"""The door: arrays from wherever they came become a checked `Scan`, or one clear refusal."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from ptycho_config.errors import ConfigError, DataError
from ptycho_core.io.frame_reading import bad_with_nan, place_of_dc, read_frames
from ptycho_core.io.geometry import Geometry
from ptycho_core.io.layout import (
    arrange_frames,
    arrange_mask,
    arrange_positions,
    arrange_probe,
    require_usable_side,
)
from ptycho_core.io.object_pixels import object_pixel_size_m, object_positions_px
from ptycho_core.io.offered import Arrays
from ptycho_core.io.overlap import warn_without_overlap
from ptycho_core.io.regridding import with_geometry
from ptycho_core.io.start_probe import estimate_probe
from ptycho_core.io.values import warn
from ptycho_core.lazy import LazyFrames
from ptycho_core.scan import Scan

__all__ = ["Arrays", "admit"]

_LOG = logging.getLogger(__name__)


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
    arrays, frames, bad, probe = with_geometry(
        arrays, frames, bad, probe, geometry, measurement=measurement, dc=dc, notes=notes
    )
    frame_px = frames.shape[-1]
    require_usable_side(frames.shape, arrays.name)
    pixel_size_m = object_pixel_size_m(arrays, frame_px, notes)
    positions_px, position_scale = object_positions_px(
        arrays, positions, geometry, pixel_size_m, frame_px, notes
    )
    probe = None if probe is None else _sound_probe(probe, frame_px, arrays.name)
    frames, survey = read_frames(arrays, frames, bad, measurement, notes)
    place = place_of_dc(dc if not geometry.changes_frames else "auto", arrays.declared_dc, survey, notes)
    bad = bad_with_nan(frames, bad, survey, notes)
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
        position_scale=position_scale,
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
