"""What the pictures of an object share: the seen part, prepared once."""

from __future__ import annotations

import math

import numpy as np

from ptycho_core.figures.display import covered_box, covered_region, phase_without_ramp, robust_limits
from ptycho_core.reconstruction import Reconstruction

__all__ = ["LABELS", "ObjectView"]

#: What the grey values are.
LABELS = {"amplitude": "relative amplitude", "phase": "rad"}


class ObjectView:
    """The well-lit part of an object as amplitude and phase, with the grey values that suit it.

    Attributes:
        images: `amplitude` and `phase` in radians, (H, W) float32 each; NaN where no frame looks.
        limits: the values that are black and white.
    """

    def __init__(
        self,
        reconstruction: Reconstruction,
        phase_limits_rad: tuple[float | None, float | None] = (None, None),
    ) -> None:
        self.result = reconstruction
        seen = covered_region(reconstruction.coverage)
        box = covered_box(seen)
        self.seen = seen[box]
        obj = reconstruction.object[box]
        self.coverage = reconstruction.coverage[box]
        self.images = {"amplitude": np.abs(obj), "phase": phase_without_ramp(obj, self.seen)}
        # The rim is shown fainter coverage included, but the limits are those of the well-lit part.
        self.limits = {name: robust_limits(image[self.seen]) for name, image in self.images.items()}
        lowest, highest = self.limits["phase"]
        black, white = phase_limits_rad
        self.limits["phase"] = (lowest if black is None else black, highest if white is None else white)
        dark = covered_region(self.coverage, fraction=0.02)
        self.images = {name: np.where(dark, image, np.nan) for name, image in self.images.items()}

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
            parts.append(f"pixel {result.pixel_size_m * 1e9:.4g} nm")
        if "solve" in result.timings:
            parts.append(f"solved in {result.timings['solve']:.1f} s")
        if result.interrupted:
            parts.append("interrupted: the image as far as it got")
        return "  ·  ".join(parts)
