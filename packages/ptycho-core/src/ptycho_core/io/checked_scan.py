"""From what a file offers to a checked `Scan`: the steps, in their order, each from one draft to the next.

`open_scan`, `scan_from_arrays` and the live frames all come through `admit`. Nothing behind it checks again.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.naming import shown
from ptycho_config.values import parse_voltage
from ptycho_core.files import expanded
from ptycho_core.io.calibration import calibrate, divide_by_found_gain, find_photons_by_steps
from ptycho_core.io.cut_frames import change_geometry
from ptycho_core.io.draft import Draft
from ptycho_core.io.formats.reading import read_probe
from ptycho_core.io.frame_values import (
    contiguous,
    measurement_reason,
    require_sound_frames,
    sound_probe,
    usable_patch_truth,
    usable_truth,
    warn,
)
from ptycho_core.io.geometry import (
    require_possible_geometry,
)
from ptycho_core.io.layout import (
    arrange_frames,
    arrange_positions,
    arrange_probe,
    axis_assumption,
    require_usable_side,
)
from ptycho_core.io.left_out import (
    choose_frames,
    leave_out_bad_frames,
    leave_out_bad_pixels,
    mark_nan_as_bad,
    take_mask,
    warn_of_a_large_mask,
)
from ptycho_core.io.options import ReadOptions
from ptycho_core.io.place_positions import find_object_pixel, place_positions
from ptycho_core.io.raw_scan import RawScan
from ptycho_core.io.units import (
    HC_EV_M,
    electron_wavelength_m,
    length_factor,
    wavelength_m,
)
from ptycho_core.ranks import ALONE, Ranks
from ptycho_core.scan import Scan
from ptycho_core.scan.estimated_probe import estimate_probe
from ptycho_core.scan.held import held_alone
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.overlap import overlap_fraction, probe_diameter_px, typical_step_px
from ptycho_core.scan.shared_survey import own_frames
from ptycho_core.scan.survey import FrameSurvey, frame_chunks, survey_frames
from ptycho_core.scan.zero_frequency import find_dc, probe_likeness

__all__ = ["Draft", "admit", "warn_without_overlap"]

_LOG = logging.getLogger(__name__)


def admit(raw: RawScan, options: ReadOptions | None = None, ranks: Ranks = ALONE) -> Scan:
    """Check everything once, decide what is open, and build the scan.

    The frames are read exactly once, in chunks; what that reading finds stays with the scan.

    Args:
        ranks: that open the scan together: each reads its own frames, and all find the same. All call this.

    Raises:
        DataError: something is wrong with the data; the message names it and the cure.
        ConfigError: an option or a physical quantity is no possible value.
    """
    options = options or ReadOptions()
    raw = prefer_options(raw, options)
    require_possible(raw, options)
    draft = pair_frames_with_positions(raw, options, ranks)
    draft = take_mask(draft)
    draft = choose_frames(draft)
    draft = calibrate(draft)
    draft = change_geometry(draft)
    require_usable_side(draft.frames.shape, draft.name)
    draft = find_object_pixel(draft)
    draft = place_positions(draft)
    draft = take_probe(draft)
    draft = read_all_frames(draft)
    draft = find_photons_by_steps(draft)
    draft = leave_out_bad_pixels(draft)
    draft = leave_out_bad_frames(draft)
    draft = judge_values(draft)
    draft = divide_by_found_gain(draft)
    draft = find_zero_frequency(draft)
    draft = mark_nan_as_bad(draft)
    draft = warn_of_a_large_mask(draft)
    scan = build_scan(draft)
    if draft.probe is None:
        scan = estimate_missing_probe(scan, draft.seen, conjugate=draft.options.probe_start == "conjugate")
    warn_without_overlap(scan)
    for note in scan.notes:
        _LOG.info("%s: %s", scan.name, note)
    return scan


# What was asked for, and whether that is possible


def prefer_options(raw: RawScan, options: ReadOptions) -> RawScan:
    """Let unit, lengths and probe that were asked for go before what the file says."""
    require_possible_geometry(options)
    raw = _in_the_unit_asked_for(raw, options.positions_unit)
    lengths = ("pixel_size_m", "energy_ev", "distance_m", "detector_pixel_m")
    asked: dict[str, Any] = {  # Any: fields of `RawScan`, of several types
        key: getattr(options, key) for key in lengths if getattr(options, key) is not None
    }
    if options.probe_file is not None:
        path = expanded(options.probe_file)
        asked |= {"probe": read_probe(path), "probe_source": "given"}
        asked["notes"] = (*raw.notes, f"The start probe was read from {path.name}.")
    return _as_electrons(_with_the_start_asked_for(replace(raw, **asked), options), options)


def _with_the_start_asked_for(raw: RawScan, options: ReadOptions) -> RawScan:
    """Put a given probe aside, or take its conjugate, where that was asked for."""
    if raw.probe is None or options.probe_start == "given":
        return raw
    if options.probe_start == "estimated":
        note = "The probe that was given is put aside, as was asked for."
        return replace(raw, probe=None, notes=(*raw.notes, note))
    note = "The start probe is the complex conjugate of the one that was given, as was asked for."
    return replace(raw, probe=np.conj(raw.probe), notes=(*raw.notes, note))


#: Photons of ptychography have less; above it, electrons are likelier.
_LARGEST_PHOTON_EV = 60e3


def _as_electrons(raw: RawScan, options: ReadOptions) -> RawScan:
    """Take the wavelength of electrons where they were asked for; warn where photons look like them."""
    if options.electrons is None:
        known = raw.energy_ev is not None and np.isfinite(raw.energy_ev) and not raw.electrons
        if known and raw.energy_ev is not None and raw.energy_ev > _LARGEST_PHOTON_EV:
            pixel = wavelength_m(raw.energy_ev) / electron_wavelength_m(raw.energy_ev)
            warn(
                f"{raw.name}: the photon energy is {raw.energy_ev / 1e3:.4g} keV. If these are electrons, "
                f"say `--electrons {raw.energy_ev / 1e3:.4g}kV`; as photons their pixel is {pixel:.3g} times "
                "too large.",
                finding="DATA-001",
            )
        return raw
    try:
        volts = parse_voltage(options.electrons)
    except ValueError as error:
        raise ConfigError(f"`electrons` is {shown(options.electrons)}: {error}.") from None
    if not isinstance(volts, int | float) or not (np.isfinite(volts) and volts > 0):
        raise ConfigError(f"`electrons` is {shown(options.electrons)}. Expected a voltage such as 80kV.")
    if options.energy_ev is not None:
        raise ConfigError("`energy_ev` is that of photons and excludes `electrons`. Give one of them.")
    length_m = float(electron_wavelength_m(float(volts)))
    energy_ev = HC_EV_M / length_m
    note = (
        f"Electrons of {volts / 1e3:.4g} kV have a wavelength of {length_m * 1e12:.4g} pm; the energy is "
        f"kept as that of photons of the same wavelength, {energy_ev / 1e3:.4g} keV."
    )
    return replace(raw, energy_ev=energy_ev, electrons=True, notes=(*raw.notes, note))


def _in_the_unit_asked_for(raw: RawScan, unit: str) -> RawScan:
    if unit == "auto":
        return raw
    if unit == "px":
        return replace(raw, position_unit_m=None, position_unit_open=False)
    factor = length_factor(unit)
    if factor is None:
        raise ConfigError(f"`positions_unit` is {shown(unit)}. Expected one of auto, px, m, mm, um, nm.")
    return replace(raw, position_unit_m=factor, position_unit_open=False)


def require_possible(raw: RawScan, options: ReadOptions) -> None:
    """Refuse choices that do not exist, and quantities that are not positive.

    Raises:
        ConfigError: so it is.
    """
    for key, choices in (
        ("measurement", ("auto", "amplitude", "counts")),
        ("dc", ("auto", "center", "corner")),
        ("probe_start", ("given", "estimated", "conjugate")),
        ("bad_pixels", ("auto", "file", "off")),
        ("bad_frames", ("auto", "off")),
        ("missing_positions", ("drop", "interpolate")),
    ):
        if getattr(options, key) not in choices:
            given = shown(getattr(options, key))
            raise ConfigError(f"`{key}` is {given}. Expected one of {', '.join(choices)}.")
    scale = options.positions_scale
    if len(scale) not in (1, 2) or not all(np.isfinite(factor) and factor > 0 for factor in scale):
        raise ConfigError(
            f"`positions_scale` is {shown(scale)}. Expected a positive factor, or two: of y and of x."
        )
    if not np.isfinite(options.positions_turn_deg):
        raise ConfigError(f"`positions_turn_deg` is {shown(options.positions_turn_deg)}. Expected degrees.")
    for key in ("pixel_size_m", "energy_ev", "distance_m", "detector_pixel_m", "nphotons"):
        value = getattr(raw, key)
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ConfigError(
                f"`{key}` is {shown(value)}. Expected a positive number, or leave it out where unknown."
            )


# Layout: frames first, one position for each, the mask beside them


def pair_frames_with_positions(raw: RawScan, options: ReadOptions, ranks: Ranks = ALONE) -> Draft:
    """Begin the draft: find the frame axis by the number of positions (FORMAT-001), drop surplus positions.

    Raises:
        DataError: there are no positions, or frames and positions do not fit together.
    """
    name = raw.name
    if raw.positions_px is None:
        raise DataError(
            f"{name}: no positions were found. Expected one (y, x) pair per frame; name them with "
            "`--positions-file` (CSV, NPY, NPZ, HDF5 or a product file) or, in this file, `--positions-key`.",
            finding="DATA-001",
        )
    positions = arrange_positions(np.asarray(raw.positions_px), name)
    stored = raw.frames if isinstance(raw.frames, LazyFrames) else np.asanyarray(raw.frames)
    arranged = arrange_frames(stored, positions.shape[0], name)
    if arranged.moved and isinstance(stored, LazyFrames) and raw.checksum is not None:
        for chunk in frame_chunks(stored.shape[0], stored.nbytes // stored.shape[0]):
            raw.checksum.update(stored[chunk])
        raw.checksum.verify()
        raw = replace(raw, checksum=None)
    draft = Draft(
        raw=raw,
        options=options,
        frames=arranged.frames,
        positions=positions,
        frame_axis_was_last=arranged.moved,
        notes=raw.notes if raw.format == "NPZ" else (f"The file is {raw.format}.", *raw.notes),
        probe=None if raw.probe is None else np.asarray(raw.probe),
        ranks=ranks,
    )
    assumed = axis_assumption(arranged)
    if assumed:
        warn_of_the_frame_axis(assumed, name)
        draft = draft.noting(f"FORMAT-001: {assumed}.")
    n_frames = arranged.frames.shape[0]
    surplus = positions.shape[0] - n_frames
    if surplus < 0:
        draft = drop_surplus_frames(draft, n_positions=positions.shape[0])
    if surplus > 0:
        warn(
            f"{name}: {n_frames} frames but {positions.shape[0]} positions; the last {surplus} are dropped.",
            finding="DATA-001",
        )
        draft = draft.noting(
            f"The last {surplus} positions have no frame and were dropped.",
            positions=positions[:n_frames].copy(),
        )
    return draft


def drop_surplus_frames(draft: Draft, *, n_positions: int) -> Draft:
    """Leave out the frames behind the last position, with a warning."""
    n_frames = draft.frames.shape[0]
    message = f"{n_frames} frames but {n_positions} positions; the last {n_frames - n_positions} frames"
    warn(
        f"{draft.name}: {message} are left out. Where others are too many, say `--exclude-frames`.",
        finding="DATA-001",
    )
    padded = np.full((n_frames, 2), np.nan)
    padded[:n_positions] = draft.positions
    draft = replace(draft.with_verified_frames(), positions=padded)
    return draft.keeping(np.arange(n_frames) < n_positions).noting(f"{message} were left out.")


def warn_of_the_frame_axis(assumed: str, name: str) -> None:
    """Announce which axis was taken for the frame axis (FORMAT-001)."""
    warn(f"{name}: {assumed}. Store them as (frames, N, N) to have it in writing.", finding="FORMAT-001")


# Values: the probe that was given, the frames, their zero frequency, their bad pixels


def take_probe(draft: Draft) -> Draft:
    """Bring the probe to (mode, N, N) complex64.

    Raises:
        DataError: it has another shape than the frames, is not finite, or zero everywhere.
    """
    if draft.probe is None:
        return draft
    return replace(
        draft, probe=sound_probe(arrange_probe(draft.probe, draft.frame_px, draft.name), draft.name)
    )


def read_all_frames(draft: Draft) -> Draft:
    """Read all frames once, and check their checksum.

    Raises:
        DataError: they are damaged.
    """
    frames, checksum = contiguous(draft.frames, draft.raw.checksum)
    asked, declared = draft.options.measurement, draft.declared_measurement
    measurement = asked if declared is None else declared[0]
    own = own_frames(draft.positions, draft.ranks)
    if own is not None:
        draft = replace(draft, frames=frames, raw=replace(draft.raw, checksum=checksum))
        draft = draft.with_verified_frames()
        frames = held_alone(frames, own)
        survey = draft.surveyed(frames, bad_pixels=draft.bad_pixels, measurement=measurement)
        return replace(draft, frames=frames, survey=survey)
    survey = survey_frames(
        frames,
        bad_pixels=draft.bad_pixels,
        measurement=measurement,
        on_chunk=None if checksum is None else checksum.update,
    )
    if checksum is not None:
        checksum.verify()
    return replace(draft, frames=frames, survey=survey)


def judge_values(draft: Draft) -> Draft:
    """Refuse values that are none of a detector's, and note what the others are.

    Raises:
        DataError: infinite, dark, too large, or no amplitudes.
    """
    frames, survey, declared = draft.frames, draft.seen, draft.declared_measurement
    require_sound_frames(survey, draft.name, frames.size, infinite=draft.options.bad_pixels != "auto")
    if declared is not None:
        reason = declared[1]
    elif draft.options.measurement != "auto":
        reason = "that is what was asked for"
    else:
        reason = measurement_reason(frames, survey)
    draft = draft.noting(f"DATA-001: the values are taken for {survey.measurement}, because {reason}.")
    dark = int(np.count_nonzero(survey.counts_per_frame == 0))
    return draft.noting(f"{dark} of {frames.shape[0]} frames hold no counts.") if dark else draft


#: The transform of a given probe resembles the mean pattern so much more in one place than in the other.
CLEARLY_ALIKE = 0.2


def _as_the_probe_says(
    draft: Draft,
    probe: np.ndarray,
    pattern: np.ndarray,
    place: Literal["center", "corner"],
    reason: str,
) -> tuple[Literal["center", "corner"], str]:
    """Let the transform of a given probe decide against the brightness, with a warning."""
    bad = draft.bad_pixels
    good = None if bad is None else ~np.asarray(bad if bad.ndim == 2 else bad.any(axis=0))
    center, corner = probe_likeness(probe, pattern, good)
    other: Literal["center", "corner"] = "center" if place == "corner" else "corner"
    here, there = (corner, center) if place == "corner" else (center, corner)
    if there - here < CLEARLY_ALIKE:
        return place, reason
    warn(
        f"{draft.name}: the zero frequency is taken to be in the {other}: there the transform of the "
        f"file's probe resembles the mean pattern (correlation {there:.2f}, in the {place} {here:.2f}), "
        f"although the {place} is brighter, which a beam stop would do. `--dc {place}` overrules it.",
        finding="DATA-001",
    )
    return (
        other,
        f"the transform of the probe resembles the mean pattern there ({there:.2f}, else {here:.2f})",
    )


def find_zero_frequency(draft: Draft) -> Draft:
    """Decide where the zero frequency is; frames that were cut have it in the centre."""
    asked, declared = draft.options.dc, draft.raw.declared_dc
    place: Literal["center", "corner"]
    if asked != "auto" and not draft.options.changes_frames:
        place, reason = asked, "that is what was asked for"
    elif declared is not None:
        place, reason = declared, draft.raw.declared_dc_by
    else:
        pattern = draft.seen.counts_sum / draft.seen.counts_per_frame.size
        place, reason = find_dc(pattern)
        if draft.probe is not None:
            place, reason = _as_the_probe_says(draft, draft.probe, pattern, place, reason)
    return draft.noting(f"DATA-001: the zero frequency is in the {place}, because {reason}.", dc=place)


# The scan


def build_scan(draft: Draft) -> Scan:
    """Build the scan, with a blank probe where none was given."""
    raw, bad, n = draft.raw, draft.bad_pixels, draft.frame_px
    return Scan(
        name=draft.name,
        frames=draft.frames,
        positions_px=draft.positions,
        probe=np.zeros((1, n, n), dtype=np.complex64) if draft.probe is None else draft.probe,
        measurement=draft.seen.measurement,
        dc=draft.dc,
        bad_pixels=np.fft.fftshift(bad, axes=(-2, -1)) if bad is not None and draft.dc == "corner" else bad,
        probe_source="estimated" if draft.probe is None else raw.probe_source,
        position_convention=raw.position_convention,
        position_scale=draft.position_scale,
        ground_truth=usable_truth(raw.ground_truth, "objectGuess", 2, draft.name),
        patch_truth=usable_patch_truth(raw.patch_truth, draft.frames.shape[0], draft.name),
        source=raw.source,
        known_sha256=raw.known_sha256,
        origin=raw.origin,
        pixel_size_m=draft.pixel_size_m,
        pixel_aspect=draft.pixel_aspect,
        energy_ev=raw.energy_ev,
        distance_m=raw.distance_m,
        counts_per_photon=draft.counts_per_photon,
        read_noise=draft.read_noise,
        nphotons=raw.nphotons,
        metadata=raw.metadata,
        notes=draft.notes,
        frame_numbers=draft.frame_numbers,
        all_positions_px=draft.all_positions,
        n_frames_asked_for=draft.n_frames_asked_for,
    ).remember(draft.seen)


def estimate_missing_probe(scan: Scan, survey: FrameSurvey, *, conjugate: bool) -> Scan:
    """Estimate the probe from the mean pattern, its defocus with the other sign where that was asked for."""
    probe, note = estimate_probe(scan)
    if conjugate:
        probe, note = np.conj(probe), f"{note[:-1]}, and its complex conjugate taken."
    return replace(scan, probe=probe, notes=(*scan.notes, note)).remember(survey)


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
