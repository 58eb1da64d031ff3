"""From the tiles of all ranks to one judged result, as `result.assemble` makes it of a canvas.

Gauge, residual and measures are those of the whole scan: every rank adds what its pixels and frames say. No
rank holds all tiles: rank 0 takes one after the other and lays it on the canvas of the result, which is a
file without a name where it is large (`frames.room_for`). On the others the result has their own tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex64, Float32, Float64

from ptycho_core.arrays import Arrays
from ptycho_core.physics import whole_and_rest
from ptycho_core.physics.canvas import light_on, row_bands
from ptycho_core.physics.gauge import WELL_LIT, orthogonal_modes, phase_ramp, ramp_sums
from ptycho_core.physics.lattice import (
    WELL_ILLUMINATED,
    Lattice,
    lattice_of,
    lattice_pattern,
    middle_part,
    with_pattern,
    without_pattern,
)
from ptycho_core.physics.residual import PredictedAmplitude, Residual, data_residual
from ptycho_core.physics.variations import ProbeVariations, parted, stacked
from ptycho_core.result.assemble import LATTICE_MAY_COST, fields_of, known_of, verdict_of
from ptycho_core.result.measures import MOST_MODULI, Sample, frames_sampled, measures_of, modulus_sampled
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver.frames import OrderedFrames, room_for
from ptycho_core.solver.start import Look
from ptycho_core.solver.state import COPY_IN_MEMORY_BYTES, Solution
from ptycho_core.solver.team import Team
from ptycho_core.solver.tiles import REACH_PX, Share, Tiles

__all__ = ["make_together"]

#: So far around its place a frame is looked for.
_LOOKED_AROUND_PX = 40


def make_together(
    scan: Scan,
    solution: Solution,
    look: Look,
    frames: OrderedFrames,
    arrays: Arrays,
    *,
    probe: Complex64[np.ndarray, "mode n n"],
    origin_px: Float64[np.ndarray, " 2"],
    judged: bool,
    share: Share,
    threads: int | None,
    variations: ProbeVariations | None = None,
    **record: Any,
) -> Reconstruction:
    """Make a result of the tiles of all ranks, which call this together.

    Args:
        scan: the whole of it, at the positions that were found.
        solution: with this rank's tile. frames: of this rank.
        origin_px: scan coordinate (y, x) of pixel [0, 0] of the whole canvas.
        share: what each rank gets of the object.
        variations: of the probe from frame to frame, for all frames.
        record: as for `make_reconstruction`.

    Returns:
        The result with `object`, `coverage` and `origin_px` of what each rank gets.
    """
    for key, unused in (("positions_given_px", scan.all_positions_px), ("frame_intensity", np.nan)):
        if record.get(key) is not None:
            record[key] = scan.of_all_frames(record[key], unused)
    canvas = _Canvas.of(
        scan,
        solution,
        look,
        frames,
        arrays,
        probe=probe,
        origin_px=origin_px,
        intensity=record.get("frame_intensity"),
        reach_px=scan.frame_px // 2 + _LOOKED_AROUND_PX if share == "tile" else REACH_PX,
    )
    modes = probe
    if look.config.probe_step != 0:
        functions = canvas.hand_over_ramp(stacked(*orthogonal_modes(probe, variations)))
        modes, variations = parted(functions, len(probe), variations)
    residual = Residual(float("nan"), 1.0, np.full(scan.n_frames, np.nan, np.float32))
    lattice = None if look.config.probe_step == 0 else lattice_of(scan.positions_px - origin_px)
    pattern_may_move = lattice is not None and record.get("dose_carries_image", True)
    if judged or pattern_may_move:
        residual = canvas.residual(canvas.object, modes, variations, threads)
    if lattice is not None and pattern_may_move:
        pattern = canvas.pattern(lattice)
        if pattern is not None:
            even = without_pattern(canvas.object, pattern, lattice, canvas.tiles.origin)
            even[canvas.coverage == 0] = 1
            window_px = scan.positions_px[0] - origin_px - scan.frame_px // 2
            functions = with_pattern(stacked(modes, variations), pattern, lattice, window_px)
            changed, varied = parted(functions, len(modes), variations)
            after = canvas.residual(even, changed, varied, threads)
            if after.value <= LATTICE_MAY_COST * residual.value:
                canvas.object, modes, variations, residual = even, changed, varied, after
    verdict = None
    if judged:
        intensity: Float64[np.ndarray, " frame"] | None = record.get("frame_intensity")
        measures = measures_of(scan, canvas.sample(modes, variations), modes, residual.per_frame, intensity)
        verdict = verdict_of(scan, measures, modes, record)
    obj, coverage, corner = canvas.shared_out(share)
    return Reconstruction(
        object=obj,
        probe=modes,
        origin_px=origin_px + corner,
        coverage=coverage,
        residual_per_frame=scan.of_all_frames(residual.per_frame),
        data_residual=residual.value,
        method="solver",
        verdict=verdict,
        image_reliable=verdict is not None and verdict.grade == "good",
        **fields_of(variations, scan),
        **known_of(scan),
        **record,
    )


@dataclass(eq=False)
class _Canvas:
    """This rank's tile of the result, at the pixel of the full frame.

    Attributes:
        object, coverage: (h, w) of the tile; coverage relative to the largest of all tiles.
        own: numbers of this rank's frames, increasing. centres_px: (m, 2) of their windows, on the tile.
    """

    scan: Scan
    frames: OrderedFrames
    team: Team
    tiles: Tiles
    object: Complex64[np.ndarray, "h w"]
    coverage: Float32[np.ndarray, "h w"]
    own: np.ndarray
    centres_px: Float64[np.ndarray, "own 2"]
    intensity: Float64[np.ndarray, " own"] | None

    @classmethod
    def of(
        cls,
        scan: Scan,
        solution: Solution,
        look: Look,
        frames: OrderedFrames,
        arrays: Arrays,
        *,
        probe: Complex64[np.ndarray, "mode n n"],
        origin_px: Float64[np.ndarray, " 2"],
        intensity: np.ndarray | None,
        reach_px: int,
    ) -> _Canvas:
        own, side, team = np.sort(look.order), scan.frame_px, look.team
        on_canvas_px = scan.positions_px[own] - origin_px
        corners, _ = whole_and_rest(on_canvas_px - side // 2)
        tiles = Tiles(
            team,
            corners,
            size_px=side,
            margin_px=look.margin_px,
            to_canvas=lambda positions_px: positions_px - origin_px - side // 2,
            whole=look.full_canvas(solution.shift_px)[0],
            reach_px=reach_px,
        )
        obj = solution.object_on(tiles.shape, scale=1.0, margin_px=look.margin_px, corner=tiles.origin)
        tiles.as_owned(arrays, (obj,))
        light = np.square(np.abs(probe), dtype=np.float64).sum(axis=0)
        coverage = light_on(corners - tiles.origin, light, tiles.shape)
        tiles.summed(arrays, (coverage,))
        tiles.as_owned(arrays, (coverage,))
        coverage /= np.float32(team.largest(float(coverage.max())))
        return cls(
            scan,
            frames,
            team,
            tiles,
            obj,
            coverage,
            own,
            on_canvas_px - tiles.origin,
            None if intensity is None else intensity[own],
        )

    def hand_over_ramp(self, probe: Complex64[np.ndarray, "mode n n"]) -> Complex64[np.ndarray, "mode n n"]:
        """Hand the mean phase ramp and the mean phase of the whole object over to the probe."""
        lit = self.coverage > WELL_LIT
        rows, columns = self.tiles.mine
        # The pairs of pixels that begin in what is ours reach one row and one column beyond it.
        longer, wider = slice(rows.start, rows.stop + 1), slice(columns.start, columns.stop + 1)
        steps = np.array(
            [
                ramp_sums(self.object[longer, columns], lit[longer, columns])[0],
                ramp_sums(self.object[rows, wider], lit[rows, wider])[1],
            ]
        )
        slope = np.angle(self.team.total(steps))
        # The ramp is 1 in the middle of the whole canvas.
        y, x = (
            np.arange(side) + at - whole // 2
            for side, at, whole in zip(self.object.shape, self.tiles.origin, self.tiles.whole, strict=True)
        )
        along_x = np.exp(-1j * slope[1] * x)[None]
        for band in row_bands(self.object.shape):
            self.object[band] *= np.exp(-1j * slope[0] * y[band])[:, None] * along_x
        ours = self.object[self.tiles.mine][lit[self.tiles.mine]]
        total = self.team.total(np.array([ours.sum(dtype=np.complex128)]))[0]
        turn = np.exp(-1j * np.angle(total))
        self.object *= np.complex64(turn)
        self.object[self.coverage == 0] = 1
        tilted = probe * phase_ramp(probe.shape[-2:], slope) / turn
        return tilted.astype(np.complex64)

    def residual(
        self,
        obj: Complex64[np.ndarray, "h w"],
        probe: Complex64[np.ndarray, "mode n n"],
        variations: ProbeVariations | None,
        threads: int | None,
    ) -> Residual:
        """Return R of the whole scan and of each of its frames."""
        found = data_residual(
            obj,
            probe,
            self.centres_px,
            self.frames.as_measured().select(self.own),
            frame_intensity=self.intensity,
            variations=None if variations is None else variations.select(self.own),
            threads=threads,
            over_all=self.team.total,
        )
        each = self.team.of_all_frames(found.per_frame, self.own, self.scan.n_frames)
        return Residual(found.value, found.scale, each)

    def pattern(self, lattice: Lattice) -> np.ndarray | None:
        """Return what a raster leaves open, as the middle of the canvas tells it to rank 0."""
        part = middle_part(self.tiles.whole)
        middle = tuple(axis.stop - axis.start for axis in part)
        corner = np.array([axis.start for axis in part])
        obj, lit = np.ones(middle, np.complex64), np.zeros(middle, bool)
        for box, piece in self._pieces(self.object):
            _lay(obj, piece, box - corner)
        for box, piece in self._pieces(self.coverage):
            _lay(lit, piece > WELL_ILLUMINATED, box - corner)
        first = self.team.ranks.is_first
        return self.team.ranks.from_first(lattice_pattern(obj, lit, lattice, part) if first else None)

    def sample(self, probe: Complex64[np.ndarray, "mode n n"], variations: ProbeVariations | None) -> Sample:
        """Return some frames as measured and as predicted, and moduli of the object, from all ranks."""
        chosen = frames_sampled(self.scan)
        shape = (len(chosen), self.scan.frame_px, self.scan.frame_px)
        amplitude, predicted = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        places = np.flatnonzero(np.isin(chosen, self.own))
        if places.size:
            rows = np.searchsorted(self.own, chosen[places])
            source = self.frames.as_measured()
            amplitude[places] = source.amplitude(chosen[places])
            model = PredictedAmplitude(
                self.object,
                probe,
                self.centres_px[rows],
                frame_intensity=None if self.intensity is None else self.intensity[rows],
                variations=None if variations is None else variations.select(self.own[rows]),
            )
            predicted[places] = model(slice(0, len(rows)))
        share = max(1, MOST_MODULI // self.team.ranks.count)
        found = modulus_sampled(
            self.object[self.tiles.mine], self.coverage[self.tiles.mine], brightest=1.0, most=share
        )
        moduli = self.team.ranks.gather(found)
        moduli = self.team.ranks.from_first(np.concatenate(moduli) if moduli else found)
        return Sample(chosen, self.team.total(amplitude), self.team.total(predicted), moduli)

    def shared_out(self, share: Share) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return object, coverage and (y, x) of the first pixel of what this rank gets."""
        if share == "whole" and self.team.ranks.is_first:
            return self._whole()
        if share == "whole":
            for values in (self.object, self.coverage):
                list(self._pieces(values))
        if share == "own":
            mine = self.tiles.mine
            return self.object[mine], self.coverage[mine], self._own_corner()
        return self.object, self.coverage, np.array(self.tiles.origin)

    def _whole(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        height, width = self.tiles.whole
        room, _ = room_for((height, 2 * width), in_memory_bytes=COPY_IN_MEMORY_BYTES)
        obj = room.view(np.complex64)
        coverage, _ = room_for((height, width), in_memory_bytes=COPY_IN_MEMORY_BYTES)
        for whole, values in ((obj, self.object), (coverage, self.coverage)):
            for box, piece in self._pieces(values):
                _lay(whole, piece, box)
        return obj, coverage, np.zeros(2, np.int64)

    def _own_corner(self) -> np.ndarray:
        """Return the pixel (y, x) of the canvas at which what belongs to this rank begins."""
        return np.array([axis.start for axis in self.tiles.mine]) + self.tiles.origin

    def _pieces(self, values: np.ndarray) -> Any:
        """Yield on rank 0 what belongs to each rank, and the pixel (y, x) of the canvas where it begins."""
        corners = np.zeros((self.team.ranks.count, 2), np.int64)
        corners[self.team.ranks.rank] = self._own_corner()
        corners = self.team.total(corners)
        yield from zip(corners, self.team.ranks.in_turn(values[self.tiles.mine]), strict=False)


def _lay(canvas: np.ndarray, piece: np.ndarray, corner: np.ndarray) -> None:
    """Lay a piece whose first pixel is (y, x) on a canvas, as far as it reaches there."""
    low = np.maximum(corner, 0)
    high = np.minimum(corner + piece.shape, canvas.shape)
    if (low < high).all():
        here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        there = tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))
        canvas[here] = piece[there]
