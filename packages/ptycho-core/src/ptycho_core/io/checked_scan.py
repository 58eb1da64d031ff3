"""The door: arrays from wherever they came become a checked `Scan`, or one clear refusal.

What a file brings is first cropped, rebinned and turned as asked for; lengths follow.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from ptycho_config.errors import ConfigError, DataError
from ptycho_core.io.frame_values import bad_with_nan, find_dc, place_of_dc, read_frames, warn
from ptycho_core.io.geometry import (
    FrameGeometry,
    Geometry,
    changed_mask,
    changed_probe,
    lazily,
    mean_of_sample,
    plan,
)
from ptycho_core.io.layout import (
    arrange_frames,
    arrange_mask,
    arrange_positions,
    arrange_probe,
    require_usable_side,
)
from ptycho_core.io.raw_scan import Arrays
from ptycho_core.io.units import object_pixel_size_m, object_positions_px
from ptycho_core.scan import Scan
from ptycho_core.scan.estimated_probe import estimate_probe
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.overlap import overlap_fraction, probe_diameter_px, typical_step_px
from ptycho_core.scan.survey import frame_chunks, survey_frames

__all__ = ["Arrays", "admit", "warn_without_overlap", "with_geometry"]

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


def with_geometry(
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
    """Return arrays, frames, mask and probe as the geometry wants them."""
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


def warn_without_overlap(scan: Scan) -> None:
    """Warn, with the overlap found, when the probe does not reach from one position to the next."""
    if scan.n_frames < 2:
        return
    overlap = overlap_fraction(scan.positions_px, scan.probe)
    if overlap > 0:
        return
    step = typical_step_px(scan.positions_px)
    warn(
        f"{scan.name}: neighbouring positions do not overlap: the step is {step:.3g} px, the "
        f"{scan.probe_source} probe {probe_diameter_px(scan.probe):.3g} px wide, the overlap "
        f"{100 * overlap:.0f} %. Frames that share no light cannot be joined; check the positions' unit and "
        "the probe. 60 % is a good overlap."
    )
