"""The HDF5 product file, by which Ptychodus and others exchange a reconstruction; and PtyPy's `.ptyr`.

Layout, names and units: docs/reference/physics.md, "Product files". Lengths are in metres there: a scan
coordinate of x px lies at x * pixel size, and the object's attributes `center_x_m`, `center_y_m` say which
physical point its middle is, so that the canvas origin survives the round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Complex64, Float64, Int64

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.plaintext import excerpt, plain
from ptycho_core.files import is_file
from ptycho_core.given import expect_path
from ptycho_core.io.hdf5 import Hdf5, HdfImage, opened, text_of, written_hdf5
from ptycho_core.physics.variations import ProbeVariations

PLACEHOLDER_PIXEL_M = 1e-9
_LONGEST_COMMENTS = 4000
#: Weights of the probe that differ by no more than this are of frames with the same intensity.
_SAME = 1e-6

# Names in the file; shape, dtype and unit beside each.
OBJECT = "object"  # (H, W) complex64; attributes center_{x,y}_m, pixel_{width,height}_m
OBJECT_SPACING = "object_layer_spacing_m"  # (L - 1,) float64, empty for a thin object
PROBE = "probe"  # (incoherent modes, N, N) complex64; attributes pixel_{width,height}_m
OPR_WEIGHTS = "opr_weights"  # (M, 1 + L) float64, where the probe varies and is (1 + L, modes, N, N)
POSITION_INDEXES = "probe_position_indexes"  # (M,) int64
POSITION_X, POSITION_Y = "probe_position_x_m", "probe_position_y_m"  # (M,) float64
VARYING_MODES = "incoherent_modes"  # ours, attribute of `opr_weights`: how many modes vary; 1 where missing
LOSS_VALUES, LOSS_EPOCHS = "loss_values", "loss_epochs"  # (E,) float64, (E,) int64
LOSS_VALUES_OLD = "costs"
PIXEL_IS_KNOWN = "pixel_size_is_known"  # ours: whether the pixel size is a measured one


@dataclass(frozen=True, eq=False, kw_only=True)
class Product:
    """What a product file holds, in our units.

    Attributes:
        obj: (H, W) object. probe: (P, N, N) incoherent modes.
        positions_px: (M, 2) scan coordinates (y, x). origin_px: scan coordinate of canvas pixel [0, 0].
        pixel_size_m, energy_ev, distance_m: None where the file does not know them.
        variations: of the probe from frame to frame (OPR), None where the file has none.
        frame_intensity: (M,) of mean 1, None where all frames have the same.
    """

    name: str
    comments: str
    obj: Complex64[np.ndarray, "height width"]
    probe: Complex64[np.ndarray, "mode n n"]
    positions_px: Float64[np.ndarray, "frame 2"]
    origin_px: Float64[np.ndarray, "2"]
    losses: tuple[float, ...]
    pixel_size_m: float | None
    energy_ev: float | None
    distance_m: float | None
    pixel_aspect: float = 1.0
    variations: ProbeVariations | None = None
    frame_intensity: Float64[np.ndarray, " frame"] | None = None


def write_product(
    path: str | Path,
    *,
    obj: Complex64[np.ndarray, "height width"],
    probe: Complex64[np.ndarray, "mode n n"],
    positions_px: Float64[np.ndarray, "frame 2"],
    origin_px: Float64[np.ndarray, "2"],
    name: str,
    comments: str = "",
    losses: Sequence[float] = (),
    pixel_size_m: float | None = None,
    pixel_aspect: float = 1.0,
    energy_ev: float | None = None,
    distance_m: float | None = None,
    frame_numbers: Int64[np.ndarray, " frame"] | None = None,
    variations: ProbeVariations | None = None,
    frame_intensity: Float64[np.ndarray, " frame"] | None = None,
) -> Path:
    """Write an object, its probe and the positions.

    Args:
        obj: may be mapped from a file; a large one is written without a copy in memory.
        positions_px: scan coordinates (y, x) of index N/2 of each probe window.
        origin_px: scan coordinate (y, x) of the centre of object pixel [0, 0].
        pixel_size_m, energy_ev, distance_m: where unknown, 1e-9 m and zeros are written, and `comments` says
            so.
        pixel_aspect: height of a pixel over its width.
        frame_numbers: number of each position's frame in the scan; 0, 1, ... when None.
        variations: of the probe from frame to frame (OPR), with weights of these frames.
        frame_intensity: (M,) of these frames, relative to the mean; it is kept as the weight of the probe.

    Raises:
        OutputError: the file could not be written.
    """
    pixel_m = PLACEHOLDER_PIXEL_M if pixel_size_m is None else pixel_size_m
    height_m = pixel_m * pixel_aspect
    positions_m = positions_px * (height_m, pixel_m)
    center_m = (origin_px + np.array(obj.shape) / 2) * (height_m, pixel_m)
    pixel = {"pixel_width_m": pixel_m, "pixel_height_m": height_m}
    centre = {"center_y_m": center_m[0], "center_x_m": center_m[1]}
    image = HdfImage(OBJECT, obj, attributes=pixel | centre)
    with written_hdf5(Path(path), images=(image,)) as file:
        file.attrs.update(
            {
                "name": plain(name),
                "comments": _with_unknowns(comments, pixel_size_m, energy_ev, distance_m),
                "detector_object_distance_m": distance_m or 0.0,
                "probe_energy_eV": energy_ev or 0.0,
                "exposure_time_s": 0.0,
                "probe_photon_count": float(np.sum(np.abs(probe).astype(np.float64) ** 2)),
                PIXEL_IS_KNOWN: pixel_size_m is not None,
            }
        )
        numbers = np.arange(len(positions_px)) if frame_numbers is None else frame_numbers
        file[POSITION_INDEXES] = numbers.astype(np.int64)
        file[POSITION_Y], file[POSITION_X] = positions_m[:, 0], positions_m[:, 1]
        weights = _opr_weights(variations, frame_intensity)
        if weights is None:
            file[PROBE] = probe
        else:
            shapes = [] if variations is None else [np.moveaxis(variations.shapes, 1, 0)]
            file[PROBE], file[OPR_WEIGHTS] = np.concatenate([probe[None], *shapes]), weights
            file[OPR_WEIGHTS].attrs[VARYING_MODES] = len(probe)
        file[PROBE].attrs.update(pixel)
        file[OBJECT_SPACING] = np.zeros(0)
        file[LOSS_VALUES] = np.asarray(losses, dtype=np.float64)
        file[LOSS_EPOCHS] = np.arange(len(losses), dtype=np.int64)
    return Path(path)


def _opr_weights(
    variations: ProbeVariations | None, frame_intensity: Float64[np.ndarray, " frame"] | None
) -> Float64[np.ndarray, "frame function"] | None:
    """Return the weights of probe and OPR modes in each frame; None where all frames have the same probe."""
    if variations is None:
        return None if frame_intensity is None else np.sqrt(frame_intensity)[:, None]
    weights = np.insert(variations.weights, 0, 1.0, axis=1)
    return weights if frame_intensity is None else weights * np.sqrt(frame_intensity)[:, None]


def _varied(
    file: Hdf5, probe: Complex64[np.ndarray, "function mode n n"], name: str
) -> tuple[Complex64[np.ndarray, "mode n n"], ProbeVariations | None, Float64[np.ndarray, " frame"] | None]:
    """Return probe, variations and intensity of a probe with coherent modes; the first alone without weights.

    The weight of the first is the root of a frame's intensity, whose mean goes to the probe. In files of
    other programs the weights are of the first incoherent mode alone: the others do not vary, whatever stands
    there (pty-chi leaves random numbers), but for the intensity, which is that of all light of a frame.
    """
    if file.dataset(OPR_WEIGHTS) is None:
        return probe[0], None, None
    weights = np.asarray(_array(file, OPR_WEIGHTS), np.float64)
    frames = file.required(POSITION_Y).shape[0]
    if weights.shape != (frames, len(probe)) or not np.isfinite(weights).all():
        raise DataError(
            f"{name}: `{OPR_WEIGHTS}` {weights.shape} for {frames} positions and `{PROBE}` {probe.shape}. "
            f"Expected ({frames}, {len(probe)}) finite weights."
        )
    first = weights[:, 0]
    usual = np.sqrt(np.mean(np.square(first)))
    if not usual > 0:
        raise DataError(f"{name}: `{OPR_WEIGHTS}` of the first coherent mode are not all above 0.")
    vary = np.arange(probe.shape[1]) < _varying_modes(file)
    probe = probe * np.where(vary, usual, 1).astype(np.float32)[:, None, None]
    probe[1:, ~vary] = 0
    if not (first > 0).all():  # no intensity: by how much the first mode is more or less there, it varies
        shapes = np.concatenate([probe[:1] * vary[:, None, None], probe[1:]])
        weights = np.concatenate([first[:, None] - usual, weights[:, 1:]], axis=1) / usual
        return probe[0], ProbeVariations(np.ascontiguousarray(np.moveaxis(shapes, 0, 1)), weights), None
    variations = None
    if len(probe) > 1:
        shapes = np.ascontiguousarray(np.moveaxis(probe[1:], 0, 1))
        variations = ProbeVariations(shapes, weights[:, 1:] / first[:, None])
    same = np.ptp(first) <= _SAME * usual
    return probe[0], variations, None if same else np.square(first / usual)


def _varying_modes(file: Hdf5) -> int:
    """Return how many incoherent modes of the probe have the weights of coherent modes, the first ones."""
    said = file.required(OPR_WEIGHTS).attrs.get(VARYING_MODES, 1)
    return int(said) if isinstance(said, (int, np.integer)) else 1


def read_product(path: str | Path) -> Product:
    """Read a product file, ours or another program's, or a result of PtyPy (`.ptyr`).

    Of several coherent modes of the probe the first is the probe, the others its variations, where the file
    has weights of them; without weights they are left out.

    `x_px = (x_m - center_x_m) / pixel_width_m + W/2` counts from the object's edge; the origin is then
    chosen such that scan coordinates are metres divided by the pixel size.

    Raises:
        DataError: the file is missing, damaged, no product, or has several object layers.
    """
    expect_path(path, "read_product", "an HDF5 product file")
    path = Path(path)
    if not is_file(path):
        raise DataError(f"{excerpt(str(path))}: no such file. Expected an HDF5 product file.")
    try:
        with opened(path) as file:
            return _read_ptyr(file, path.name) if is_ptyr(file) else _read(file, path.name)
    except (ConfigError, DataError):
        raise
    except KeyError as error:
        raise DataError(
            f"{path.name}: {_what_is_missing(path, error)}. Expected an HDF5 product file with `{OBJECT}`, "
            f"`{PROBE}`, `{POSITION_X}` and `{POSITION_Y}`, and with the attributes of the object "
            "`pixel_height_m`, `pixel_width_m`, `center_y_m` and `center_x_m`."
        ) from error
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise DataError(
            f"{path.name}: cannot be read as an HDF5 product file ({excerpt(str(error))}). Copy or export "
            "it again."
        ) from error


_PTYR_OBJECT, _PTYR_PROBE, _PTYR_POSITIONS = "content/obj", "content/probe", "content/positions"


def is_ptyr(file: Hdf5) -> bool:
    """Whether it is a result of PtyPy: storages of an object and of a probe."""
    return all(file.group(key) is not None for key in (_PTYR_OBJECT, _PTYR_PROBE))


def _read_ptyr(file: Hdf5, name: str) -> Product:
    """Read the first storage of each kind.

    Lengths are metres and keV; `_origin` is where pixel [0, 0] lies, `_psize` the pixel, both (y, x).
    """
    obj_at, probe_at = _storage(file, _PTYR_OBJECT, name), _storage(file, _PTYR_PROBE, name)
    obj, probe = (np.asarray(_array(file, f"{at}/data"), np.complex64) for at in (obj_at, probe_at))
    pixel_m, origin_m = (
        np.broadcast_to(np.asarray(_array(file, f"{obj_at}/{key}"), np.float64).reshape(-1), 2)
        for key in ("_psize", "_origin")
    )
    if obj.ndim != 3 or len(obj) != 1 or probe.ndim != 3 or probe.shape[1] != probe.shape[2]:
        raise DataError(
            f"{name}: object {obj.shape} and probe {probe.shape}. Expected one object (1, H, W) and modes "
            "(P, N, N)."
        )
    if not (np.isfinite(pixel_m).all() and (pixel_m > 0).all()):
        raise DataError(f"{name}: the object's pixel is {pixel_m[0]:g} x {pixel_m[1]:g} m. Expected a size.")
    scans = [f"{_PTYR_POSITIONS}/{key}" for key in file.group(_PTYR_POSITIONS) or ()]
    found = [np.asarray(_array(file, key), np.float64) for key in scans if file.dataset(key) is not None]
    positions_m = np.concatenate([one.reshape(-1, 2) for one in found]) if found else np.zeros((0, 2))
    energy = file.number(f"{obj_at}/_energy")
    kev = 0.0 if energy is None else energy[0]
    return Product(
        name=name,
        comments="a result of PtyPy",
        obj=obj[0],
        probe=probe,
        positions_px=positions_m / pixel_m,
        origin_px=origin_m / pixel_m,
        losses=(),
        pixel_size_m=float(pixel_m[1]),
        pixel_aspect=float(pixel_m[0] / pixel_m[1]),
        energy_ev=_positive(1e3 * kev),
        distance_m=None,
    )


def _storage(file: Hdf5, where: str, name: str) -> str:
    """Return the path of the first storage below a group."""
    for key in file.group(where) or ():
        if file.group(f"{where}/{key}") is not None and file.dataset(f"{where}/{key}/data") is not None:
            return f"{where}/{key}"
    raise DataError(f"{name}: `{where}` holds no storage with `data`. Expected a result of PtyPy.")


def _array(file: Hdf5, key: str) -> np.ndarray:
    """Read what a result has to hold; it may be as large as it lies in the file.

    Raises:
        KeyError: it is not there.
    """
    item = file.dataset(key)
    if item is None:
        raise KeyError(key)
    return file.read(item, image=True)


def _what_is_missing(path: Path, error: KeyError) -> str:
    """Name what a product needs and this file lacks."""
    said = excerpt(str(error.args[0] if error.args else error))
    with opened(path) as file:
        absent = [f"`{key}`" for key in (OBJECT, PROBE, POSITION_X, POSITION_Y) if file.dataset(key) is None]
        if not absent:
            sides = ("pixel_height_m", "pixel_width_m", "center_y_m", "center_x_m")
            there = file.required(OBJECT).attrs
            absent = [f"the attribute `{key}` of `{OBJECT}`" for key in sides if key not in there]
    return f"{', '.join(absent)} is missing" if absent else said


def _with_unknowns(
    comments: str, pixel_size_m: float | None, energy_ev: float | None, distance_m: float | None
) -> str:
    said = [comments] if comments else []
    if pixel_size_m is None:
        said.append(f"The pixel size is unknown; {PLACEHOLDER_PIXEL_M:g} m stands for one pixel.")
    unknown = [
        word for word, value in (("photon energy", energy_ev), ("distance", distance_m)) if value is None
    ]
    if unknown:
        said.append(f"Unknown, written as 0: {', '.join(unknown)}.")
    return " ".join(said)


def _read(file: Hdf5, name: str) -> Product:
    obj = np.asarray(_array(file, OBJECT), dtype=np.complex64)
    if obj.ndim == 3 and obj.shape[0] == 1:
        obj = obj[0]
    probe = np.asarray(_array(file, PROBE), dtype=np.complex64)
    variations = frame_intensity = None
    if probe.ndim == 4:
        probe, variations, frame_intensity = _varied(file, probe, name)
    probe = probe[np.newaxis] if probe.ndim == 2 else probe
    positions_m = np.stack([_array(file, POSITION_Y), _array(file, POSITION_X)], axis=-1)
    if obj.ndim != 2 or probe.ndim != 3 or positions_m.ndim != 2:
        raise DataError(
            f"{name}: `{OBJECT}` {obj.shape}, `{PROBE}` {probe.shape} and positions "
            f"{positions_m.shape[:-1]}. Expected one object layer (H, W), modes (P, N, N) and (M,)."
        )
    attributes, about = file.required(OBJECT).attrs, file.file.attrs
    pixel_m = np.array([attributes["pixel_height_m"], attributes["pixel_width_m"]], dtype=np.float64)
    center_m = np.array([attributes["center_y_m"], attributes["center_x_m"]], dtype=np.float64)
    if not (np.isfinite(pixel_m).all() and (pixel_m > 0).all()):
        raise DataError(f"{name}: the object's pixel is {pixel_m[0]:g} x {pixel_m[1]:g} m. Expected a size.")
    loss_key = LOSS_VALUES if file.dataset(LOSS_VALUES) is not None else LOSS_VALUES_OLD
    losses = _array(file, loss_key).reshape(-1) if file.dataset(loss_key) is not None else ()
    known = bool(about.get(PIXEL_IS_KNOWN, True))
    return Product(
        name=excerpt(text_of(about.get("name")) or name),
        comments=excerpt(text_of(about.get("comments")), _LONGEST_COMMENTS),
        obj=obj,
        probe=probe,
        positions_px=positions_m / pixel_m,
        origin_px=center_m / pixel_m - np.array(obj.shape) / 2,
        losses=tuple(float(value) for value in losses),
        pixel_size_m=float(pixel_m[1]) if known else None,
        pixel_aspect=float(pixel_m[0] / pixel_m[1]),
        energy_ev=_positive(about.get("probe_energy_eV")),
        distance_m=_positive(about.get("detector_object_distance_m")),
        variations=variations,
        frame_intensity=frame_intensity,
    )


def _positive(value: object) -> float | None:
    number = float(value) if isinstance(value, int | float | np.number) else 0.0
    return number if np.isfinite(number) and number > 0 else None
