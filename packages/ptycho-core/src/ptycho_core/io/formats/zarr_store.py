"""Zarr, version 2 or 3: a directory of chunks, its arrays under the names that HDF5 files have.

The package zarr reads it, which is installed with `ptycho-core[zarr]`.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.bounds import refuse_a_large_array
from ptycho_core.io.formats.named import BAD_PIXELS, FRAMES, PAIRS, PROBE, TOGETHER
from ptycho_core.io.formats.zarr_chunks import ChunkGuard
from ptycho_core.io.layout import require_real_numbers
from ptycho_core.io.raw_scan import RawScan, RequestedKeys, declared_by_name
from ptycho_core.io.units import length_factor
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["is_store", "read"]

_MARKS = ("zarr.json", ".zgroup", ".zarray")
_METADATA = frozenset((*_MARKS, ".zattrs", ".zmetadata"))
#: JSON becomes twenty times as large in memory.
_MOST_METADATA_BYTES = 8 << 20


def is_store(path: Path) -> bool:
    """Whether a directory is a Zarr store."""
    return any((path / name).is_file() for name in _MARKS)


def read(path: Path, name: str, keys: RequestedKeys) -> RawScan:
    """Leave the frames in the store; read positions and probe.

    Raises:
        DataError: the package zarr is not installed, or the store is damaged, or holds no frames.
    """
    arrays = _arrays(path)
    frames_key = keys.frames or _one(arrays, FRAMES) or _only_stack(arrays, path)
    frames = _named(arrays, frames_key, path)
    inner = tuple(int(side) for side in frames.shape)
    if len(inner) not in (3, 4) or np.dtype(frames.dtype).kind not in "biuf":
        raise DataError(
            f"{path.name}: `{frames_key}` is {frames.dtype} {inner}. Expected (frames, N, N) or (rows, "
            "columns, N, N).",
            finding="DATA-001",
        )
    positions, unit_m, note = _positions(arrays, keys, path)
    probe_key, bad_key = keys.probe or _one(arrays, PROBE), _one(arrays, BAD_PIXELS)
    bad = None if bad_key is None else _whole(arrays, bad_key, path)
    if bad is not None:
        require_real_numbers(bad, path.name, "the mask of pixels")
    return RawScan(
        name=name,
        format="Zarr",
        frames=LazyFrames(_ZarrFrames(path.name, frames, ChunkGuard(path, frames))),
        declared_measurement=declared_by_name(frames_key),
        positions_px=positions,
        position_unit_m=unit_m,
        position_unit_open=unit_m is None,
        probe=None if probe_key is None else _whole(arrays, probe_key, path),
        bad_pixels=None if bad is None else bad != 0,
        source=path,
        notes=(f"The frames are `{frames_key}`.", *note),
    )


def _arrays(path: Path) -> dict[str, Any]:
    """Return every array of the store by its path."""
    try:
        import zarr  # pyright: ignore[reportMissingImports] - not a dependency, but of `ptycho-core[zarr]`
    except ImportError:
        raise DataError(
            f"{path.name} is a Zarr store, and the package zarr is not installed. Install it: pip install "
            "'ptycho-core[zarr]'."
        ) from None
    _require_store(path)
    try:
        top = zarr.open(store=path, mode="r")
        if isinstance(top, zarr.Array):
            return {path.name: top}
        return {key: item for key, item in top.members(max_depth=None) if isinstance(item, zarr.Array)}
    except Exception as error:  # what a damaged store provokes is of many kinds
        raise _damaged(path.name, error) from error


def _require_store(path: Path) -> None:
    """Refuse a store whose reader would wait for something that is no file, or read metadata without end.

    Raises:
        DataError: something is neither file nor directory, or a file of metadata is far too large.
    """
    waiting = [path]
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif not entry.is_file():
                        raise DataError(
                            f"{path.name}: {excerpt(entry.name, 80)} in it is no regular file. Expected a "
                            "Zarr store; copy it again."
                        )
                    elif entry.name in _METADATA and entry.stat().st_size > _MOST_METADATA_BYTES:
                        raise DataError(
                            f"{path.name}: {entry.name} in it has {entry.stat().st_size / 2**20:.0f} MiB. "
                            f"Expected at most {_MOST_METADATA_BYTES >> 20} MiB of metadata; copy it again."
                        )
    except OSError as error:
        raise _damaged(path.name, error) from error


def _damaged(name: str, error: Exception) -> DataError:
    cause = excerpt(" ".join(str(error).split()), 120) or type(error).__name__
    return DataError(f"{name}: cannot be read as Zarr ({cause}). Copy or export it again.")


def _one(arrays: dict[str, Any], names: tuple[str, ...]) -> str | None:
    for wanted in names:
        for key in arrays:
            if key == wanted or key.endswith(f"/{wanted}"):
                return key
    return None


def _only_stack(arrays: dict[str, Any], path: Path) -> str:
    stacks = [key for key, item in arrays.items() if item.ndim >= 3 and np.dtype(item.dtype).kind in "biuf"]
    if len(stacks) == 1:
        return stacks[0]
    said = "no stack of frames" if not stacks else f"{len(stacks)} arrays that could be the frames"
    raise DataError(f"{path.name}: {said} was found. {_listing(arrays)}", finding="DATA-001")


def _listing(arrays: dict[str, Any]) -> str:
    found = ", ".join(f"`{excerpt(key, 60)}` {item.shape}" for key, item in list(arrays.items())[:8])
    return (
        f"Found {found or 'no arrays'}. Name them with `--frames-key`, `--positions-key` and `--probe-key`."
    )


def _named(arrays: dict[str, Any], key: str, path: Path) -> Any:
    item = arrays.get(key.strip("/"))
    if item is None:
        raise DataError(f"{path.name}: there is no array `{excerpt(key, 80)}`. {_listing(arrays)}")
    described = item.metadata.to_dict()
    codecs = [
        described.get("compressor"),
        *(described.get("filters") or ()),
        *(described.get("codecs") or ()),
    ]
    if any("pickle" in str(codec).lower() for codec in codecs) or np.dtype(item.dtype).hasobject:
        raise DataError(
            f"{path.name}: `{excerpt(key, 80)}` holds pickled objects, which are never loaded because "
            "unpickling runs code. Expected plain numbers.",
            finding="DATA-001",
        )
    return item


def _whole(arrays: dict[str, Any], key: str, path: Path) -> np.ndarray:
    item = _named(arrays, key, path)
    what = f"`{excerpt(key, 80)}` with shape {item.shape}"
    refuse_a_large_array(path.name, what, math.prod(item.shape) * np.dtype(item.dtype).itemsize)
    try:
        ChunkGuard(path, item).require()
        return np.asarray(item[...])
    except DataError:
        raise
    except Exception as error:
        raise _damaged(path.name, error) from error


def _positions(
    arrays: dict[str, Any], keys: RequestedKeys, path: Path
) -> tuple[np.ndarray | None, float | None, tuple[str, ...]]:
    """Return the positions, metres in their unit, and what was assumed."""
    if keys.positions_elsewhere:
        return None, None, ()
    implied_m: float | None = None
    if keys.positions is not None:
        parts = [part.strip() for part in keys.positions.split(",") if part.strip()]
    else:
        pairs = ((_one(arrays, (y,)), _one(arrays, (x,)), unit_m) for y, x, unit_m in PAIRS)
        y_key, x_key, implied_m = next((pair for pair in pairs if pair[0] and pair[1]), (None, None, None))
        together = _one(arrays, tuple(name for name, _ in TOGETHER))
        parts = [key for key in (y_key, x_key) if key] or ([together] if together else [])
    if not parts:
        return None, None, ()
    values = [_whole(arrays, part, path) for part in parts]
    unit = dict(_named(arrays, parts[0], path).attrs).get("units")
    unit_m = length_factor(unit) if isinstance(unit, str) else implied_m
    shown = ", ".join(f"`{part}`" for part in parts)
    said = f"in {unit}" if unit_m else "in metres" if implied_m else "without a unit"
    positions = values[0] if len(values) == 1 else np.stack([one.reshape(-1) for one in values[:2]], axis=1)
    return positions, unit_m, (f"The positions are {shown}, taken for (y, x), {said}.",)


@dataclass(frozen=True, eq=False)
class _ZarrFrames:
    """The frames of an array of rank 3, or 4 for a raster."""

    name: str
    array: Any  # zarr.Array, whose package need not be there
    guard: ChunkGuard
    last: bool = False

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of a raster."""
        return (self.array.shape[0], self.array.shape[1]) if self.array.ndim == 4 else None

    @property
    def shape(self) -> tuple[int, int, int]:
        sides = tuple(int(side) for side in self.array.shape)
        if len(sides) == 4:
            return sides[0] * sides[1], sides[2], sides[3]
        return (sides[2], sides[0], sides[1]) if self.last else (sides[0], sides[1], sides[2])

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array.dtype)

    def frames_first(self) -> _ZarrFrames:
        return replace(self, last=True)

    def read(self, chosen: np.ndarray) -> np.ndarray:
        try:
            if self.array.ndim == 4:
                return self._of_raster(chosen)
            self.guard.require(*((None, None, chosen) if self.last else (chosen,)))
            if self.last:
                return np.ascontiguousarray(np.moveaxis(np.asarray(self.array.oindex[:, :, chosen]), 2, 0))
            return np.asarray(self.array.oindex[chosen])
        except DataError:
            raise
        except Exception as error:
            raise _damaged(self.name, error) from error

    def _of_raster(self, chosen: np.ndarray) -> np.ndarray:
        rows, columns = np.divmod(chosen, self.array.shape[1])
        block = np.empty((chosen.size, *self.shape[1:]), self.dtype)
        for row in np.unique(rows):
            here = rows == row
            self.guard.require(np.array([row]), columns[here])
            block[here] = np.asarray(self.array.oindex[int(row), columns[here]])
        return block
