"""NeXus and its relatives: NXtomo- and NXptycho-like trees, and the master files of Eiger detectors.

What a beamline writes varies, so names are looked for, not assumed: frames in a detector or data group, x and
y in one group, energy, distance and pixel wherever they stand. `--frames-key` and the like say it better.
"""

from __future__ import annotations

import h5py
import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io.formats.named import find_positions, find_probe
from ptycho_core.io.hdf5 import Hdf5, numbered, text_of
from ptycho_core.io.raw_scan import FoundPositions, RawScan, RequestedKeys
from ptycho_core.io.units import HC_EV_M
from ptycho_core.scan.lazy import ChainedSource, LazyFrames

__all__ = ["matches", "read"]

_ENERGY = ("energy", "incident_energy", "photon_energy", "incident_beam_energy")
_WAVELENGTH = ("wavelength", "incident_wavelength")
_DISTANCE = ("distance", "detector_distance")
_PIXEL = ("x_pixel_size", "y_pixel_size")
_MASK = ("pixel_mask",)
_IMAGE_KEY = "image_key"
_PAIRS = (
    ("sample_y", "sample_x"),
    ("samy", "samx"),
    ("position_y", "position_x"),
    ("positions_y", "positions_x"),
    ("y_translation", "x_translation"),
    ("ycoords", "xcoords"),
    ("y_set", "x_set"),
    ("pos_y", "pos_x"),
    ("y", "x"),
)
_TOGETHER = ("positions", "translation", "positions_px", "scan")


def matches(file: Hdf5) -> bool:
    """Whether some group at the top calls itself an entry."""
    for key in list(file.file)[:64]:
        group = file.group(key)
        if group is not None and (
            text_of(group.attrs.get("NX_class")) in ("NXentry", "NXsubentry") or key in ("entry", "entry1")
        ):
            return True
    return False


def _calls_itself_nexus(file: Hdf5) -> bool:
    groups = (file.group(key) for key in list(file.file)[:64])
    return any(group is not None and "NX_class" in group.attrs for group in groups)


def read(file: Hdf5, name: str, keys: RequestedKeys) -> RawScan:
    """Read a scan from wherever its parts stand.

    Raises:
        DataError: there are no frames, or several candidates; lists what is there.
    """
    items = file.datasets()
    frames_keys = _frames_keys(file, items, keys)
    sources = tuple(file.frames(file.required(key)) for key in frames_keys)
    if len({source.shape[1:] for source in sources}) != 1:
        raise DataError(
            f"{file.path.name}: the stacks of frames differ in size. Name one with `--frames-key`."
        )
    source = sources[0] if len(sources) == 1 else ChainedSource(sources)
    n_frames = source.shape[0]
    positions = _positions(file, items, keys, n_frames)
    probe = find_probe(file, keys) if keys.probe else _probe(file, items)
    frames, notes = LazyFrames(source), [f"The frames are `{frames_keys[0]}`"]
    notes[0] += f" and {len(frames_keys) - 1} more." if len(frames_keys) > 1 else "."
    values = None if positions is None else positions.values
    pictures = _pictures(file, items, n_frames)
    if pictures is not None:
        notes.append(
            f"{n_frames - pictures.size} flat and dark fields, which `{_IMAGE_KEY}` marks, were left out."
        )
        frames = frames.select(pictures)
        values = values[pictures] if values is not None and len(values) == n_frames else values
    if positions is not None:
        notes.append(positions.note)
    if file.growing and values is not None and values.ndim == 2:
        n_now = min(frames.shape[0], len(values))
        frames, values = frames.select(slice(0, n_now)), values[:n_now]
        notes.append(f"The file is still being written; {n_now} frames have their position now.")
    x_key, y_key = (next(iter(_ending(items, (one,))), one) for one in _PIXEL)
    pixel_m, aspect = file.detector_pixel(x_key, y_key)
    return RawScan(
        name=name,
        format="NeXus" if _calls_itself_nexus(file) else "HDF5, laid out as NeXus",
        frames=frames,
        positions_px=values,
        position_unit_m=None if positions is None else positions.unit_m,
        position_unit_open=positions is None or positions.open,
        probe=probe,
        bad_pixels=_bad_pixels(file, items, source.shape),
        energy_ev=_energy_ev(file, items),
        distance_m=file.length_m(*_ending(items, _DISTANCE)),
        detector_pixel_m=pixel_m,
        detector_aspect=aspect,
        source=file.path,
        notes=tuple(notes),
    )


def _ending(items: dict[str, h5py.Dataset], names: tuple[str, ...]) -> list[str]:
    """Return the data sets with one of these names, the nearest to the root first."""
    found = [key for key in items if key.rsplit("/", 1)[-1] in names]
    return sorted(found, key=lambda key: (names.index(key.rsplit("/", 1)[-1]), key.count("/"), key))


def _frames_keys(file: Hdf5, items: dict[str, h5py.Dataset], keys: RequestedKeys) -> list[str]:
    if keys.frames is not None:
        return [keys.frames]
    stacks = [
        key
        for key, item in items.items()
        if item.dtype.kind in "biuf" and item.ndim >= 3 and min(item.shape[-2:]) >= 8
    ]
    if len(stacks) == 1:
        return stacks
    detectors = [key for key in stacks if key.endswith(("/data", "/data_1"))]
    if len(detectors) == 1:
        return detectors
    groups = {key.rsplit("/", 1)[0] for key in stacks}
    if len(groups) == 1 and (ordered := numbered(stacks)):
        return ordered
    said = "no stack of frames was found" if not stacks else f"{len(stacks)} arrays could be the frames"
    raise DataError(f"{file.path.name}: {said}. {file.listing()}", finding="DATA-001")


def _positions(
    file: Hdf5, items: dict[str, h5py.Dataset], keys: RequestedKeys, n_frames: int
) -> FoundPositions | None:
    if keys.positions is not None:
        return find_positions(file, keys, "")
    for y_name, x_name in _PAIRS:
        for key in _ending(items, (y_name,)):
            other = key[: -len(y_name)] + x_name
            y, x = items[key], items.get(other)
            if x is None or n_frames < 2:
                continue
            axes = y.ndim == x.ndim == 1 and (y.size or 0) * (x.size or 0) == n_frames
            if axes or (y.size == x.size and (y.size or 0) >= n_frames):
                return find_positions(file, RequestedKeys(positions=f"{key},{other}"), "")
    for key in _ending(items, _TOGETHER):
        if items[key].ndim == 2 and n_frames in items[key].shape and 2 in items[key].shape:
            return find_positions(file, RequestedKeys(positions=key), "")
    return None


def _probe(file: Hdf5, items: dict[str, h5py.Dataset]) -> np.ndarray | None:
    found = [key for key in _ending(items, ("probe", "probeGuess")) if items[key].ndim >= 2]
    return file.read(items[found[0]]) if found else None


def _pictures(file: Hdf5, items: dict[str, h5py.Dataset], n_frames: int) -> np.ndarray | None:
    """NXtomo marks what each frame is: 0 is the sample, others are flat and dark fields."""
    for key in _ending(items, (_IMAGE_KEY,)):
        if items[key].shape == (n_frames,) and items[key].dtype.kind in "iu":
            chosen = np.flatnonzero(file.read(items[key]) == 0)
            return chosen if 0 < chosen.size < n_frames else None
    return None


def _bad_pixels(file: Hdf5, items: dict[str, h5py.Dataset], shape: tuple[int, ...]) -> np.ndarray | None:
    for key in _ending(items, _MASK):
        if items[key].shape == shape[1:] and items[key].dtype.kind in "biu":
            return file.read(items[key]) != 0
    return None


def _energy_ev(file: Hdf5, items: dict[str, h5py.Dataset]) -> float | None:
    energy = file.energy_ev(*_ending(items, _ENERGY))
    if energy is not None:
        return energy
    for key in _ending(items, _WAVELENGTH):
        found = file.number(key)
        # NeXus counts wavelengths in angstrom where it does not say otherwise.
        wavelength = file.length_m(key)
        if found is not None and wavelength is not None:
            metres = wavelength if found[1] or found[0] < 1e-6 else found[0] * 1e-10
            return HC_EV_M / metres
    return None
