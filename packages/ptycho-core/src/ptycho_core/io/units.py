"""Lengths and energies in beamline files: metres, electronvolts, and positions in object pixels."""

from __future__ import annotations

import numpy as np

from ptycho_config.errors import DataError

__all__ = [
    "electron_wavelength_m",
    "energy_in_ev",
    "length_factor",
    "metres_to_pixels",
    "object_pixel_m",
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


def electron_wavelength_m(volts: float) -> float:
    """Return the relativistic wavelength of electrons that a voltage has accelerated.

    h / sqrt(2 m e U (1 + e U / (2 m c^2))), L. de Broglie, Ann. de Physique 10 (1925) 22.
    """
    rest_energy_ev = 510998.95
    return HC_EV_M / np.sqrt(volts * (volts + 2 * rest_energy_ev))


def object_pixel_m(
    *, energy_ev: float | None, distance_m: float | None, detector_pixel_m: float | None, frame_px: int
) -> float | None:
    """Return the side of an object pixel, wavelength x distance / (N x detector pixel), if it is known."""
    if energy_ev is None or distance_m is None or detector_pixel_m is None:
        return None
    return wavelength_m(energy_ev) * distance_m / (frame_px * detector_pixel_m)


def metres_to_pixels(
    positions: np.ndarray, unit_m: float, pixel_size_m: float | None, name: str, *, pixel_aspect: float = 1.0
) -> np.ndarray:
    """Turn positions in a unit of `unit_m` metres into object pixels.

    Args:
        pixel_aspect: height of a pixel over its width, which is `pixel_size_m`.

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
    return positions * (unit_m / pixel_size_m) / np.array([pixel_aspect, 1.0])


#: Positions are whole multiples of 1 / 2^24 px. Far below that lies the rounding of a change of units, which
#: must not decide on which side of a boundary a frame lies: the same scan in metres gives the same image.
_STEPS_PER_PX = 2.0**24


def on_grid(positions_px: np.ndarray) -> np.ndarray:
    """Round positions so that those of the same scan in other units are the same to the bit."""
    return np.round(positions_px * _STEPS_PER_PX) / _STEPS_PER_PX
