"""The live picture: phase beside amplitude, drawn in a few milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import Complex64, Float32, UInt8

from ptycho_core.figures.display import covered_box, covered_region, phase_without_ramp, robust_limits
from ptycho_core.files import atomic_path

__all__ = ["draw_live", "live_picture"]

_GAP_PX, _LARGEST_PX = 6, 1024
_PAPER, _DARK = 255, 40


def live_picture(
    obj: Complex64[np.ndarray, "height width"], coverage: Float32[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "rows columns"]:
    """Return grey values: left the phase without its ramp, right the amplitude; what is unseen is dark."""
    seen = covered_region(coverage, 0.02)
    box = covered_box(seen)
    step = max(1, -(-max(obj[box].shape) // _LARGEST_PX))
    inner = (slice(box[0].start, box[0].stop, step), slice(box[1].start, box[1].stop, step))
    part, seen_part = np.ascontiguousarray(obj[inner]), np.ascontiguousarray(seen[inner])
    phase, amplitude = phase_without_ramp(part, seen_part), np.abs(part)
    gap = np.full((len(part), _GAP_PX), _PAPER, np.uint8)
    return np.concatenate([_grey(phase, seen_part), gap, _grey(amplitude, seen_part)], axis=1)


def draw_live(path: Path, picture: UInt8[np.ndarray, "rows columns"]) -> Path:
    """Write a picture as PNG in the place of the one before; whoever looks sees one or the other, whole.

    Raises:
        OutputError: the directory cannot be written or the disk is full.
    """
    with atomic_path(path, lasting=False) as temporary:
        # Not by way of matplotlib, which makes four colours of the grey values first.
        PIL.Image.fromarray(picture).save(temporary, format="png", compress_level=1)
    return path


def _grey(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    low, high = robust_limits(values[seen]) if seen.any() else (0.0, 1.0)
    grey = np.clip((values - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    grey[~seen] = _DARK
    return grey
