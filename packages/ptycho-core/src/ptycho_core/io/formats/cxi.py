"""CXI 1.6, the format of the Coherent X-ray Imaging Data Bank.

Entries are numbered (`entry_1`), and so are the detectors of an instrument. Lengths are metres, energies
joules. A mask is a word of flags for each pixel. `translation` is (M, 3), x, y and z; it is read as the place
of the probe in the sample's frame, with the axes of the detector, which is how Ptychodus writes it.

Where a detector has `basis_vectors`, they say what its axes are: the steps in the laboratory, in metres, from
a pixel to the next row and to the next column, where z runs along the beam and y up. `translation` is then
that of the sample in the laboratory, so the probe moves the other way over the sample (F. R. N. C. Maia,
Nature Methods 9 (2012) 854, and the format's description, "Raster orientation"). The rows of a usual detector
run down and its columns to -x, for which both readings agree.
"""

from __future__ import annotations

import h5py
import numpy as np
from jaxtyping import Float64

from ptycho_config.errors import DataError
from ptycho_core.io.formats.named import find_positions
from ptycho_core.io.hdf5 import Hdf5, text_of
from ptycho_core.io.raw_scan import RawScan, RequestedKeys
from ptycho_core.io.units import HC_EV_M
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["matches", "read"]

# Invalid, saturated, hot, dead, shadowed, to be ignored, bad, missing; the other flags say nothing bad.
_BAD_FLAGS = 0x2DF
_MOST = 16  # entries, detectors
_LARGEST_TILT_DEG = 10.0  # beyond it, equal pixels are no equal steps of the frequency
_LARGEST_SKEW_DEG = 0.5
_TRANSLATIONS = ("sample_1/geometry_1/translation", "sample_1/geometry/translation", "data_1/translation")
_PROBES = ("instrument_1/source_1/illumination", "data_1/probe", "sample_1/probe")


def matches(file: Hdf5) -> bool:
    """Whether the file says that it is CXI, or is built like one."""
    return file.dataset("cxi_version") is not None or file.group("entry_1/instrument_1") is not None


def read(file: Hdf5, name: str, keys: RequestedKeys) -> RawScan:
    """Read one detector of one entry.

    Raises:
        DataError: there is no stack of frames.
    """
    key, frames, others = _frames(file, keys)
    entry = key.split("/")[0]
    detector = key.rsplit("/", 1)[0]
    if file.group(f"{detector}/") is None or file.dataset(f"{detector}/distance") is None:
        detector = f"{entry}/instrument_1/detector_1"
    basis = _basis_vectors(file, detector, name)
    positions, unit_m, note = _positions(file, entry, detector, keys, basis)
    probe_key = keys.probe or next(
        (f"{entry}/{one}" for one in _PROBES if file.dataset(f"{entry}/{one}") is not None), None
    )
    version = file.number("cxi_version")
    pixel_m, aspect = file.detector_pixel(f"{detector}/x_pixel_size", f"{detector}/y_pixel_size")
    if basis is not None:
        height_m, pixel_m = (float(step) for step in np.linalg.norm(basis, axis=1))
        aspect = height_m / pixel_m
    notes = [f"The frames are `{key}`.", note]
    if others:
        notes.append(
            f"Other detectors are there, for `--frames-key`: {', '.join(f'`{one}`' for one in others)}."
        )
    return RawScan(
        name=name,
        format="CXI" if version is None else f"CXI {version[0] / 100:.4g}",
        frames=LazyFrames(file.frames(frames)),
        positions_px=positions,
        position_unit_m=unit_m,
        position_unit_open=False,
        probe=None if probe_key is None else file.read(file.required(probe_key)),
        bad_pixels=_bad_pixels(file, detector),
        energy_ev=_energy_ev(file, entry),
        distance_m=file.length_m(f"{detector}/distance"),
        detector_pixel_m=pixel_m,
        detector_aspect=aspect,
        declared_dc=_declared_dc(file, frames, key),
        source=file.path,
        notes=tuple(one for one in notes if one),
    )


def _frames(file: Hdf5, keys: RequestedKeys) -> tuple[str, h5py.Dataset, list[str]]:
    """Choose a stack: the one named, else the far field's, which is the farthest detector."""
    if keys.frames is not None:
        return keys.frames.strip("/"), file.required(keys.frames), []
    found: list[tuple[bool, float, str, h5py.Dataset]] = []
    for entry in range(1, _MOST):
        for detector in range(1, _MOST):
            where = f"entry_{entry}/instrument_1/detector_{detector}"
            item = file.dataset(f"{where}/data")
            if item is not None and item.ndim >= 3:
                near = _is_near_field(file, where)
                found.append((near, -(file.length_m(f"{where}/distance") or 0.0), f"{where}/data", item))
    if not found:
        for entry in range(1, _MOST):
            for key in (f"entry_{entry}/data_1/data", f"entry_{entry}/image_1/data"):
                item = file.dataset(key)
                if item is not None and item.ndim >= 3 and item.dtype.kind in "biuf":
                    return key, item, []
        raise DataError(f"{file.path.name}: no detector with frames was found. {file.listing()}")
    found.sort(key=lambda one: one[:2])
    _, _, key, item = found[0]
    return key, item, [other for _, _, other, _ in found[1:]]


def _is_near_field(file: Hdf5, where: str) -> bool:
    """Whether a detector says, in its name or description, that it took near-field images."""
    group = file.group(where)
    said = [] if group is None else [text_of(value) for _, value in list(group.attrs.items())[:32]]
    for key in ("name", "description", "data_space", "data_type"):
        item = file.dataset(f"{where}/{key}")
        if item is not None and item.shape == () and h5py.check_string_dtype(item.dtype):
            said.append(text_of(item[()]))
    return any("near" in text.lower() for text in said)


def _basis_vectors(file: Hdf5, detector: str, name: str) -> Float64[np.ndarray, "axis 2"] | None:
    """Read what a step to the next row and to the next column is in (x, y), in metres.

    Raises:
        DataError: they are no two vectors, not perpendicular to each other, or far from perpendicular to the
            beam.
    """
    key = f"{detector}/basis_vectors"
    values = file.array(key)
    if values is None:
        return None
    if values.shape not in ((2, 3), (3, 2)) or values.dtype.kind not in "iuf":
        raise DataError(
            f"{name}: `{key}` has shape {values.shape} and type {values.dtype}. Expected two vectors of x, "
            "y, z in metres, as (2, 3) or (3, 2).",
            finding="DATA-001",
        )
    rows = np.asarray(values if values.shape == (2, 3) else values.T, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    if not (np.isfinite(rows).all() and lengths.min() > 0):
        raise DataError(f"{name}: `{key}` has a vector that is zero or not finite.", finding="DATA-001")
    directions = rows / lengths[:, np.newaxis]
    tilt = float(np.abs(directions[:, 2]).max())
    if tilt > np.sin(np.radians(_LARGEST_TILT_DEG)):
        raise DataError(
            f"{name}: by `{key}` the detector is tilted against the beam by "
            f"{np.degrees(np.arcsin(tilt)):.3g} degrees. Expected at most {_LARGEST_TILT_DEG:g}; resample "
            "the frames to a plane perpendicular to the beam.",
            finding="DATA-001",
        )
    across = directions[:, :2] / np.linalg.norm(directions[:, :2], axis=1)[:, np.newaxis]
    skew = abs(float(across[0] @ across[1]))
    if skew > np.sin(np.radians(_LARGEST_SKEW_DEG)):
        raise DataError(
            f"{name}: by `{key}` rows and columns meet at {np.degrees(np.arccos(skew)):.3g} degrees. "
            "Expected perpendicular ones; resample the frames to perpendicular axes.",
            finding="DATA-001",
        )
    return rows[:, :2]


def _positions(
    file: Hdf5,
    entry: str,
    detector: str,
    keys: RequestedKeys,
    basis: Float64[np.ndarray, "axis 2"] | None,
) -> tuple[np.ndarray | None, float | None, str]:
    if keys.positions is not None:
        named = find_positions(file, keys, "")
        if named is None:
            return None, None, ""
        return named.values, named.unit_m or (1.0 if named.open else None), named.note
    for key in (*(f"{entry}/{one}" for one in _TRANSLATIONS), f"{detector}/translation"):
        values = file.array(key)
        if values is None:
            continue
        if values.ndim == 2 and values.shape[0] in (2, 3) and values.shape[1] not in (2, 3):
            values = values.T
        if values.ndim != 2 or values.shape[1] not in (2, 3):
            raise DataError(
                f"{file.path.name}: `{key}` has shape {values.shape}. Expected (frames, 3), in metres.",
                finding="DATA-001",
            )
        if basis is not None:
            directions = basis / np.linalg.norm(basis, axis=1)[:, np.newaxis]
            note = (
                f"The positions are `{key}`, the sample's in the laboratory, turned to the axes of the "
                "detector by its `basis_vectors`; the probe moves the other way."
            )
            return -(values[:, :2] @ directions.T), 1.0, note
        note = f"The positions are `{key}`, (x, y, z) in metres, with the axes of the detector (assumed)."
        return np.stack([values[:, 1], values[:, 0]], axis=1), 1.0, note
    return None, None, ""


def _bad_pixels(file: Hdf5, detector: str) -> np.ndarray | None:
    flags = file.array(f"{detector}/mask")
    if flags is None:
        return None
    if flags.dtype.kind == "b":
        return flags
    if flags.dtype.kind not in "iu":
        raise DataError(f"{file.path.name}: `{detector}/mask` is {flags.dtype}. Expected whole numbers.")
    return (flags & flags.dtype.type(_BAD_FLAGS & np.iinfo(flags.dtype).max)) != 0


def _energy_ev(file: Hdf5, entry: str) -> float | None:
    where = f"{entry}/instrument_1/source_1"
    energy = file.energy_ev(f"{where}/energy")
    if energy is not None:
        return energy
    wavelength = file.length_m(f"{where}/wavelength")
    return None if wavelength is None else HC_EV_M / wavelength


def _declared_dc(file: Hdf5, frames: h5py.Dataset, key: str):  # type: ignore[no-untyped-def]
    said = frames.attrs.get("is_fft_shifted")
    if said is None:
        found = file.number(f"{key.rsplit('/', 1)[0]}/is_fft_shifted")
        said = None if found is None else found[0]
    if isinstance(said, bool | np.bool_ | int | float | np.number):
        # The word is the specification's: shifted means that the zero frequency was moved to the corner.
        return "corner" if said else None
    return None
