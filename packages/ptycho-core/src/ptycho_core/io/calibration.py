"""From what a detector gives to photons: dark frame, flat field and gain, applied while frames are read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.naming import shown
from ptycho_core.io.draft import Draft
from ptycho_core.io.frame_values import warn
from ptycho_core.io.geometry import lazily
from ptycho_core.io.images import read_image
from ptycho_core.scan.gain import found_gain
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.steps import counted_one_by_one, unit_of_each_frame
from ptycho_core.scan.survey import MOST_MARKS, FrameSurvey

__all__ = ["calibrate", "divide_by_found_gain", "find_photons_by_steps"]

_DARK_NAMES = ("dark", "dark_field", "darkfield", "background", "data")
_FLAT_NAMES = ("flat", "flat_field", "flatfield", "gain", "data")


@dataclass(frozen=True, eq=False)
class _Calibration:
    """Makes photons of what is stored: (value - dark) x factor.

    Attributes:
        dark: None where nothing is subtracted.
        factor: one over flat and gain; NaN where the flat field is no number above 0.
        at_limit: values at the limit of an integer type are no counts and become NaN; not for frames that
            were judged as they are stored.
        below_zero: what is below zero is noise, and becomes 0, or marks pixels, and becomes NaN.
        whole: what comes out is rounded to whole numbers.
    """

    dark: Float32[np.ndarray, "height width"] | None
    factor: Float32[np.ndarray, "height width"] | np.float32
    at_limit: bool = False
    below_zero: Literal["noise", "marks"] = "noise"
    whole: bool = False

    def shape(self, frame_shape: tuple[int, int]) -> tuple[int, int]:
        return frame_shape

    def dtype(self, dtype: np.dtype) -> np.dtype:
        return np.dtype(np.float32)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        # Doubles may be so small or large that they are none or infinite before they are multiplied.
        wide = block.dtype.kind == "f" and block.dtype.itemsize > np.dtype(np.float32).itemsize
        photons = block.astype(np.float64 if wide else np.float32)
        if self.at_limit and block.dtype.kind in "iu":
            photons[block == np.iinfo(block.dtype).max] = np.nan
        if self.below_zero == "marks" and block.dtype.kind in "if":
            photons[block < 0] = np.nan
        if self.dark is not None:
            photons -= self.dark
        photons *= self.factor
        if self.whole:
            np.rint(photons, out=photons)
        with np.errstate(over="ignore"):  # values that large are refused when they are read
            return np.maximum(photons, 0, out=photons).astype(np.float32, copy=False)


def calibrate(draft: Draft) -> Draft:
    """Subtract the dark frame, divide by flat field and gain, as they were asked for.

    Raises:
        ConfigError: the gain is no possible value, or the frames are amplitudes.
        DataError: dark frame or flat field cannot be read, or have another shape than the frames.
    """
    options, shape = draft.options, draft.frames.shape[1:]
    gain = options.counts_per_photon
    if options.dark is None and options.flat is None and gain is None:
        return draft
    if gain is not None and not _LEAST_GAIN <= gain <= 1 / _LEAST_GAIN:
        raise ConfigError(
            f"`counts_per_photon` is {shown(gain)}. Expected a positive number, from {_LEAST_GAIN:.2g} to "
            f"{1 / _LEAST_GAIN:.2g}."
        )
    if gain == 1 and options.dark is None and options.flat is None:
        return draft.noting("The counts were taken for photons, as asked.", counts_per_photon=gain)
    if options.measurement == "amplitude":
        raise ConfigError(
            "`dark`, `flat` and `counts_per_photon` are for counts, and `measurement` is amplitude. Leave "
            "one of them out."
        )
    said: list[str] = []
    dark, factor = None, np.full(shape, 1 / (gain or 1.0), np.float32)
    if options.dark is not None:
        dark, where = _image(options.dark, "dark", _DARK_NAMES, shape, draft.name)
        said.append(f"the dark frame of {where} (mean {float(np.nanmean(dark)):.4g}) was subtracted")
        factor[~np.isfinite(dark)] = np.nan
        with np.errstate(over="ignore"):
            dark = dark.astype(np.float32)
    if options.flat is not None:
        flat, where = _image(options.flat, "flat", _FLAT_NAMES, shape, draft.name)
        usable: Bool[np.ndarray, "height width"] = np.isfinite(flat) & (flat > 0)
        if not usable.any():
            raise DataError(f"{draft.name}: the flat field of {where} has no value above 0.")
        # Photons stay photons: the response is relative.
        level = float(np.median(flat[usable]))
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(usable, factor * (level / flat), np.nan).astype(np.float32)
        said.append(
            f"the frames were divided by the flat field of {where}, relative to its median {level:.4g}"
        )
    if gain is not None:
        said.append(f"{gain:.4g} counts of the detector are one photon")
    draft = draft.with_verified_frames()
    text = "; ".join(said)
    below_zero = "marks" if draft.frames.dtype.kind == "i" and not _noise_around_zero(draft) else "noise"
    return draft.noting(
        f"{text[:1].upper()}{text[1:]}.",
        raw=replace(draft.raw, declared_measurement=("counts", "they were calibrated")),
        frames=lazily(draft.frames).then(_Calibration(dark, factor, at_limit=True, below_zero=below_zero)),
        counts_per_photon=gain,
    )


_LOOKED_AT = 16
#: Float32 holds this number and one over it to its full accuracy.
_LEAST_GAIN = float(np.finfo(np.float32).tiny)


def _noise_around_zero(draft: Draft) -> bool:
    """Whether what is below zero is noise of the detector, by some frames."""
    chosen = np.unique(np.linspace(0, len(draft.frames) - 1, _LOOKED_AT).astype(int))
    some = np.stack([np.asarray(draft.frames[int(number)]) for number in chosen])
    return np.unique(some[some < 0]).size > MOST_MARKS


def find_photons_by_steps(draft: Draft) -> Draft:
    """Count photons where all values of a frame are whole multiples of one number, with a warning.

    So counts are that were multiplied by a constant, or divided by the monitor of each frame. Where nothing
    says what the values are, that makes them counts.
    """
    options, survey, bad = draft.options, draft.seen, draft.bad_pixels
    declared = draft.declared_measurement
    stated = options.measurement if declared is None else declared[0]
    fractions = draft.frames.dtype.kind == "f" and not survey.integral
    if not fractions or stated == "amplitude" or draft.counts_per_photon is not None:
        return draft
    units = unit_of_each_frame(draft.frames, _bad_in_any(bad))
    if (
        units is None
        or units.mean < _LEAST_GAIN
        or (units.common and 1 / _NEARLY_PHOTONS < units.mean < _NEARLY_PHOTONS)
    ):
        return draft
    frames = lazily(draft.frames).then(
        _Calibration(None, np.float32(1 / units.mean), below_zero="marks", whole=units.common)
    )
    text = f"all values are whole multiples of {units.mean:.5g}"
    if not units.common:
        text = (
            "all values of a frame are whole multiples of one number, which goes from "
            f"{units.least:.4g} to {units.most:.4g}, as counts divided by a monitor are"
        )
    undo = "`--counts-per-photon 1` keeps them as they are"
    if stated == "auto":
        undo = "`--measurement amplitude` overrules it"
    warn(
        f"{draft.name}: {text}; they were taken for counts and divided by {units.mean:.5g}, which is a "
        f"photon. {undo}.",
        finding="DATA-001",
    )
    raw = draft.raw
    if stated == "auto":
        raw = replace(raw, declared_measurement=("counts", text))
    return draft.noting(
        f"{text[:1].upper()}{text[1:]}: one photon, by {units.mean:.5g} of which the frames were divided.",
        raw=raw,
        frames=frames,
        survey=draft.surveyed(frames, bad_pixels=bad, measurement="counts"),
        counts_per_photon=units.mean,
    )


def _bad_in_any(bad: np.ndarray | None) -> Bool[np.ndarray, "height width"] | None:
    return None if bad is None else np.asarray(bad if bad.ndim == 2 else bad.any(axis=0))


#: Frames whose gain is nearer to 1 than this are photons.
_NEARLY_PHOTONS = 1.3
#: Read noise of so many photons is said.
_SAID_READ_NOISE = 0.1


def divide_by_found_gain(draft: Draft) -> Draft:
    """Divide frames that can be no photons by the gain that they tell, with a warning."""
    survey, bad = draft.seen, _bad_in_any(draft.bad_pixels)
    if survey.measurement != "counts":
        return draft
    if draft.counts_per_photon is not None:
        return _with_read_noise(draft, bad)
    if _look_like_photons(draft.frames, survey, bad):
        return draft
    found = found_gain(draft.frames, bad, noisy=survey.n_negative > 0)
    if found is None or 1 / _NEARLY_PHOTONS < found.counts_per_photon < _NEARLY_PHOTONS:
        return _with_read_noise(draft, bad)
    gain = found.counts_per_photon
    what = "the distance of the heaps in which the values stand tells"
    if found.told_by == "variance":
        what = "mean and variance of the dim pixels tell"
    text = f"{what} {gain:.3g} counts of the detector for a photon (within {100 * found.within:.0f} %)"
    read_noise = found.read_noise if survey.n_negative else 0.0
    mixed = f", beside a read noise of {read_noise:.2g} photons" if read_noise > _SAID_READ_NOISE else ""
    warn(
        f"{draft.name}: the frames are no photons: {text}{mixed}, by which they were divided. "
        f"`--counts-per-photon {gain:.4g}` says so, `--counts-per-photon 1` keeps them as they are.",
        finding="DATA-001",
    )
    return draft.noting(
        f"{text[:1].upper()}{text[1:]}{mixed}; the frames were divided by it.",
        frames=lazily(draft.frames).then(_Calibration(None, np.float32(1 / gain))),
        survey=survey.times(1 / gain),
        counts_per_photon=gain,
        read_noise=read_noise,
    )


#: The dimmest of the pixels with values below zero, whose variance beyond that of photons is read noise; in
#: as many frames as have so many values together, within these numbers.
_DARKEST, _VALUES_READ, _FEWEST_READ, _MOST_READ = 200, 1 << 23, 8, 100


def _with_read_noise(draft: Draft, bad: Bool[np.ndarray, "height width"] | None) -> Draft:
    """Find the read noise of frames with values below zero, whose unit is a photon."""
    if not draft.seen.n_negative or not _noise_around_zero(draft):
        return draft
    count = min(max(_VALUES_READ // math.prod(draft.frames.shape[1:]), _FEWEST_READ), _MOST_READ)
    chosen = np.unique(np.linspace(0, len(draft.frames) - 1, count).astype(int))
    values = np.asarray(draft.frames[chosen], np.float64)
    values = values.reshape(len(values), -1)[:, slice(None) if bad is None else ~bad.ravel()]
    values = values[:, np.isfinite(values).all(axis=0) & (values < 0).any(axis=0)]
    if values.shape[1] < _DARKEST or len(values) < 4:
        return draft
    # Chosen by some frames and measured on the others, or what is dim by chance would seem too quiet.
    darkest = np.argpartition(values[::2].mean(axis=0), _DARKEST - 1)[:_DARKEST]
    seen = values[1::2, darkest]
    variance = float(seen.var(axis=0, ddof=1).mean()) - max(0.0, float(seen.mean()))
    read_noise = math.sqrt(max(0.0, variance))
    if read_noise <= _SAID_READ_NOISE:
        return draft
    text = f"Beside the photons there is a read noise of {read_noise:.2g} photons."
    return draft.noting(text, read_noise=read_noise)


#: Part of the pixels, the dimmest, whose variance is compared with their mean; and of these, so many, in so
#: many frames, whose single counts are looked at.
_DIM, _DIMMEST = 0.2, 400


def _look_like_photons(
    frames: np.ndarray | LazyFrames, survey: FrameSurvey, bad: Bool[np.ndarray, "height width"] | None
) -> bool:
    """Whether the dim pixels vary as photons do, or hold them one by one; this costs next to nothing."""
    n_frames = survey.counts_per_frame.size
    if n_frames < 2 or survey.n_negative or not survey.integral:
        return False
    mean, variance = survey.pixel_sum / n_frames, survey.pixel_variance
    lit = (mean > 0) & np.isfinite(variance)
    if bad is not None:
        lit &= ~bad
    if not lit.any():
        return True
    dim = np.flatnonzero(lit & (mean <= np.quantile(mean[lit], _DIM)))
    ratio = float(variance.flat[dim].sum() / mean.flat[dim].sum())
    if 1 / _NEARLY_PHOTONS < ratio < _NEARLY_PHOTONS:
        return True
    dim = dim[:: max(1, dim.size // _DIMMEST)]
    chosen = np.unique(np.linspace(0, n_frames - 1, _LOOKED_AT).astype(int))
    return counted_one_by_one(np.stack([np.asarray(frames[int(number)]).flat[dim] for number in chosen]))


def _image(
    given: str | Path | np.ndarray, what: str, names: tuple[str, ...], shape: tuple[int, ...], name: str
) -> tuple[Float64[np.ndarray, "height width"], str]:
    """Read an image of the detector; the mean where there are several."""
    if isinstance(given, np.ndarray):
        values, where = given, "the caller"
    else:
        image = read_image(str(given), names, what=what)
        values, where = image.values, image.source
    if values.dtype.kind in "biuf" and values.ndim == 3:
        values = values.mean(axis=0, dtype=np.float64)
    if values.dtype.kind not in "biuf" or values.shape != shape:
        raise DataError(
            f"{name}: the {what} of {where} is {values.dtype} of shape {values.shape}. Expected "
            f"{shape[0]} x {shape[1]} numbers, laid out as the frames are stored.",
            finding="DATA-001",
        )
    return values.astype(np.float64), where
