"""Crop, rebin and turn the frames of a draft; its mask, probe and lengths follow.

What is planned here happens block by block when the frames are read; `ptycho_core.io.geometry` does it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ptycho_core.io.draft import Draft
from ptycho_core.io.frame_values import warn
from ptycho_core.io.geometry import FrameGeometry, changed_mask, changed_probe, lazily, mean_of_sample, plan
from ptycho_core.io.layout import SMALLEST_FRAME_PX, arrange_probe
from ptycho_core.scan.survey import survey_frames
from ptycho_core.scan.zero_frequency import find_dc

__all__ = ["change_geometry"]


_CUT = "the frames were cut around the beam"


def change_geometry(draft: Draft) -> Draft:
    """Plan the change of the frames, which happens block by block when they are read.

    Frames of unequal or odd sides are cut to the largest even square around the beam, with a warning.

    Raises:
        DataError: the square that was asked for does not fit around the beam.
    """
    frames, bad, probe = draft.frames, draft.bad_pixels, draft.probe
    full = frames.shape[1:]
    fitting = full[0] == full[1] and full[0] % 2 == 0
    if (fitting and not draft.options.changes_frames) or min(full) < SMALLEST_FRAME_PX:
        return draft
    change, notes = plan(
        draft.options,
        frames,
        bad,
        shifted=_dc_is_in_the_corner(draft),
        amplitude=_values_are_amplitude(draft),
        name=draft.name,
    )
    if not fitting and not draft.options.changes_frames:
        warn_of_the_cut(draft, change)
    draft = draft.with_verified_frames()
    square = full[0] if full[0] == full[1] else None
    draft = _lengths_follow(draft.noting(*notes), change, square)
    if probe is not None and square is not None:
        probe = changed_probe(arrange_probe(probe, probe.shape[-1], draft.name), change, full_px=square)
    return replace(
        draft,
        raw=replace(draft.raw, declared_dc="center", declared_dc_by=_CUT, patch_truth=None),
        frames=lazily(frames).then(change),
        bad_pixels=None if bad is None else changed_mask(bad, change),
        probe=probe,
    )


def warn_of_the_cut(draft: Draft, change: FrameGeometry) -> None:
    """Warn that the frames were cut to a square, and how much of the light that cost."""
    pattern, _ = mean_of_sample(draft.frames, draft.bad_pixels)
    light = np.square(pattern) if _values_are_amplitude(draft) else pattern
    rows = slice(change.top, change.top + change.side)
    columns = slice(change.left, change.left + change.side)
    lost = 1 - float(light[rows, columns].sum()) / max(float(light.sum()), 1e-30)
    height, width = pattern.shape
    warn(
        f"{draft.name}: the frames are {height} x {width} pixels and were cut to {change.side} x "
        f"{change.side} around the beam, which loses {100 * lost:.2g} % of the light. `--crop-px` and "
        "`--beam-center-px` choose otherwise.",
        finding="DATA-001",
    )


def _dc_is_in_the_corner(draft: Draft) -> bool:
    """Whether the zero frequency has to go to the centre before anything is cut off."""
    pattern, _ = mean_of_sample(draft.frames, draft.bad_pixels)
    place = draft.options.dc if draft.options.dc != "auto" else draft.raw.declared_dc
    if place is None and pattern.shape[0] == pattern.shape[1]:
        place, _ = find_dc(pattern)
    return place == "corner"


def _values_are_amplitude(draft: Draft) -> bool:
    """Whether a bin is the root of a sum of squares; where nothing says so, some frames tell."""
    asked, declared, frames = draft.options.measurement, draft.declared_measurement, draft.frames
    if asked == "auto" and declared is None and frames.dtype.kind == "f" and draft.options.rebin > 1:
        sample = slice(0, min(len(frames), 8))
        bad = draft.bad_pixels
        bad = bad[sample] if bad is not None and bad.ndim == 3 else bad
        return survey_frames(frames[sample], bad_pixels=bad).measurement == "amplitude"
    return asked == "amplitude" or (declared is not None and declared[0] == "amplitude")


def _lengths_follow(draft: Draft, change: FrameGeometry, full_px: int | None) -> Draft:
    """Let positions in pixels, the pixel of the object and that of the detector follow a crop and a bin."""
    raw = draft.raw
    if raw.detector_pixel_m is not None:
        raw = replace(raw, detector_pixel_m=raw.detector_pixel_m * change.rebin)
    if change.transposes and raw.detector_aspect != 1:
        width = None if raw.detector_pixel_m is None else raw.detector_pixel_m * raw.detector_aspect
        raw = replace(raw, detector_pixel_m=width, detector_aspect=1 / raw.detector_aspect)
    if raw.ground_truth is not None:
        draft = draft.noting("The true object belongs to the frames as stored and was left out.")
        raw = replace(raw, ground_truth=None)
    if full_px is None or change.side == full_px:
        return replace(draft, raw=raw)
    factor = change.side / full_px
    if raw.pixel_size_m is not None and draft.options.pixel_size_m is None:
        raw = replace(raw, pixel_size_m=raw.pixel_size_m / factor)
    return draft.noting(
        f"Fewer frequencies are kept, so a pixel of the object is {1 / factor:.4g} times as large.",
        raw=raw,
        position_scale=factor,
    )
