"""Compare a reconstruction with the truth or with another one: every number of the house at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Complex, Complex64, Float64, Inexact, Real

from ptycho_config.errors import DataError
from ptycho_core.physics.gauge import linear_ramp, phase_ramp, without_mean_phase

from .fourier_ring import HALF, ONE_SEVENTH, cutoff, first_crossing, ring_correlation, windowed
from .object_error import illuminated_region, object_error
from .similarity import LEGACY_PEAK, mean_absolute_error, mean_squared_error, ms_ssim, psnr, ssim

SMALLEST_OVERLAP_PX = 16
"""Side of the smallest common window in which a comparison means anything."""


@runtime_checkable
class OnCanvas(Protocol):
    """An object with its place in the scan; a `Reconstruction` is one."""

    @property
    def object(self) -> Complex64[np.ndarray, "h w"]: ...
    @property
    def coverage(self) -> Real[np.ndarray, "h w"]: ...
    @property
    def origin_px(self) -> Float64[np.ndarray, "2"]: ...


@dataclass(frozen=True, eq=False)
class Comparison:
    """All scores by name, and the images they were taken from.

    Attributes:
        values: name to number; names ending in `_db`, `_px`, `_rad` carry that unit.
        aligned: (H, W) the estimate in the common window, moved onto the truth.
        truth: (H, W) the truth in the same window.
        region: (H, W) the pixels judged.
        ring_correlation: rings 0 to Nyquist of the complex images.
        window_origin_px: (y, x) scan coordinate of pixel [0, 0] of the window.
    """

    values: dict[str, float]
    aligned: Complex64[np.ndarray, "h w"]
    truth: Complex64[np.ndarray, "h w"]
    region: Bool[np.ndarray, "h w"]
    ring_correlation: Float64[np.ndarray, " ring"]
    window_origin_px: Float64[np.ndarray, "2"]


def compare(
    estimate: OnCanvas | Complex[np.ndarray, "_ _"],
    truth: OnCanvas | Complex[np.ndarray, "_ _"],
    *,
    coverage: Real[np.ndarray, "_ _"] | None = None,
    estimate_origin_px: Inexact[np.ndarray, "2"] | tuple[float, float] = (0.0, 0.0),
    truth_origin_px: Inexact[np.ndarray, "2"] | tuple[float, float] = (0.0, 0.0),
    pixel_size_m: float | None = None,
    remove: Literal["plane", "mean"] = "plane",
) -> Comparison:
    """Score an object against the truth, or against another reconstruction.

    Both are cut to their common window by their origins, to the pixel; the rest of the shift is found
    together with phase ramp and factor (see `object_error`).

    Args:
        estimate: a `Reconstruction`, or an array whose pixel [0, 0] lies at `estimate_origin_px`.
        truth: the same for the truth.
        coverage: light per pixel of the estimate's canvas; by default the reconstruction's own. Where
            both sides have one, pixels must be illuminated in both.
        pixel_size_m: adds lengths in metres.
        remove: take the truth's phase ramp and mean off both (`plane`) or only the mean (`mean`)
            before phases are compared.

    Raises:
        DataError: no common window, or nothing varies in it.

    Source: docs/reference/physics.md, "Metrics".
    """
    moving = _Placed.of(estimate, coverage, estimate_origin_px)
    fixed = _Placed.of(truth, None, truth_origin_px)
    moving, fixed, origin = _common_window(moving, fixed)
    light = _common_light(moving, fixed)
    found = object_error(moving.image, fixed.image, light)
    window = _bounding_box(found.region)
    region = found.region[window]
    aligned, target = found.aligned[window], fixed.image[window].astype(np.complex64)
    curve, rings = _ring_scores(aligned, target, region, pixel_size_m)
    values = {
        "object_error": found.value,
        "shift_y_px": float(found.shift_px[0]),
        "shift_x_px": float(found.shift_px[1]),
        "ramp_y_rad_per_px": float(found.ramp[0]),
        "ramp_x_rad_per_px": float(found.ramp[1]),
        "factor_abs": abs(found.factor),
        "factor_phase_rad": float(np.angle(found.factor)),
        "pixels": float(found.region.sum()),
        **rings,
        **_amplitude_scores(np.abs(aligned), np.abs(target), region),
        **_phase_scores(aligned, target, region, remove),
    }
    corner = origin + np.array([side.start for side in window], np.float64)
    return Comparison(values, aligned, target, region, curve, corner)


@dataclass(frozen=True, eq=False)
class _Placed:
    """An image, its light, and where it lies."""

    image: np.ndarray
    coverage: np.ndarray | None
    origin_px: np.ndarray

    @classmethod
    def of(cls, source: OnCanvas | np.ndarray, coverage: np.ndarray | None, origin_px: object) -> _Placed:
        if isinstance(source, np.ndarray):
            placed = cls(source, coverage, np.asarray(origin_px, np.float64))
        else:
            light = source.coverage if coverage is None else coverage
            placed = cls(source.object, light, np.asarray(source.origin_px, np.float64))
        if placed.coverage is not None and placed.coverage.shape != placed.image.shape:
            raise DataError(
                f"`coverage` has shape {placed.coverage.shape}, its object {placed.image.shape}; "
                "pass the light of every object pixel"
            )
        return placed

    def cut(self, top: np.ndarray, size: np.ndarray) -> _Placed:
        window = tuple(slice(t, t + s) for t, s in zip(top.tolist(), size.tolist(), strict=True))
        light = None if self.coverage is None else self.coverage[window]
        return _Placed(self.image[window], light, self.origin_px + top)


def _common_window(moving: _Placed, fixed: _Placed) -> tuple[_Placed, _Placed, np.ndarray]:
    offset = np.rint(fixed.origin_px - moving.origin_px).astype(int)
    start = np.maximum(0, offset)  # in pixels of `moving`
    stop = np.minimum(moving.image.shape, offset + np.array(fixed.image.shape))
    size = stop - start
    if (size < SMALLEST_OVERLAP_PX).any():
        raise DataError(
            f"objects of shape {moving.image.shape} at {tuple(moving.origin_px.tolist())} px and "
            f"{fixed.image.shape} at {tuple(fixed.origin_px.tolist())} px have no common window of at least "
            f"{SMALLEST_OVERLAP_PX} px; give origins in the coordinates of one scan"
        )
    cut = fixed.cut(start - offset, size)
    return moving.cut(start, size), cut, cut.origin_px


def _common_light(moving: _Placed, fixed: _Placed) -> np.ndarray | None:
    lights = [side.coverage for side in (moving, fixed) if side.coverage is not None]
    if not lights:
        return None
    # Illuminated in both: each is judged by its own maximum.
    return np.all([illuminated_region(light) for light in lights], axis=0).astype(np.float32)


def _bounding_box(region: np.ndarray) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _ring_scores(
    aligned: np.ndarray, truth: np.ndarray, region: np.ndarray, pixel_size_m: float | None
) -> tuple[np.ndarray, dict[str, float]]:
    curve = ring_correlation(windowed(aligned, region), windowed(truth, region), reach="nyquist")
    values = {}
    for name, threshold in (("frc50", HALF), ("frc1over7", ONE_SEVENTH)):
        limit = cutoff(curve, threshold, min(truth.shape))
        values[f"{name}_nyquist_fraction"] = limit.nyquist_fraction
        values[f"{name}_half_period_px"] = limit.half_period_px
        if pixel_size_m is not None:
            values[f"{name}_half_period_m"] = limit.half_period_px * pixel_size_m
    values["frc_mean"] = float(curve[1:].mean())
    return curve, values


def _amplitude_scores(image: np.ndarray, truth: np.ndarray, region: np.ndarray) -> dict[str, float]:
    mean = image[region].mean()
    image = image * (truth[region].mean() / mean) if mean > 0 else image
    span = float(np.ptp(truth[region]))
    return _scores("amplitude", image, truth, region, truth[region] - image[region], span, span, blur_px=1.0)


def _phase_scores(
    aligned: np.ndarray, truth: np.ndarray, region: np.ndarray, remove: Literal["plane", "mean"]
) -> dict[str, float]:
    """Scores of the phases; differences are taken around the circle, planes without unwrapping."""
    flat = phase_ramp(truth.shape, -linear_ramp(truth, region)) if remove == "plane" else 1.0
    truth, aligned = (without_mean_phase(o * flat, region) for o in (truth, aligned))
    difference = np.angle(truth * aligned.conj())
    # Mapped to 0..1, as SSIM wants it; the estimate follows the truth's branch.
    target = (np.angle(truth) + np.pi) / (2 * np.pi)
    image = target - difference / (2 * np.pi)
    span = float(np.ptp(np.angle(truth)[region]))
    return _scores("phase", image, target, region, difference[region], span, 1.0)


def _scores(
    name: str,
    image: np.ndarray,
    truth: np.ndarray,
    region: np.ndarray,
    difference: np.ndarray,
    span: float,
    ssim_range: float,
    blur_px: float = 0.0,
) -> dict[str, float]:
    zero = np.zeros_like(difference)
    mse = mean_squared_error(difference, zero)
    # Outside the region both images are the truth, so that no window sees what was not judged.
    image = np.where(region, image, truth)
    background = truth[region].mean()
    curve = ring_correlation(*(np.where(region, side, background) for side in (image, truth)))
    return {
        f"{name}_mae": mean_absolute_error(difference, zero),
        f"{name}_mse": mse,
        f"{name}_psnr_db": psnr(mse, LEGACY_PEAK),
        f"{name}_psnr_true_range_db": psnr(mse, span),
        f"{name}_ssim": ssim(image, truth, ssim_range, region),
        f"{name}_ms_ssim": ms_ssim(image, truth, ssim_range, blur_px=blur_px, region=region),
        f"{name}_frc50_rings": first_crossing(curve, HALF),
        f"{name}_frc1over7_rings": first_crossing(curve, ONE_SEVENTH),
    }
