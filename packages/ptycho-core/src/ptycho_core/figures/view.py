"""What the pictures of an object share: the seen part, at no more pixels than they can show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Complex64, Float32, Float64

from ptycho_core.figures.display import covered_box, covered_region, robust_limits
from ptycho_core.physics.canvas import row_bands
from ptycho_core.physics.gauge import linear_ramp, phase_ramp, without_mean_phase

__all__ = ["LABELS", "DrawnResult", "ObjectView", "aspect_of", "pixel_of"]

#: What the grey values are.
LABELS = {"amplitude": "relative amplitude", "phase": "rad"}
#: Twice what a page shows.
_LARGEST_PX = 2048


@runtime_checkable
class DrawnResult(Protocol):
    """What the pictures need of a result: a `ptycho_core.Reconstruction` has it, and so may other programs'
    results.

    Its attributes are those of `Reconstruction`, where they are described.
    """

    @property
    def object(self) -> Complex64[np.ndarray, "height width"]: ...
    @property
    def probe(self) -> Complex64[np.ndarray, "mode n n"]: ...
    @property
    def coverage(self) -> Float32[np.ndarray, "height width"]: ...
    @property
    def positions_px(self) -> Float64[np.ndarray, "frame 2"]: ...
    @property
    def positions_given_px(self) -> Float64[np.ndarray, "frame 2"] | None: ...
    @property
    def residual_per_frame(self) -> Float32[np.ndarray, " frame"]: ...
    @property
    def data_residual(self) -> float: ...
    @property
    def history(self) -> tuple[Mapping[str, Any], ...]: ...
    @property
    def timings(self) -> Mapping[str, float]: ...
    @property
    def method(self) -> str: ...
    @property
    def scan_name(self) -> str: ...
    @property
    def n_frames(self) -> int: ...
    @property
    def frame_px(self) -> int: ...
    @property
    def pixel_size_m(self) -> float | None: ...
    @property
    def interrupted(self) -> bool: ...
    @property
    def dose_carries_image(self) -> bool: ...
    def position_corrections_px(self) -> Float64[np.ndarray, "frame 2"]: ...


def aspect_of(result: DrawnResult) -> float:
    """Return the height of a pixel over its width; a result of another program need not say it."""
    return float(getattr(result, "pixel_aspect", 1.0))


def pixel_of(result: DrawnResult) -> dict[str, Any]:
    """Return the pixel as `draw_image` takes it."""
    return {"pixel_size_m": result.pixel_size_m, "pixel_aspect": aspect_of(result)}


class ObjectView:
    """The well illuminated part of an object as amplitude and phase, with the grey values that suit it.

    Attributes:
        images: `amplitude` and `phase` in radians, (h, w) float32 each; NaN where no frame looks.
        limits: the values that are black and white.
        coverage: (h, w) float32.
        box: the part of the canvas that is shown. corner_px: (y, x) of its first pixel in the scan.
        shrunk: how many pixels of the canvas, in rows and in columns, one value stands for.
    """

    def __init__(
        self,
        reconstruction: DrawnResult,
        phase_limits_rad: tuple[float | None, float | None] = (None, None),
        *,
        largest_px: int = _LARGEST_PX,
    ) -> None:
        """Prepare the pictures.

        Args:
            phase_limits_rad: phases that are black and white; those of the well illuminated part where None.
            largest_px: longest side of the pictures; larger objects are averaged over squares of pixels.
        """
        self.result = reconstruction
        seen = covered_region(reconstruction.coverage)
        box = covered_box(seen)
        self.box = box
        origin_px = getattr(
            reconstruction, "origin_px", (0.0, 0.0)
        )  # a result of another program may have none
        self.corner_px = (float(origin_px[0]) + box[0].start, float(origin_px[1]) + box[1].start)
        seen, obj, coverage = seen[box], reconstruction.object[box], reconstruction.coverage[box]
        self.shrunk = max(1, -(-max(obj.shape) // largest_px))
        amplitude, flat, self.coverage = _shrunk(obj, coverage, linear_ramp(obj, seen), self.shrunk)
        bright = covered_region(self.coverage)
        phase = np.angle(without_mean_phase(flat, bright)).astype(np.float32)
        images = {"amplitude": amplitude, "phase": phase}
        # The rim is shown fainter coverage included, but the limits are those of the well illuminated part.
        self.limits = {name: robust_limits(image[bright]) for name, image in images.items()}
        lowest, highest = self.limits["phase"]
        black, white = phase_limits_rad
        self.limits["phase"] = (lowest if black is None else black, highest if white is None else white)
        dark = covered_region(self.coverage, fraction=0.02)
        self.images = {name: np.where(dark, image, np.nan) for name, image in images.items()}

    def heading(self, what: str = "") -> str:
        residual = self.result.data_residual
        parts = [
            self.result.scan_name,
            what,
            self.result.method,
            f"R = {residual:.4f}" if math.isfinite(residual) else "R unknown",
        ]
        return "  ·  ".join(part for part in parts if part)

    def note(self) -> str:
        result = self.result
        n, modes = result.frame_px, result.probe.shape[0]
        parts = [f"{result.n_frames} frames of {n} × {n} px", f"{modes} probe mode{'s' if modes > 1 else ''}"]
        if result.pixel_size_m:
            aspect, width_nm = aspect_of(result), result.pixel_size_m * 1e9
            high = "" if aspect == 1 else f" wide, {aspect * width_nm:.4g} nm high"
            parts.append(f"pixel {width_nm:.4g} nm{high}")
        if "solve" in result.timings:
            parts.append(f"solved in {result.timings['solve']:.1f} s")
        if result.interrupted:
            parts.append("interrupted: the image as far as it got")
        grade = getattr(getattr(result, "verdict", None), "grade", "")
        if grade in ("doubtful", "failed"):
            parts.append(f"verdict: {grade}")
        return "  ·  ".join(parts)


def _shrunk(
    obj: np.ndarray, coverage: np.ndarray, slope: np.ndarray, factor: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return amplitude, field without a phase slope, and coverage, averaged over squares of pixels."""
    height, width = (side // factor for side in obj.shape)
    amplitude, light = np.empty((2, height, width), np.float32)
    flat = np.empty((height, width), np.complex128)
    whole = (slice(height * factor), slice(width * factor))
    for band in row_bands((height * factor, width * factor), multiple=factor):
        small = slice(band.start // factor, band.stop // factor)
        part = obj[whole][band]
        amplitude[small] = _averaged(np.abs(part), factor)
        light[small] = _averaged(coverage[whole][band], factor)
        flat[small] = _averaged(part * phase_ramp(obj.shape, -slope, band)[:, : part.shape[1]], factor)
    return amplitude, flat, light


def _averaged(image: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return image
    height, width = image.shape
    return image.reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
