"""What PtychoShelves and fold_slice prepare: `dp`, `ppX`, `ppY`, `lambda` and `z`, in one file or in two.

`dp` are intensities. X rays have lengths in metres; electrons have wavelength, pixel and positions in
angstrom. The positions may stand in a file of their own, `..._para.hdf5` beside `..._dp.hdf5`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ptycho_core.io.formats import named
from ptycho_core.io.hdf5 import Hdf5, opened, translated
from ptycho_core.io.raw_scan import RawScan, RequestedKeys
from ptycho_core.io.units import HC_EV_M

__all__ = ["matches", "read"]

_FRAMES = "dp"
_ANGSTROM_M = 1e-10
#: A wavelength that is larger than this is no number of metres.
_LARGEST_WAVELENGTH_M = 1e-6
#: No pixel of an object that X rays are diffracted by is so large, and none of a detector smaller.
_SMALLEST_DETECTOR_PIXEL_M = 2e-6


def matches(file: Hdf5) -> bool:
    """Whether the frames have the name of fold_slice, and the positions too, here or in the file beside."""
    if file.dataset(_FRAMES) is None:
        return False
    return file.dataset("ppX") is not None or _beside(file.path) is not None


def read(file: Hdf5, name: str, keys: RequestedKeys) -> RawScan:
    """Read frames, positions and lengths.

    Raises:
        DataError: there are no frames, or the file beside is damaged.
    """
    raw = named.read(file, name, keys)
    wavelength, distance_m, positions = file.number("lambda"), file.length_m("z"), None
    pixel = file.number("dx", "dx_spec")
    where = _beside(file.path)
    if where is not None:
        with opened(where) as other, translated(where.name):
            if raw.positions_px is None and not keys.positions_elsewhere:
                positions = named.find_positions(other, RequestedKeys(positions=keys.positions), "")
            wavelength, pixel = wavelength or other.number("lambda"), pixel or other.number("dx", "dx_spec")
            distance_m = distance_m or other.length_m("z")
    if positions is not None and where is not None:
        raw = raw.at(positions, f"From {where.name}: {positions.note}")
    length_m = 1.0
    notes: tuple[str, ...] = ()
    if wavelength is not None and wavelength[1] is None and wavelength[0] > _LARGEST_WAVELENGTH_M:
        length_m = _ANGSTROM_M
        notes = (f"`lambda` is {wavelength[0]:.4g}: lengths are taken for angstrom, as electrons have them.",)
    # Both the object's pixel and the detector's are called `dx`; only X rays in metres leave that open.
    of_object, of_detector = None if pixel is None or pixel[0] <= 0 else pixel[0] * length_m, None
    if of_object is not None and of_object >= _SMALLEST_DETECTOR_PIXEL_M and wavelength and distance_m:
        of_object, of_detector = None, of_object
        notes = (f"`dx` is {of_detector:.4g} m, which a pixel of the detector has: it is taken for that.",)
    return replace(
        raw,
        format="fold_slice",
        position_unit_m=None if raw.position_unit_m is None else raw.position_unit_m * length_m,
        energy_ev=raw.energy_ev
        if wavelength is None or wavelength[0] <= 0
        else HC_EV_M / (wavelength[0] * length_m),
        distance_m=raw.distance_m or distance_m,
        pixel_size_m=of_object or raw.pixel_size_m,
        detector_pixel_m=raw.detector_pixel_m or of_detector,
        electrons=length_m != 1.0,
        notes=(*raw.notes, *notes),
    )


def _beside(path: Path) -> Path | None:
    """Return the file with the positions of `..._dp.hdf5`."""
    if not path.stem.endswith("_dp"):
        return None
    other = path.with_name(f"{path.stem.removesuffix('_dp')}_para{path.suffix}")
    return other if other.is_file() else None
