"""What the values of a scan may be: finite, not negative, in pixels; and which of two meanings they have."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from jaxtyping import Complex64, Float64

from ptycho_config.errors import DataError, PolicyWarning
from ptycho_core.io.npz import Checksum
from ptycho_core.memory import in_words, memory_bytes
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.survey import FrameSurvey, frame_chunks

__all__ = [
    "BYTES_PER_CANVAS_PX",
    "LARGEST_CANVAS_PX",
    "LARGEST_EXTENT_IN_METRES",
    "LARGEST_NAN_FRACTION",
    "canvas_limit_px",
    "contiguous",
    "largest_value",
    "measurement_reason",
    "nan_pixels",
    "require_sound_frames",
    "require_sound_positions",
    "sound_probe",
    "usable_patch_truth",
    "usable_truth",
    "warn",
]

LARGEST_EXTENT_IN_METRES = 1e-2  # a scan of 1 cm; no scan in pixels is that small
SMALLEST_EXTENT_PX = 1.0
LARGEST_POSITION_PX = 2.0**40  # a thousandth of a pixel is still a number there
LARGEST_CANVAS_PX = 1 << 30
#: A canvas so many times larger than all frames together would be empty; small ones may be.
EMPTIEST_CANVAS, SMALL_CANVAS_PX = 64, 1 << 24
#: What a run holds for each pixel of the canvas, as measured: object, momentum, coverage, copies of them.
BYTES_PER_CANVAS_PX = 40
#: So that float32 holds squares and sums of a frame, and its probe is one that a result may have.
LARGEST_COUNTS, SMALLEST_COUNTS = 1e16, 1e-20
LARGEST_NAN_FRACTION = 0.5


def warn(message: str, *, finding: str | None = None) -> None:
    """Warn whoever opens a scan, with the finding where one is at stake."""
    if finding is None:
        warnings.warn(message, UserWarning, stacklevel=4)
    else:
        warnings.warn(PolicyWarning(message, finding=finding), stacklevel=4)


def canvas_limit_px(n_frames: int, frame_px: int) -> float:
    """Return how many pixels a canvas for so many frames may have, by what they fill and by the memory."""
    by_frames = max(SMALL_CANVAS_PX, EMPTIEST_CANVAS * n_frames * frame_px**2)
    memory = memory_bytes()
    by_memory = LARGEST_CANVAS_PX if memory is None else memory / BYTES_PER_CANVAS_PX
    return float(min(LARGEST_CANVAS_PX, by_frames, by_memory))


def require_sound_positions(positions_px: Float64[np.ndarray, "frame 2"], frame_px: int, name: str) -> None:
    """Refuse positions that are not finite, in metres, or need a canvas that no machine holds."""
    finite = np.isfinite(positions_px).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{name}: {np.count_nonzero(~finite)} of {finite.size} positions are NaN or infinite, the first "
            f"at frame {int(np.argmin(finite))}. Expected finite pixels; drop those frames.",
            finding="DATA-001",
        )
    with np.errstate(over="ignore"):
        extent = positions_px.max(axis=0) - positions_px.min(axis=0)
        canvas_px = np.prod(extent + frame_px)
    if positions_px.shape[0] > 1 and 0 < extent.max() < LARGEST_EXTENT_IN_METRES:
        raise DataError(
            f"{name}: the positions span {extent[0]:.3g} x {extent[1]:.3g} pixels, which is no scan; they "
            "look like metres. Expected pixels, or the object's pixel in metres (`--pixel-size-m`; or "
            "`--energy-ev`, `--distance-m` and `--detector-pixel-m`), by which they are then divided: "
            "wavelength x distance / (N x detector pixel).",
            finding="DATA-001",
        )
    limit_px, memory = canvas_limit_px(len(positions_px), frame_px), memory_bytes()
    if not canvas_px <= limit_px:
        needed = in_words(BYTES_PER_CANVAS_PX * canvas_px)
        there = "" if memory is None else f", of which this process may have {in_words(memory)}"
        raise DataError(
            f"{name}: the positions span {extent[0]:.3g} x {extent[1]:.3g} pixels, a canvas of "
            f"{canvas_px:.2g} pixels, which needs {needed}{there}. Expected at most {limit_px:.2g} pixels "
            f"for {len(positions_px)} frames; are they in nanometres or steps of a motor? Divide them by the "
            "pixel size.",
            finding="DATA-001",
        )
    farthest = float(np.abs(positions_px).max(initial=0.0))
    if farthest > LARGEST_POSITION_PX:
        raise DataError(
            f"{name}: the positions reach {farthest:.3g} pixels, where parts of a pixel are no longer told. "
            "Subtract their offset, or divide them by the pixel size.",
            finding="DATA-001",
        )
    if positions_px.shape[0] > 1 and 0 < extent.max() < SMALLEST_EXTENT_PX:
        warn(
            f"{name}: all {positions_px.shape[0]} positions lie within {extent.max():.2g} px of the object. "
            "Is their unit, the distance or the pixel size wrong? `--positions-unit`, `--distance-m` and "
            "`--pixel-size-m` overrule what the file says.",
            finding="DATA-001",
        )
    if positions_px.shape[0] > 1 and extent.max() == 0:
        warn(
            f"{name}: all {positions_px.shape[0]} positions are equal. Ptychography needs a probe that moves."
        )


def largest_value(measurement: Literal["amplitude", "counts"]) -> float:
    """Return the largest value that a frame may hold, as amplitude or as counts."""
    return LARGEST_COUNTS if measurement == "counts" else LARGEST_COUNTS**0.5


def require_sound_frames(survey: FrameSurvey, name: str, n_values: int, *, infinite: bool = True) -> None:
    """Refuse frames that are infinite, all NaN, all zero, too large, or negative amplitudes.

    Args:
        infinite: refuse infinite values; where not, they count as bad pixels, as NaN does.
    """
    if infinite and survey.first_infinite is not None:
        raise DataError(
            f"{name}: frame {survey.first_infinite} holds infinite values. Expected finite numbers; mark "
            "such pixels in `bad_pixels` or store NaN there.",
            finding="DATA-001",
        )
    largest = max(abs(survey.minimum), abs(survey.maximum))
    if 0 < largest < SMALLEST_COUNTS ** (1.0 if survey.measurement == "counts" else 0.5):
        raise DataError(
            f"{name}: the diffraction reaches no more than {largest:.3g}, which is less than float32 can "
            "square and sum. Expected counts or their square root; multiply by a constant.",
            finding="DATA-001",
        )
    if 0 < survey.n_nan == n_values:
        raise DataError(
            f"{name}: all values of the frames are NaN. Expected counts or amplitudes; if another array of "
            "the file holds them, name it with `--frames-key`.",
            finding="DATA-001",
        )
    if survey.first_all_nan is not None:
        raise DataError(
            f"{name}: frame {survey.first_all_nan} is NaN everywhere. NaN marks single bad pixels; leave it "
            f"out with `--exclude-frames {survey.first_all_nan}`, or all such with `--bad-frames auto`.",
            finding="DATA-001",
        )
    if survey.n_nan > LARGEST_NAN_FRACTION * n_values:
        raise DataError(
            f"{name}: {100 * survey.n_nan / n_values:.0f} % of all values are NaN. NaN marks bad pixels, of "
            f"which at most {100 * LARGEST_NAN_FRACTION:.0f} % can be missing.",
            finding="DATA-001",
        )
    if largest > largest_value(survey.measurement):
        raise DataError(
            f"{name}: the diffraction reaches {largest:.3g}, more than float32 can square and sum. Expected "
            f"counts or their square root; divide by a constant.",
            finding="DATA-001",
        )
    if survey.n_negative and survey.measurement == "amplitude":
        raise DataError(
            f"{name}: {survey.n_negative} values are negative, the smallest is {survey.minimum:.3g}. An "
            "amplitude cannot be; if these are dark-subtracted counts, say `--measurement counts`.",
            finding="DATA-001",
        )
    if survey.maximum <= 0:
        raise DataError(
            f"{name}: all frames are zero. Expected diffraction; was the shutter open, is the mask inverted?",
            finding="DATA-001",
        )
    if survey.n_negative:
        are = "are noise around zero and are" if survey.negatives_are_noise else "are"
        warn(
            f"{name}: {survey.n_negative} negative counts, down to {survey.minimum:.3g}, {are} taken as 0.",
            finding="DATA-001",
        )


def measurement_reason(frames: np.ndarray | LazyFrames, survey: FrameSurvey) -> str:
    """Say why the automatic rule took the values for counts or amplitude."""
    if frames.dtype.kind != "f":
        return f"the type is {frames.dtype}"
    if survey.measurement == "counts":
        return f"all {frames.dtype} values are whole numbers and the largest is {survey.maximum:g}"
    return f"the {frames.dtype} values " + ("do not exceed 1" if survey.integral else "have fractions")


def contiguous(
    frames: np.ndarray | LazyFrames, checksum: Checksum | None
) -> tuple[np.ndarray | LazyFrames, Checksum | None]:
    """Copy frames whose frame axis is scattered over the file, once, into one piece per frame.

    Returns:
        The frames, and the checksum if it is still to be fed while they are read.
    """
    if isinstance(frames, LazyFrames) or frames.flags.c_contiguous:
        return frames, checksum
    if checksum is not None:
        in_file_order = frames if frames.flags.f_contiguous else np.moveaxis(frames, 0, 2)
        checksum.update(in_file_order)
        checksum.verify()
    return np.ascontiguousarray(frames), None


def nan_pixels(frames: np.ndarray | LazyFrames, survey: FrameSurvey) -> np.ndarray | None:
    """Mark pixels that are NaN or infinite: (N, N) where all frames have the same, else (M, N, N)."""
    if survey.nan_always is None or survey.nan_ever is None:
        return None
    if np.array_equal(survey.nan_always, survey.nan_ever):
        return survey.nan_ever
    nan = np.zeros(frames.shape, dtype=bool)
    for chunk in frame_chunks(frames.shape[0], frames[0].size * frames.dtype.itemsize):
        np.logical_not(np.isfinite(frames[chunk]), out=nan[chunk])
    return nan


def sound_probe(probe: np.ndarray, name: str) -> Complex64[np.ndarray, "mode n n"]:
    """Return the probe in single precision.

    Raises:
        DataError: it is not finite, or zero everywhere.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        modes = np.ascontiguousarray(probe, dtype=np.complex64)
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


def usable_truth(array: np.ndarray | None, key: str, rank: int, name: str) -> np.ndarray | None:
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


def usable_patch_truth(array: np.ndarray | None, n_frames: int, name: str) -> np.ndarray | None:
    """Take the true patch of every frame, if it is one for each."""
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
    return usable_truth(array, "Y", 3, name)
