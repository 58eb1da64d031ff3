"""PtyPy's prepared data, `.ptyd`: chunks of frames with positions and weights, and what they have in common.

Positions are metres, (y, x). Energy is keV, distance and detector pixel (`psize`) metres. Weights of 0 are
bad pixels.
"""

from __future__ import annotations

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io.hdf5 import Hdf5
from ptycho_core.io.raw_scan import IS_0_BAD, RawScan, RequestedKeys
from ptycho_core.scan.lazy import ChainedSource, LazyFrames

__all__ = ["matches", "read"]

_WHERE = ("meta", "info", "common")


def matches(file: Hdf5) -> bool:
    """Whether there are chunks."""
    return file.group("chunks") is not None


def read(file: Hdf5, name: str, keys: RequestedKeys) -> RawScan:
    """Read all chunks in their order.

    Raises:
        DataError: there is none with frames, or they do not fit together.
    """
    chunks = _chunks(file)
    sources, positions, weights = [], [], []
    for chunk in chunks:
        source = file.frames(file.required(f"{chunk}/data"))
        sources.append(source)
        where = file.array(f"{chunk}/positions")
        if where is not None:
            positions.append(where)
        weight = file.array(f"{chunk}/weights")
        weights.append(weight if weight is not None and weight.shape == source.shape else None)
    if len({source.shape[1:] for source in sources}) != 1:
        raise DataError(f"{file.path.name}: the chunks hold frames of several sizes. Expected one.")
    if positions and (
        len(positions) != len(sources) or any(one.ndim != 2 or one.shape[1] != 2 for one in positions)
    ):
        raise DataError(f"{file.path.name}: not every chunk has (y, x) positions for its frames.")
    pixel_m, aspect = _detector_pixel(file)
    return RawScan(
        name=name,
        format="PtyPy .ptyd",
        frames=LazyFrames(ChainedSource(tuple(sources)) if len(sources) > 1 else sources[0]),
        positions_px=np.concatenate(positions) if positions else None,
        position_unit_m=1.0,
        position_unit_open=False,
        probe=None if keys.probe is None else file.read(file.required(keys.probe)),
        bad_pixels=_bad_pixels(file, weights),
        mask_convention=IS_0_BAD,
        energy_ev=_energy_ev(file),
        distance_m=file.length_m(*(f"{group}/distance" for group in _WHERE)),
        detector_pixel_m=pixel_m,
        detector_aspect=aspect,
        source=file.path,
        notes=(f"{len(chunks)} chunks; positions are (y, x) in metres, the energy is keV, as PtyPy writes.",),
    )


def _chunks(file: Hdf5) -> list[str]:
    group = file.group("chunks")
    names = (
        [] if group is None else [str(key) for key in group if file.dataset(f"chunks/{key}/data") is not None]
    )
    if not names:
        raise DataError(f"{file.path.name}: no chunk holds frames. {file.listing()}", finding="DATA-001")
    ordered = sorted(names, key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0, key))
    return [f"chunks/{key}" for key in ordered]


def _bad_pixels(file: Hdf5, weights: list[np.ndarray | None]) -> np.ndarray | None:
    common = next((w for w in (file.array(f"{group}/weight2d") for group in _WHERE) if w is not None), None)
    if all(weight is None for weight in weights):
        return None if common is None or common.ndim != 2 else common == 0
    if any(weight is None for weight in weights):
        raise DataError(
            f"{file.path.name}: some chunks have weights and some have none. Expected all or none."
        )
    return np.concatenate([weight == 0 for weight in weights if weight is not None])


def _detector_pixel(file: Hdf5) -> tuple[float | None, float]:
    """Read `psize`, one length or (y, x): the width of a detector pixel, and its height over that."""
    for group in _WHERE:
        sides = file.array(f"{group}/psize")
        if sides is not None and sides.size in (1, 2) and sides.dtype.kind in "iuf" and (sides > 0).all():
            y, x = float(sides.reshape(-1)[0]), float(sides.reshape(-1)[-1])
            return x, y / x
    return None, 1.0


def _energy_ev(file: Hdf5) -> float | None:
    found = file.number(*(f"{group}/energy" for group in _WHERE))
    return None if found is None or not (np.isfinite(found[0]) and found[0] > 0) else 1e3 * found[0]
