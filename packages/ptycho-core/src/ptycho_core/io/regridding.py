"""Crop, rebin and turn what a file brings, before it is checked further; lengths follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ptycho_core.io.beam import mean_of_sample
from ptycho_core.io.geometry import (
    FrameGeometry,
    Geometry,
    changed_mask,
    changed_probe,
    lazily,
    plan,
)
from ptycho_core.io.layout import arrange_probe
from ptycho_core.io.offered import Arrays
from ptycho_core.io.values import find_dc
from ptycho_core.lazy import LazyFrames
from ptycho_core.survey import frame_chunks, survey_frames

__all__ = ["with_geometry"]


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
