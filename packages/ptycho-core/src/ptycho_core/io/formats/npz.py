"""NPZ: which names stand for what, and how an archive becomes a raw scan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.frame_values import warn
from ptycho_core.io.layout import pair_coordinates, require_real_numbers
from ptycho_core.io.npz import Archive
from ptycho_core.io.raw_scan import (
    INTENSITIES,
    IS_0_BAD,
    NOT_0_IS_BAD,
    RawScan,
    RequestedKeys,
    declared_by_name,
)
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.survey import frame_chunks

__all__ = ["find_positions", "find_probe", "read"]

FRAMES = ("diff3d", "diffraction")
FRAMES_ALSO = ("data", *INTENSITIES)
POSITIONS_X, POSITIONS_Y = "xcoords", "ycoords"
POSITIONS_YX = ("scan", "positions_px")
PROBE = ("probeGuess", "probe")
GROUND_TRUTH = "objectGuess"
PATCH_TRUTH = ("Y", "label")
BAD_PIXELS = "bad_pixels"
GOOD_PIXELS = "mask"
METADATA = "_metadata"
_LARGEST_NUMBER = 1e300  # a whole number of JSON may be larger than any float

KNOWN_NAMES = (
    "frames `diff3d`, `diffraction`, `data` or `intensities`; positions `xcoords` and `ycoords`, or `scan` "
    "as (y, x); probe `probeGuess` or `probe`; optional `objectGuess`, `Y`, `label`, `bad_pixels`, `mask`"
)


def read(archive: Archive, name: str, keys: RequestedKeys | None = None) -> RawScan:
    """Read a scan by the names of its arrays. Frames are opened, everything else is read.

    Args:
        keys: names that go before the known ones.

    Raises:
        DataError: a required key is missing, damaged or pickled, or two keys contradict each other.
    """
    metadata = _read_metadata(archive, name)
    physical = metadata.get("physics_parameters")
    physical = physical if isinstance(physical, dict) else {}
    keys = keys or RequestedKeys()
    frames_key = _frames_key(archive) if keys.frames is None else _named(archive, keys.frames)
    convention, declared = _conventions(archive, metadata, physical)
    probe_key = _first(archive, PROBE) if keys.probe is None else _named(archive, keys.probe)
    patch_key = _first(archive, PATCH_TRUTH)
    raw = RawScan(
        name=name,
        frames=archive.open(frames_key),
        positions_px=_positions(archive, keys.positions, positions_elsewhere=keys.positions_elsewhere),
        probe=None if probe_key is None else archive.read(probe_key),
        bad_pixels=_bad_pixels(archive),
        mask_convention=IS_0_BAD if GOOD_PIXELS in archive.members else NOT_0_IS_BAD,
        position_convention=convention,
        ground_truth=archive.read(GROUND_TRUTH) if GROUND_TRUTH in archive.members else None,
        patch_truth=None if patch_key is None else archive.read(patch_key),
        pixel_size_m=_positive(physical, "pixel_size_m"),
        detector_pixel_m=_positive(physical, "detector_pixel_m"),
        detector_aspect=1 / (_positive(physical, "pixel_aspect") or 1.0),
        energy_ev=_positive(physical, "energy_ev"),
        distance_m=_positive(physical, "distance_m"),
        nphotons=_positive(physical, "nphotons"),
        metadata=metadata,
        source=archive.path,
        declared_measurement=declared or declared_by_name(frames_key),
        declared_dc=said_dc if (said_dc := physical.get("dc")) in ("center", "corner") else None,
    )
    _require_equal_aliases(archive, frames_key, raw.frames, name)
    if archive.is_unchecked(frames_key):
        return replace(raw, checksum=archive.checksum(frames_key))
    return raw


def find_probe(archive: Archive) -> np.ndarray:
    """Read the probe of an archive that need hold nothing else.

    Raises:
        DataError: there is none.
    """
    key = _first(archive, PROBE)
    if key is None:
        raise DataError(_missing(archive, "the probe, `probeGuess` or `probe`"), finding="DATA-001")
    return archive.read(key)


def _first(archive: Archive, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in archive.members), None)


def _missing(archive: Archive, what: str) -> str:
    found = ", ".join(f"`{excerpt(key, 40)}` {member.shape}" for key, member in archive.members.items())
    found = excerpt(found, 400) or "nothing"
    return f"{archive.path.name}: {what} is missing. Found {found}. Known names: {KNOWN_NAMES}."


def _frames_key(archive: Archive) -> str:
    key = _first(archive, (*FRAMES, *FRAMES_ALSO))
    if key is None:
        raise DataError(_missing(archive, "the diffraction, `diff3d`,"), finding="DATA-001")
    return key


def find_positions(archive: Archive, key: str | None) -> np.ndarray:
    """Read the positions of an archive that need hold nothing else, as (y, x).

    Raises:
        DataError: there are none.
    """
    if key is not None:
        names = [_named(archive, part.strip()) for part in key.split(",") if part.strip()]
        if len(names) == 2:
            return pair_coordinates(archive.read(names[1]), archive.read(names[0]), archive.path.name)
        return archive.read(names[0] if names else _named(archive, key))
    return _known_positions(archive)


def _named(archive: Archive, key: str) -> str:
    if key in archive.members:
        return key
    raise DataError(_missing(archive, f"`{excerpt(key, 40)}`, which was asked for,"), finding="DATA-001")


def _positions(archive: Archive, key: str | None, *, positions_elsewhere: bool) -> np.ndarray | None:
    return None if positions_elsewhere else find_positions(archive, key)


def _known_positions(archive: Archive) -> np.ndarray:
    have_x, have_y = POSITIONS_X in archive.members, POSITIONS_Y in archive.members
    if have_x and have_y:
        return pair_coordinates(archive.read(POSITIONS_X), archive.read(POSITIONS_Y), archive.path.name)
    key = _first(archive, POSITIONS_YX)
    if key is not None and not (have_x or have_y):
        return archive.read(key)
    absent = POSITIONS_Y if have_x else POSITIONS_X
    raise DataError(_missing(archive, f"the array of positions `{absent}`"), finding="DATA-001")


def _bad_pixels(archive: Archive) -> np.ndarray | None:
    bad = _flags(archive, BAD_PIXELS)
    good = _flags(archive, GOOD_PIXELS)
    if bad is None or good is None:
        return ~good if good is not None else bad
    if bad.shape != good.shape:
        raise DataError(
            f"{archive.path.name}: `{BAD_PIXELS}` {bad.shape} and `{GOOD_PIXELS}` {good.shape} have "
            "different shapes. Expected one of them, or equal shapes.",
            finding="DATA-001",
        )
    return bad | ~good


def _flags(archive: Archive, key: str) -> np.ndarray | None:
    if key not in archive.members:
        return None
    flags = archive.read(key)
    require_real_numbers(flags, archive.path.name, f"the mask of pixels `{key}`")
    return flags != 0


def _require_equal_aliases(archive: Archive, key: str, frames: np.ndarray | LazyFrames, name: str) -> None:
    """Two names for the frames are fine as long as they say the same."""
    other_key = next((other for other in FRAMES if other != key and other in archive.members), None)
    if key not in FRAMES or other_key is None:
        return
    other = archive.open(other_key)
    equal = frames.shape == other.shape and frames.ndim > 0 and frames.dtype.kind not in "US"
    if equal:
        rows = max(1, frames.shape[0])
        equal = all(
            np.array_equal(
                frames[chunk], other[chunk], equal_nan=frames.dtype.kind == other.dtype.kind == "f"
            )
            for chunk in frame_chunks(frames.shape[0], frames.nbytes // rows)
        )
    if not equal:
        raise DataError(
            f"{name}: `{key}` {frames.shape} and `{other_key}` {other.shape} are two names for the "
            "diffraction and differ. Expected one of them; remove the other.",
            finding="DATA-001",
        )


def _conventions(
    archive: Archive, metadata: Mapping[str, Any], physical: Mapping[str, Any]
) -> tuple[Literal["index", "center"], tuple[Literal["amplitude", "counts"], str] | None]:
    """Find what the file's author says about positions and values, in the metadata or by a known habit."""
    convention: Literal["index", "center"] = (
        "center" if physical.get("position_convention") == "center" else "index"
    )
    said = physical.get("measurement")
    if said in ("amplitude", "counts"):
        return convention, ("counts" if said == "counts" else "amplitude", "the file's metadata says so")
    if BAD_PIXELS in archive.members and not metadata:
        # Ptychodus 1.7 is the one program that writes this key; it exports counts and counts pixel centres.
        return "center", ("counts", "files of Ptychodus 1.7, known by the key `bad_pixels`, hold counts")
    return convention, None


def _positive(physical: Mapping[str, Any], key: str) -> float | None:
    value = physical.get(key)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _LARGEST_NUMBER
    return float(value) if usable else None  # type: ignore[arg-type]


def _read_metadata(archive: Archive, name: str) -> dict[str, Any]:
    """Read the JSON text under `_metadata`; anything else there is skipped with a warning."""
    member = archive.members.get(METADATA)
    if member is None:
        return {}
    if member.holds_objects:
        warn(
            f"{name}: `_metadata` is a pickled object and is skipped, because unpickling runs code. In the "
            f"program that wrote it, store `numpy.array(json.dumps(metadata))` instead.",
            finding="DATA-001",
        )
        return {}
    try:
        array = archive.read(METADATA)
        text = array.reshape(-1)[0] if array.size == 1 and array.dtype.kind in "US" else None
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        metadata = json.loads(str(text))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        metadata = None
    if isinstance(metadata, dict):
        return metadata
    warn(f"{name}: `_metadata` is no JSON object and is skipped.", finding="DATA-001")
    return {}
