"""The object's pixel, and the positions counted in it."""

from __future__ import annotations

import numpy as np

from ptycho_core.io.geometry import Geometry, turned_positions
from ptycho_core.io.offered import Arrays
from ptycho_core.io.units import metres_to_pixels, object_pixel_m
from ptycho_core.io.values import LARGEST_EXTENT_IN_METRES, require_sound_positions, warn

__all__ = ["object_pixel_size_m", "object_positions_px", "on_grid"]

#: Positions are whole multiples of 1 / 2^24 px. Far below that lies the rounding of a change of units, which
#: must not decide on which side of a boundary a frame lies: the same scan in metres gives the same image.
_STEPS_PER_PX = 2.0**24


def object_pixel_size_m(arrays: Arrays, frame_px: int, notes: list[str]) -> float | None:
    """Return the object's pixel: what somebody said, else what energy, distance and detector give."""
    follows = object_pixel_m(
        energy_ev=arrays.energy_ev,
        distance_m=arrays.distance_m,
        detector_pixel_m=arrays.detector_pixel_m,
        frame_px=frame_px,
    )
    known = arrays.pixel_size_m
    if follows is None:
        return known
    if known is None:
        notes.append(
            f"A pixel of the object is {follows:.4g} m, "
            f"wavelength x distance / ({frame_px} x detector pixel)."
        )
        return follows
    if abs(follows / known - 1) > 0.01:
        warn(
            f"{arrays.name}: the object's pixel is said to be {known:.4g} m, while energy, distance and "
            f"detector pixel give {follows:.4g} m. The first is used.",
            finding="DATA-001",
        )
    return known


def object_positions_px(
    arrays: Arrays,
    positions: np.ndarray,
    geometry: Geometry,
    pixel_size_m: float | None,
    frame_px: int,
    notes: list[str],
) -> tuple[np.ndarray, float]:
    """Bring the positions to object pixels in the index convention, turned as asked, on a fine grid.

    Returns:
        The positions, and how many object pixels one unit of the positions as stored is.
    """
    unit_m = arrays.position_unit_m
    if unit_m is None and arrays.position_unit_open and pixel_size_m is not None and len(positions) > 1:
        extent = float(np.max(np.ptp(positions, axis=0)))
        if 0 < extent < LARGEST_EXTENT_IN_METRES:
            notes.append(f"The positions span {extent:.3g} and are taken for metres.")
            unit_m = 1.0
    if unit_m is not None:
        positions = metres_to_pixels(positions, unit_m, pixel_size_m, arrays.name)
        notes.append(f"Positions were divided by the object's pixel, {pixel_size_m:.4g} m.")
        scale = unit_m / pixel_size_m if pixel_size_m else 1.0
    else:
        scale = arrays.position_scale
        positions = positions * scale
    if geometry.positions_orientation != "as-is":
        positions = turned_positions(positions, geometry.positions_orientation)
        notes.append(f"The positions were turned ({geometry.positions_orientation}).")
    require_sound_positions(positions, frame_px, arrays.name)
    if arrays.position_convention == "center":
        positions = positions + 0.5
        notes.append(
            "Positions counted pixel centres; half a pixel was added so that index N/2 sits on them."
        )
    return on_grid(positions), scale


def on_grid(positions_px: np.ndarray) -> np.ndarray:
    """Round positions so that those of the same scan in other units are the same to the bit."""
    return np.round(positions_px * _STEPS_PER_PX) / _STEPS_PER_PX
