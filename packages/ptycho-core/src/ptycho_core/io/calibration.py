"""From what a detector gives to photons: dark frame, flat field and gain, applied while frames are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from ptycho_config.errors import ConfigError, DataError
from ptycho_core.io.draft import Draft
from ptycho_core.io.frame_values import warn
from ptycho_core.io.geometry import lazily
from ptycho_core.io.images import read_image
from ptycho_core.scan.gain import found_gain

__all__ = ["calibrate", "divide_by_found_gain"]

_DARK_NAMES = ("dark", "dark_field", "darkfield", "background", "data")
_FLAT_NAMES = ("flat", "flat_field", "flatfield", "gain", "data")


@dataclass(frozen=True, eq=False)
class _Calibration:
    """Makes photons of what is stored: (value - dark) x factor.

    Attributes:
        dark: None where nothing is subtracted.
        factor: one over flat and gain; NaN where the flat field is no number above 0.
        marks: values that are no counts, the limit of an integer type and what is below zero, become NaN;
            not for frames that were judged as they are stored.
    """

    dark: Float32[np.ndarray, "height width"] | None
    factor: Float32[np.ndarray, "height width"] | np.float32
    marks: bool = False

    def shape(self, frame_shape: tuple[int, int]) -> tuple[int, int]:
        return frame_shape

    def dtype(self, dtype: np.dtype) -> np.dtype:
        return np.dtype(np.float32)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        photons = block.astype(np.float32)
        if self.marks and block.dtype.kind in "iu":
            photons[block == np.iinfo(block.dtype).max] = np.nan
            if block.dtype.kind == "i":
                photons[block < 0] = np.nan
        if self.dark is not None:
            photons -= self.dark
        photons *= self.factor
        return np.maximum(photons, 0, out=photons)


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
    if gain is not None and not (np.isfinite(gain) and gain > 0):
        raise ConfigError(f"`counts_per_photon` is {gain!r}. Expected a positive number.")
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
    return draft.noting(
        f"{text[:1].upper()}{text[1:]}.",
        raw=replace(draft.raw, declared_measurement=("counts", "they were calibrated")),
        frames=lazily(draft.frames).then(_Calibration(dark, factor, marks=True)),
        counts_per_photon=gain,
    )


#: Frames whose gain is nearer to 1 than this are photons.
_NEARLY_PHOTONS = 1.3


def divide_by_found_gain(draft: Draft) -> Draft:
    """Divide frames that can be no photons by the gain that mean and variance tell, with a warning."""
    survey, bad = draft.seen, draft.bad_pixels
    if draft.counts_per_photon is not None:
        return draft
    found = found_gain(survey, None if bad is None else np.asarray(bad if bad.ndim == 2 else bad.any(axis=0)))
    if found is None or 1 / _NEARLY_PHOTONS < found.counts_per_photon < _NEARLY_PHOTONS:
        return draft
    if (
        found.counts_per_photon > 1
        and survey.integral
        and _counted_one_by_one(draft, found.counts_per_photon)
    ):
        return draft  # a sample that moves much light about varies more than photons do
    gain = found.counts_per_photon
    text = f"mean and variance of the dim pixels tell {gain:.3g} counts of the detector for a photon"
    warn(
        f"{draft.name}: the frames are no photons: {text} (within {max(100 * found.spread, 1):.0f} %), by "
        "which they were divided. `--counts-per-photon 1` keeps them as they are.",
        finding="DATA-001",
    )
    return draft.noting(
        f"{text[:1].upper()}{text[1:]}; the frames were divided by it.",
        frames=lazily(draft.frames).then(_Calibration(None, np.float32(1 / gain))),
        survey=survey.times(1 / gain),
        counts_per_photon=gain,
    )


#: The dimmest pixels and the frames that are looked at, and the values above 0 that are needed to tell, of
#: which so large a part has to be 1.
_DIMMEST, _LOOKED_AT, _FEWEST_VALUES, _SINGLE = 500, 32, 100, 0.2


def _counted_one_by_one(draft: Draft, gain: float) -> bool:
    """Whether the dimmest pixels hold 1 more often than 2, 2 more often than 3, and so on beyond the gain.

    Where a photon gives several counts there is a gap below it, or a valley where the detector has noise.
    """
    mean = draft.seen.pixel_sum / draft.seen.counts_per_frame.size
    dim = (mean > 0) & (mean < min(gain, 2.0))
    if dim.sum() > _DIMMEST:
        dim &= mean <= np.partition(mean[dim], _DIMMEST)[_DIMMEST]
    chosen = np.unique(np.linspace(0, len(draft.frames) - 1, _LOOKED_AT).astype(int))
    values = np.concatenate([np.asarray(draft.frames[int(number)])[dim] for number in chosen])
    values = values[np.isfinite(values) & (values > 0)]
    most = int(np.ceil(gain)) + 1
    seen = np.bincount(values[values <= most].astype(np.int64), minlength=most + 1)[1:]
    # A number of n scatters by its root; few values over many numbers would fall by that alone.
    falls = seen[1:] <= seen[:-1] + 2 * np.sqrt(seen[:-1] + 1)
    enough = values.size >= _FEWEST_VALUES and seen[0] > _SINGLE * values.size
    return bool(enough and falls.all())


def _image(
    given: str | Path | np.ndarray, what: str, names: tuple[str, ...], shape: tuple[int, ...], name: str
) -> tuple[Float32[np.ndarray, "height width"], str]:
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
    return values.astype(np.float32), where
