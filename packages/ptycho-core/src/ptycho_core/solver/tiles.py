"""The canvas of a level, cut into tiles: each rank holds what its frames see, and a rim around it.

All tiles lie on the pixels of one canvas, so that they overlap pixel on pixel and nothing is interpolated.
Every pixel of the canvas belongs to one rank (`mine`), whose tile reaches far enough beyond it that what is
computed there comes out as on the whole canvas. Where tiles overlap the ranks agree in one of three ways:

    averaged    each rank has moved the object by its own frames: the mean, by the light of each rank's frames
    summed      each rank has the part of a sum that its frames make: the sum
    as_owned    each rank has computed the same: what the rank says to which the pixel belongs

Only ranks whose tiles overlap talk to each other. They add up in the order of the ranks, so that all of them
have the same bits in a pixel that they share.

Source: tiles with halos for one scan, X. Wang, A. Tsaris, D. Mukherjee et al., SC22 (2022), arXiv 2205.06327;
there gradients are summed, which is `summed` here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64

from ptycho_core.arrays import Array, Arrays
from ptycho_core.solver.team import Team

__all__ = ["REACH_PX", "Share", "Tiles", "Window"]

#: So far beyond its own pixels a tile reaches, at least: the proximal step looks 11 pixels around, the
#: strengths of a prior 4, the blur of an edge up to 16.
REACH_PX = 32
#: Light, as a part of the most, that every rank is taken to put everywhere: where there is none, all count.
_DARK = 1e-6
#: Rows and columns of a canvas.
Window = tuple[slice, slice]
#: What each rank gets of the object of a result: rank 0 the whole and the others their tile; all their tile,
#: which then reaches as far as a frame beyond their own pixels; or all of them their own pixels alone.
Share = Literal["whole", "tile", "own"]


class Tiles:
    """The tiles of a level's canvas, as one rank sees them.

    Attributes:
        whole: (rows, columns) of the whole canvas.
        origin: (y, x) pixel of the whole canvas at which this rank's tile begins.
        shape: rows and columns of the tile.
        mine: the part of the tile that belongs to this rank.
    """

    def __init__(
        self,
        team: Team,
        corners: Int64[np.ndarray, "frame 2"],
        *,
        size_px: int,
        margin_px: int,
        to_canvas: Callable[[np.ndarray], np.ndarray],
        whole: tuple[int, int] | None = None,
        reach_px: int = REACH_PX,
    ) -> None:
        """Cut a canvas that holds all windows and a margin.

        Args:
            corners: on the whole canvas, of this rank's windows.
            to_canvas: where on the canvas the window of a frame at some positions (y, x) begins.
            whole: shape of the canvas, where it is given.
            reach_px: of a tile beyond its own pixels, at least.
        """
        self.team, rank = team, team.ranks.rank
        reached = np.zeros((team.ranks.count, 2, 2), np.int64)
        reached[rank] = corners.min(axis=0), corners.max(axis=0) + size_px
        reached = team.total(reached)
        last = reached[:, 1].max(axis=0) + margin_px if whole is None else np.array(whole)
        self.whole = int(last[0]), int(last[1])
        lines = np.floor(to_canvas(team.regions) + size_px // 2 + 0.5)
        owned = np.clip(lines, 0, last).astype(np.int64)
        low = np.minimum(reached[:, 0] - margin_px, owned[:, 0] - reach_px)
        high = np.maximum(reached[:, 1] + margin_px, owned[:, 1] + reach_px)
        boxes = np.stack([np.maximum(low, 0), np.minimum(high, last)], axis=1)
        here = boxes[rank]
        self.origin = int(here[0, 0]), int(here[0, 1])
        self.shape = int(here[1, 0] - here[0, 0]), int(here[1, 1] - here[0, 1])
        self.mine = _window(owned[rank], here)
        self._common: dict[int, Window] = {}
        self._given: dict[int, Window] = {}
        self._taken: dict[int, Window] = {}
        for other in range(team.ranks.count):
            common = _both(here, boxes[other])
            if other == rank or common is None:
                continue
            self._common[other] = _window(common, here)
            for windows, box in (
                (self._given, _both(owned[rank], boxes[other])),
                (self._taken, _both(owned[other], here)),
            ):
                if box is not None:
                    windows[other] = _window(box, here)
        self._parts = _disjoint(self._common, self.shape)

    @property
    def alone(self) -> bool:
        """Whether there is one tile, the whole canvas."""
        return not self.team.several

    def averaged(self, arrays: Arrays, images: Sequence[Array], light: Float32[np.ndarray, "h w"]) -> None:
        """Replace complex images (h, w) of the tile, where they are shared, by the mean of all ranks.

        Args:
            light: of this rank on each pixel of the tile, which is the weight of what it has there. Where
                there is none from any rank all count the same.
        """
        if not self._common:
            return
        weight = light + np.float32(max(_DARK * float(light.max()), np.finfo(np.float32).tiny))
        (total,) = self._added([weight])
        for part, _ in self._parts:
            weight[part] /= total[part]
        self._agree(arrays, images, weight)

    def summed(self, arrays: Arrays, images: Sequence[Array]) -> None:
        """Replace images (h, w) of the tile, where they are shared, by the sum over all ranks."""
        if self._common:
            self._agree(arrays, images, None)

    def as_owned(self, arrays: Arrays, images: Sequence[Array]) -> None:
        """Replace images (h, w) of the tile by those of the ranks to which the pixels belong."""
        if self.alone:
            return
        given = {
            other: np.stack([_on_host(arrays, image[window]) for image in images])
            for other, window in self._given.items()
        }
        kind = _type_of(arrays, images[0])
        taken = {
            other: np.empty((len(images), *_sides(window)), kind) for other, window in self._taken.items()
        }
        for other, values in self.team.ranks.exchange(given, taken).items():
            for image, value in zip(images, values, strict=True):
                _put(arrays, image, self._taken[other], value)

    def of_mine(self, arrays: Arrays, values: Array) -> Array:
        """Return values (h, w) of the tile with 0 in place of those of other ranks' pixels.

        Sums over them are added up by `Team.total`, and each pixel of the canvas counts once.
        """
        if self.alone:
            return values
        kept = arrays.zeros(self.shape)
        kept[self.mine] = values[self.mine]
        return kept

    def _agree(self, arrays: Arrays, images: Sequence[Array], shares: np.ndarray | None) -> None:
        host = [self._weighted(arrays, image, shares) for image in images]
        for image, total in zip(images, self._added(host), strict=True):
            for part, _ in self._parts:
                _put(arrays, image, part, total[part])

    def _weighted(self, arrays: Arrays, image: Array, shares: np.ndarray | None) -> np.ndarray:
        """Return the shared parts of an image (h, w), weighted; what lies between them is anything."""
        found = np.empty(self.shape, _type_of(arrays, image))
        for part, _ in self._parts:
            found[part] = _on_host(arrays, image[part])
            if shares is not None:
                found[part] *= shares[part]
        return found

    def _added(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the sums over all ranks of the shared parts of images (h, w); the rest is anything."""
        given = {
            other: np.stack([image[window] for image in images]) for other, window in self._common.items()
        }
        here, whole = self.team.ranks.rank, (slice(0, self.shape[0]), slice(0, self.shape[1]))
        taken: dict[int, Any] = {**self.team.ranks.exchange(given), here: images}
        windows = {**self._common, here: whole}
        totals = [np.empty_like(image) for image in images]
        for part, among in self._parts:
            first, *others = sorted([*among, here])
            for index, total in enumerate(totals):
                total[part] = taken[first][index][_inside(part, windows[first])]
                for other in others:
                    total[part] += taken[other][index][_inside(part, windows[other])]
        return totals


def _on_host(arrays: Arrays, values: Array) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else arrays.to_numpy(values)


def _put(arrays: Arrays, image: Array, part: Window, values: np.ndarray) -> None:
    on_host = isinstance(image, np.ndarray)
    image[part] = values if on_host else arrays.asarray(np.ascontiguousarray(values))


def _type_of(arrays: Arrays, image: Array) -> np.dtype:
    return _on_host(arrays, image[:1, :1]).dtype


def _window(box: np.ndarray, within: np.ndarray) -> Window:
    """Return a box [low, high] of the canvas as rows and columns of another one that holds it."""
    (top, left), (bottom, right) = (box - within[0]).tolist()
    return slice(top, bottom), slice(left, right)


def _both(one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    """Return the box that two boxes have in common, if they have one."""
    low, high = np.maximum(one[0], other[0]), np.minimum(one[1], other[1])
    return np.stack([low, high]) if (low < high).all() else None


def _sides(window: Window) -> tuple[int, int]:
    return window[0].stop - window[0].start, window[1].stop - window[1].start


def _inside(part: Window, window: Window) -> Window:
    """Return where a part of the tile lies in a window of it."""
    rows, columns = (
        slice(axis.start - start.start, axis.stop - start.start)
        for axis, start in zip(part, window, strict=True)
    )
    return rows, columns


def _disjoint(windows: Mapping[int, Window], shape: tuple[int, int]) -> list[tuple[Window, tuple[int, ...]]]:
    """Cut what some windows cover into parts that lie wholly in or out of each; say of each in which."""
    edges = [
        sorted({0, shape[axis]} | {edge for w in windows.values() for edge in (w[axis].start, w[axis].stop)})
        for axis in (0, 1)
    ]
    found: list[tuple[Window, tuple[int, ...]]] = []
    for top, bottom in itertools.pairwise(edges[0]):
        row: list[tuple[Window, tuple[int, ...]]] = []
        for left, right in itertools.pairwise(edges[1]):
            among = tuple(
                other
                for other, (rows, columns) in windows.items()
                if rows.start <= top < rows.stop and columns.start <= left < columns.stop
            )
            if not among:
                continue
            if row and row[-1][1] == among and row[-1][0][1].stop == left:
                left = row.pop()[0][1].start
            row.append(((slice(top, bottom), slice(left, right)), among))
        found += row
    return found
