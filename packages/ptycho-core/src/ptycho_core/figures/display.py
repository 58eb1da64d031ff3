"""From complex arrays to what an eye can judge: regions, phase without its ramp, colours, limits, lengths.

Pure functions on arrays; nothing here draws.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Complex64, Float, Float32

from ptycho_core.physics.gauge import without_mean_phase, without_ramp

__all__ = [
    "colour_wheel",
    "covered_box",
    "covered_phase",
    "covered_region",
    "mode_mosaic",
    "mode_shares",
    "phase_without_ramp",
    "robust_limits",
    "scale_bar",
]

#: Share of the highest coverage above which a pixel counts as seen (the region of the object error).
SEEN_FRACTION = 0.1


def covered_region(
    coverage: Float32[np.ndarray, "height width"], fraction: float = SEEN_FRACTION
) -> Bool[np.ndarray, "height width"]:
    """Mark the pixels whose coverage exceeds a share of its maximum; all of them where none has any."""
    highest = float(coverage.max(initial=0.0))
    if not highest > 0:
        return np.ones(coverage.shape, dtype=bool)
    return coverage > fraction * highest


def covered_box(seen: Bool[np.ndarray, "height width"], margin_px: int = 2) -> tuple[slice, slice]:
    """Return the rows and columns that hold every seen pixel, grown to a square where the canvas allows."""
    spans = []
    for axis in (1, 0):
        indices = np.flatnonzero(seen.any(axis=axis))
        first, last = (0, seen.shape[1 - axis] - 1) if indices.size == 0 else (indices[0], indices[-1])
        spans.append((int(first) - margin_px, int(last) + 1 + margin_px))
    side = max(stop - start for start, stop in spans)
    rows, columns = (_grown(span, side, length) for span, length in zip(spans, seen.shape, strict=True))
    return rows, columns


def _grown(span: tuple[int, int], side: int, length: int) -> slice:
    start, stop = span
    start -= (side - (stop - start)) // 2
    start = max(0, min(start, length - side))
    return slice(start, min(start + side, length))


def phase_without_ramp(
    obj: Complex64[np.ndarray, "height width"], seen: Bool[np.ndarray, "height width"]
) -> Float32[np.ndarray, "height width"]:
    """Return the phase of the object in radians without its mean slope and mean value on the seen region.

    Object and probe may exchange such a ramp freely, so it says nothing about the sample.
    """
    return np.angle(without_mean_phase(without_ramp(obj, seen), seen)).astype(np.float32)


def covered_phase(
    obj: Complex64[np.ndarray, "height width"], coverage: Float32[np.ndarray, "height width"]
) -> Float32[np.ndarray, "rows columns"]:
    """Return the phase of the covered part of an object, without a ramp, and NaN where nothing was seen."""
    seen = covered_region(coverage)
    box = covered_box(seen)
    part = np.ascontiguousarray(obj[box])
    return np.where(seen[box], phase_without_ramp(part, seen[box]), np.float32(np.nan))


def robust_limits(
    values: Float[np.ndarray, "..."], *, percent: float = 0.5, least_span: float = 0.02
) -> tuple[float, float]:
    """Return colour limits between two percentiles, so that a few wild pixels do not flatten a picture.

    Args:
        percent: share left out on either side.
        least_span: smallest distance between the limits, so that a constant stays calm.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    finite = finite[:: max(1, finite.size // 400_000)]
    low, high = (float(v) for v in np.percentile(finite, (percent, 100 - percent)))
    if high - low < least_span:
        middle = 0.5 * (low + high)
        low, high = middle - least_span / 2, middle + least_span / 2
    return low, high


def colour_wheel(field: Complex64[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width 3"]:
    """Return sRGB colours: hue is the phase, brightness the amplitude relative to its maximum.

    Hues run round a circle of constant lightness and chroma in the OKLab space, so that no phase looks
    brighter than another. Source: B. Ottosson, "A perceptual color space for image processing" (2020).
    """
    amplitude = np.abs(field)
    relative = amplitude / max(float(amplitude.max(initial=0.0)), 1e-30)
    hue = np.angle(field)
    lightness, chroma = 0.76 * relative, 0.125 * relative
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long, medium, short = (
        (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3,
        (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3,
        (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3,
    )
    linear = np.stack(
        (
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ),
        axis=-1,
    ).clip(0.0, 1.0)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return gamma.astype(np.float32)


def mode_mosaic(probe: Complex64[np.ndarray, "mode n n"]) -> Complex64[np.ndarray, "height width"]:
    """Lay the probe modes side by side, row by row; a single mode stays as it is.

    Each mode is scaled to the same maximum, because weak modes would be black beside the first; their
    shares of the power belong in the title.
    """
    n_modes, n, _ = probe.shape
    if n_modes == 1:
        return probe[0]
    columns = math.ceil(math.sqrt(n_modes))
    rows = math.ceil(n_modes / columns)
    mosaic = np.zeros((rows * n, columns * n), dtype=np.complex64)
    for mode, field in enumerate(probe):
        row, column = divmod(mode, columns)
        peak = max(float(np.abs(field).max()), 1e-30)
        mosaic[row * n : (row + 1) * n, column * n : (column + 1) * n] = field / peak
    return mosaic


def mode_shares(probe: Complex64[np.ndarray, "mode n n"]) -> list[float]:
    """Return each mode's share of the probe's power; they add up to 1."""
    power = np.sum(np.abs(probe).astype(np.float64) ** 2, axis=(1, 2))
    return [float(p) for p in power / max(float(power.sum()), 1e-300)]


def scale_bar(width_px: int, pixel_size_m: float | None) -> tuple[float, str]:
    """Choose a round length near a quarter of a picture's width.

    Returns:
        Its length in pixels and its label, in metres with a prefix when the pixel size is known, else in
        pixels.
    """
    wanted = 0.25 * width_px * (pixel_size_m or 1.0)
    decade = 10.0 ** math.floor(math.log10(wanted))
    length = max((m * decade for m in (1, 2, 5) if m * decade <= wanted * 1.000001), default=decade)
    if not pixel_size_m:
        return max(length, 1.0), f"{max(length, 1.0):.0f} px"
    exponent = max(-15, min(0, 3 * math.floor(math.log10(length * 1.000001) / 3)))
    prefix = {0: "", -3: "m", -6: "µ", -9: "n", -12: "p", -15: "f"}[exponent]
    return length / pixel_size_m, f"{length / 10.0**exponent:.3g} {prefix}m"
