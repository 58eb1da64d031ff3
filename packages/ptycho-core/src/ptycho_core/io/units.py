"""Lengths and energies in beamline files: metres, electronvolts, and positions in object pixels."""

from __future__ import annotations

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io.frame_values import LARGEST_EXTENT_IN_METRES, require_sound_positions, warn
from ptycho_core.io.geometry import Geometry, turned_positions
from ptycho_core.io.raw_scan import Arrays

__all__ = [
    "energy_in_ev",
    "length_factor",
    "object_pixel_m",
    "object_pixel_size_m",
    "object_positions_px",
    "on_grid",
    "wavelength_m",
]

HC_EV_M = 1.23984198433e-6  # Planck's constant times the speed of light
JOULE_PER_EV = 1.602176634e-19
_LENGTHS = {
    "m": 1.0,
    "meter": 1.0,
    "metre": 1.0,
    "meters": 1.0,
    "metres": 1.0,
    "mm": 1e-3,
    "millimeter": 1e-3,
    "um": 1e-6,
    "µm": 1e-6,
    "μm": 1e-6,
    "micron": 1e-6,
    "microns": 1e-6,
    "micrometer": 1e-6,
    "nm": 1e-9,
    "nanometer": 1e-9,
    "angstrom": 1e-10,
    "a": 1e-10,
}
_ENERGIES = {"ev": 1.0, "kev": 1e3, "mev": 1e6, "j": 1 / JOULE_PER_EV, "joule": 1 / JOULE_PER_EV}
_LARGEST_KEV = 100.0
_LARGEST_JOULE = 1e-10


def length_factor(unit: str | None) -> float | None:
    """Return how many metres a unit is, None where the word is no length."""
    return None if unit is None else _LENGTHS.get(unit.strip().lower())


def energy_in_ev(value: float, unit: str | None) -> float:
    """Turn an energy into electronvolts; without a unit, by its size: joules, keV or eV."""
    factor = _ENERGIES.get(unit.strip().lower()) if unit else None
    if factor is None:
        factor = 1.0
        if value < _LARGEST_JOULE:
            factor = 1 / JOULE_PER_EV
        elif value < _LARGEST_KEV:
            factor = 1e3
    return value * factor


def wavelength_m(energy_ev: float) -> float:
    """Return the wavelength of a photon."""
    return HC_EV_M / energy_ev


def object_pixel_m(
    *, energy_ev: float | None, distance_m: float | None, detector_pixel_m: float | None, frame_px: int
) -> float | None:
    """Return the side of an object pixel, wavelength x distance / (N x detector pixel), if it is known."""
    if energy_ev is None or distance_m is None or detector_pixel_m is None:
        return None
    return wavelength_m(energy_ev) * distance_m / (frame_px * detector_pixel_m)


def metres_to_pixels(
    positions: np.ndarray, unit_m: float, pixel_size_m: float | None, name: str
) -> np.ndarray:
    """Turn positions in a unit of `unit_m` metres into object pixels.

    Raises:
        DataError: the object's pixel is not known.
    """
    if pixel_size_m is None:
        raise DataError(
            f"{name}: the positions are lengths, and the object's pixel is not known. Expected "
            "`--pixel-size-m`, or `--energy-ev`, `--distance-m` and `--detector-pixel-m`, from which it "
            "follows: wavelength x distance / (N x detector pixel).",
            finding="DATA-001",
        )
    return positions * (unit_m / pixel_size_m)


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
