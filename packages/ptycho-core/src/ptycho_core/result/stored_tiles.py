"""A state on the way as several ranks keep it: each writes its tile, and all tiles become visible together.

`reconstruction.tiles.json` names the files of the tiles and where they lie on the canvas. It gets its name
when all of them are complete, so that it never names half a state; the tiles of the state before it are
removed after that. Whoever writes `reconstruction.npz` removes it; where both are there, as a process was
ended between the two, the newer one counts.

The tile of rank 0 holds the other arrays of a result as well (`stored.RECONSTRUCTION_KEYS`).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.files import is_file, write_json, write_npz
from ptycho_core.io.npz import Archive
from ptycho_core.ranks import Ranks

__all__ = ["RECONSTRUCTION_FILE", "TILES_FILE", "StoredTiles", "holds_tiles", "remove_tiles", "write_tile"]

RECONSTRUCTION_FILE = "reconstruction.npz"
TILES_FILE = "reconstruction.tiles.json"
_NAME = re.compile(r"reconstruction\.tile-[0-9a-f]{8}-[0-9]+\.npz")
_CURE = "Remove it to begin anew, or to go on from `reconstruction.npz`."
#: What every tile has; the first has everything else, too.
_IMAGES = ("object", "coverage")
Window = tuple[slice, slice]


def write_tile(arrays: Mapping[str, np.ndarray], directory: Path, ranks: Ranks) -> Path:
    """Write this rank's tile; when all are there they are the state of the directory. All ranks call this.

    Args:
        arrays: those of a result, with `object`, `coverage` and `origin_px` of the tile. The tiles cover the
            canvas without a gap and do not overlap.
    Raises:
        OutputError: on all ranks where one could not write; the state before is kept.
    """
    height, width = arrays["object"].shape
    told = ranks.everyone([*arrays["origin_px"].tolist(), height, width])
    origins = np.array([one[:2] for one in told])
    origin_px = origins.min(axis=0)
    token = ranks.from_first(secrets.token_hex(4))
    names = [f"reconstruction.tile-{token}-{rank}.npz" for rank in range(ranks.count)]
    mine = {key: arrays[key] for key in _IMAGES}
    if ranks.is_first:
        mine = {**arrays, **mine, "origin_px": origin_px}
    tiles = [
        {"file": name, "corner": np.rint(origin - origin_px).astype(int).tolist(), "shape": one[2:]}
        for name, origin, one in zip(names, origins, told, strict=True)
    ]
    path = directory / TILES_FILE

    def show() -> None:
        if ranks.is_first:
            write_json(path, {"tiles": tiles})
            _remove_but(directory, set(names))

    try:
        ranks.one(lambda: write_npz(directory / names[ranks.rank], mine))
    except Exception:
        (directory / names[ranks.rank]).unlink(missing_ok=True)
        raise
    ranks.one(show)
    return path


def holds_tiles(directory: Path) -> bool:
    """Whether the state of a directory is in tiles, and no result was written since."""
    tiles, result = directory / TILES_FILE, directory / RECONSTRUCTION_FILE
    if not is_file(tiles):
        return False
    return not is_file(result) or result.stat().st_mtime_ns <= tiles.stat().st_mtime_ns


def remove_tiles(directory: Path) -> None:
    """Remove a state that was kept in tiles, where there is one."""
    with suppress(OSError):
        (directory / TILES_FILE).unlink(missing_ok=True)
        _remove_but(directory, set())


def _remove_but(directory: Path, kept: set[str]) -> None:
    for path in directory.iterdir():
        if _NAME.fullmatch(path.name) and path.name not in kept:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Tile:
    archive: Archive
    corner: tuple[int, int]
    shape: tuple[int, int]

    @property
    def box(self) -> Window:
        rows, columns = (slice(at, at + side) for at, side in zip(self.corner, self.shape, strict=True))
        return rows, columns


class StoredTiles:
    """The tiles of a directory; what is asked for is read, and no more.

    Attributes:
        file: that names them.
        canvas: rows and columns of all together.
    """

    def __init__(self, directory: Path) -> None:
        """Look where the tiles lie.

        Raises:
            DataError: what the file says of them cannot be, or one of them is missing or damaged.
        """
        self.file = directory / TILES_FILE
        try:
            told = json.loads(self.file.read_text(encoding="utf-8"))["tiles"]
            places = [(str(one["file"]), _two(one["corner"]), _two(one["shape"])) for one in told]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{self.file}: names no tiles of a result. {_CURE}") from error
        if not places or not all(_NAME.fullmatch(name) for name, _, _ in places):
            raise DataError(f"{self.file}: names no tiles of a result. {_CURE}")
        self._tiles = [
            _Tile(Archive(directory / name, cure=_CURE), corner, shape) for name, corner, shape in places
        ]
        last = np.max([np.add(tile.corner, tile.shape) for tile in self._tiles], axis=0)
        self.canvas = int(last[0]), int(last[1])
        covered = sum(tile.shape[0] * tile.shape[1] for tile in self._tiles)
        stored = [
            {key: tile.archive.members[key].shape for key in _IMAGES if key in tile.archive.members}
            for tile in self._tiles
        ]
        fit = all(
            one == dict.fromkeys(_IMAGES, tile.shape) for one, tile in zip(stored, self._tiles, strict=True)
        )
        if not fit or covered != self.canvas[0] * self.canvas[1]:
            raise DataError(f"{self.file}: its tiles do not fit together. {_CURE}")

    @classmethod
    def of(cls, directory: Path) -> StoredTiles | None:
        """Return the tiles of a directory; None where it has none."""
        return cls(directory) if holds_tiles(directory) else None

    def arrays(self, window: Window | None = None) -> dict[str, np.ndarray]:
        """Return the arrays of a result, the images cut to rows and columns of the canvas; all by default.

        `origin_px` is that of the cut.
        """
        first = self._tiles[0].archive
        others: dict[str, Any] = {
            key: np.array(first.read(key)) for key in first.members if key not in _IMAGES
        }
        rows, columns = window or (slice(0, self.canvas[0]), slice(0, self.canvas[1]))
        shape = rows.stop - rows.start, columns.stop - columns.start
        images = {"object": np.ones(shape, np.complex64), "coverage": np.zeros(shape, np.float32)}
        for tile in self._tiles:
            both = [
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip((rows, columns), tile.box, strict=True)
            ]
            if any(axis.start >= axis.stop for axis in both):
                continue
            here = _moved(both, (rows.start, columns.start))
            there = _moved(both, tile.corner)
            for key, image in images.items():
                image[here] = tile.archive.read(key, image=True)[there]
        if "origin_px" in others:
            others["origin_px"] = others["origin_px"] + (rows.start, columns.start)
        return others | images


def _moved(box: list[slice], origin: tuple[int, int]) -> Window:
    rows, columns = (slice(axis.start - at, axis.stop - at) for axis, at in zip(box, origin, strict=True))
    return rows, columns


def _two(values: Any) -> tuple[int, int]:
    """Return two whole numbers that are not negative, as a file tells them.

    Raises:
        TypeError, ValueError: they are none.
    """
    first, second = values
    if not all(type(one) is int and one >= 0 for one in (first, second)):
        raise ValueError(values)
    return first, second
