"""Two reconstructions from disjoint halves of the frames, and up to which frequency they agree.

What both show is in the data; what only one shows is noise, or the way a wrong model was fitted.

Source: W. O. Saxton and W. Baumeister, J. Microsc. 127 (1982) 127, 10.1111/j.1365-2818.1982.tb00405.x; the
curves of one bit and of half a bit are those of M. van Heel and M. Schatz, J. Struct. Biol. 151 (2005) 250,
10.1016/j.jsb.2005.05.009.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Complex64, Float64

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.metrics.fourier_ring import first_crossing, ring_correlation, windowed
from ptycho_core.physics.canvas import on_whole_pixels, paste
from ptycho_core.physics.gauge import linear_ramp, phase_ramp
from ptycho_core.ranks import ALONE, Ranks
from ptycho_core.result.callbacks import Callback
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.overlap import overlap_fraction
from ptycho_core.scan.split import split_frames
from ptycho_core.solver import choose_arrays, solve

__all__ = [
    "HALVES_PIXELS",
    "Agreement",
    "agreement_of_halves",
    "halves_are_sparse",
    "halves_worth_it",
    "on_common_canvas",
    "solved_at_the_same_time",
    "split_frames",
    "used_part",
]

#: Frames x pixels up to which two halves are reconstructed without being asked for.
HALVES_PIXELS = 1 << 26
#: Fewer frames in a half, or less overlap of neighbours in it, cannot be joined.
FEWEST_FRAMES = 16
LEAST_OVERLAP = 0.25
#: With less overlap than this in a half, a prior does what neighbours do in the whole.
SPARSE_OVERLAP = 0.65
#: Part of the largest coverage of either half above which a pixel is compared.
ILLUMINATED = 0.1
SMALLEST_SIDE_PX = 16
#: Side of the part of an object that is compared where several ranks have made it.
MIDDLE_PX = 2048
#: Coarser rings have too few points to tell where the image ends.
COARSEST_RING = 4


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far two halves agree.

    Attributes:
        correlation: Fourier ring correlation of rings 0 to Nyquist.
        one_bit, half_bit: the curves that it has to exceed, for the same rings.
        side_px: side of the images; ring k has k / side_px cycles per pixel.
        resolution_px: period of the first ring below the curve of half a bit; 2 where none is.
        to_nyquist: no ring is below it.
    """

    correlation: Float64[np.ndarray, " ring"]
    one_bit: Float64[np.ndarray, " ring"]
    half_bit: Float64[np.ndarray, " ring"]
    side_px: int
    resolution_px: float
    to_nyquist: bool

    @property
    def mean_correlation(self) -> float:
        """Mean over the rings of the coarser half of all frequencies, where an image is an image."""
        return float(self.correlation[1 : max(2, len(self.correlation) // 2)].mean())


def used_part(scan: Scan, result: Reconstruction) -> Scan:
    """Return the frames that a result used, at its positions, to start from its probe."""
    numbers = np.arange(scan.n_frames) if scan.frame_numbers is None else scan.frame_numbers
    here = np.flatnonzero(result.frames_used[numbers])
    part = scan if here.size == scan.n_frames else scan.select(here)
    return replace(
        part,
        positions_px=result.positions_px[numbers[here]],
        probe=result.probe,
        probe_source="given",
        frame_numbers=None,
        all_positions_px=None,
    )


def halves_worth_it(scan: Scan) -> str:
    """Say why two halves of a scan cannot be compared; an empty text where they can."""
    if scan.n_frames < 2 * FEWEST_FRAMES:
        return f"{scan.n_frames} frames are too few for two halves"
    first = scan.positions_px[split_frames(scan.positions_px)[0]]
    overlap = overlap_fraction(first, scan.probe)
    if overlap < LEAST_OVERLAP:
        return f"the frames of a half overlap by {100 * overlap:.0f} % only"
    return ""


def halves_are_sparse(scan: Scan) -> bool:
    """Whether the frames of a half share so little light that without a prior it is worse than the whole."""
    first = scan.positions_px[split_frames(scan.positions_px)[0]]
    return overlap_fraction(first, scan.probe) < SPARSE_OVERLAP


def agreement_of_halves(
    scan: Scan,
    result: Reconstruction,
    execution: SolverExecutionConfig | None = None,
    *,
    with_prior: bool = False,
    ranks: Ranks = ALONE,
) -> Agreement | None:
    """Reconstruct each half of the frames with little effort from the result's probe, and compare the
    objects.

    Args:
        scan: whose frames the result explains. result: brings the probe and the positions.
        with_prior: with the usual effort and a prior, as the whole was made.
        ranks: that make each half together; rank 0 compares the middle of large ones, and tells the others.

    Returns:
        None where the objects have no common part to compare.
    """
    start = used_part(scan, result)
    config = SolverConfig(
        effort="default" if with_prior else "fast",
        probe_search=False,
        probe_modes=len(result.probe),
        leave_out_frames=False,
        frame_intensity=result.frame_intensity is not None,
    )
    parts = [start.select(numbers) for numbers in split_frames(start.positions_px)]
    execution = execution or SolverExecutionConfig()
    if ranks.count > 1:
        halves = [solve(part, config, execution, judged=False, ranks=ranks) for part in parts]
        return _compared_by_first(halves, ranks)
    one, other = solved_at_the_same_time(parts, config, execution)
    placed = on_common_canvas(one, other)
    return None if placed is None else _compared(*placed[:3])


def _compared_by_first(halves: Sequence[Reconstruction], ranks: Ranks) -> Agreement | None:
    """Compare two halves of which rank 0 has the whole object; all ranks get the answer."""
    told: list[Any] | None = None  # Any: the fields of an `Agreement`
    if ranks.is_first:
        one, other = (_middle_of(half) for half in halves)
        placed = on_common_canvas(one, other)
        agreement = None if placed is None else _compared(*placed[:3])
        told = None if agreement is None else [getattr(agreement, one.name) for one in fields(Agreement)]
    told = ranks.from_first(told)
    return None if told is None else Agreement(*told)


def _middle_of(result: Reconstruction) -> Reconstruction:
    """Cut a large object to its middle, which tells as much and is read from its file alone."""
    first = [max(0, (side - MIDDLE_PX) // 2) for side in result.object.shape]
    box = tuple(slice(at, at + MIDDLE_PX) for at in first)
    return replace(
        result,
        object=np.array(result.object[box]),
        coverage=np.array(result.coverage[box]),
        origin_px=result.origin_px + np.array(first, np.float64),
    )


def solved_at_the_same_time(
    parts: Sequence[Scan],
    config: SolverConfig,
    execution: SolverExecutionConfig,
    callbacks: Sequence[Callback] = (),
) -> list[Reconstruction]:
    """Solve each part for its image alone; on a CPU at the same time, each with a thread of its own."""
    arrays, _ = choose_arrays(execution)
    image_of = partial(solve, config=config, callbacks=tuple(callbacks), judged=False)
    if arrays.name != "numpy":
        return [image_of(part, execution=execution) for part in parts]
    alone = execution.model_copy(update={"threads": 1})
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(partial(image_of, execution=alone), parts))


def on_common_canvas(
    one: Reconstruction, other: Reconstruction
) -> (
    tuple[
        Complex64[np.ndarray, "h w"],
        Complex64[np.ndarray, "h w"],
        Bool[np.ndarray, "h w"],
        tuple[int, int],
    ]
    | None
):
    """Lay two objects over each other by their origins, cut to what both illuminate.

    Returns:
        Both objects, where both are illuminated, and the pixel (row, column) of the first object's canvas at
        which the cut begins; None where they have too little in common.
    """
    # Only the other object is resampled, onto the pixels of the first.
    moved, origin_px = on_whole_pixels(other.object, other.origin_px - one.origin_px)
    objects, origins = (one.object, moved), (np.zeros(2), origin_px)
    low = np.minimum(*origins)
    high = np.maximum(*(origin + obj.shape for obj, origin in zip(objects, origins, strict=True)))
    height, width = (high - low).astype(int)
    canvases, illuminated = [], np.ones((height, width), bool)
    for obj, origin, result in zip(objects, origins, (one, other), strict=True):
        corner = (low - origin).astype(int)
        canvas, light = np.ones((height, width), np.complex64), np.zeros((height, width), np.float32)
        paste(canvas, obj, corner)
        paste(light, result.coverage, corner)
        canvases.append(canvas)
        illuminated &= light > ILLUMINATED * light.max(initial=0)
    rows, columns = np.flatnonzero(illuminated.any(axis=1)), np.flatnonzero(illuminated.any(axis=0))
    if rows.size < SMALLEST_SIDE_PX or columns.size < SMALLEST_SIDE_PX:
        return None
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    corner = int(low[0]) + int(rows[0]), int(low[1]) + int(columns[0])
    return canvases[0][box], canvases[1][box], illuminated[box], corner


def _compared(
    one: Complex64[np.ndarray, "h w"],
    other: Complex64[np.ndarray, "h w"],
    illuminated: Bool[np.ndarray, "h w"],
) -> Agreement:
    between = np.where(illuminated, one * other.conj(), 0).astype(np.complex64)
    moved = other * phase_ramp(other.shape, linear_ramp(between, illuminated))
    factor = np.vdot(moved[illuminated], one[illuminated]) / max(
        np.vdot(moved[illuminated], moved[illuminated]).real, 1e-30
    )
    images = [windowed(image.astype(np.complex128), illuminated) for image in (one, factor * moved)]
    curve = ring_correlation(*images, reach="nyquist")
    side_px = min(one.shape)
    # An object that fills a part of the image has as many fewer independent values in a ring.
    points = np.maximum(2 * np.pi * np.arange(len(curve)) * float(illuminated.mean()), 1.0)
    one_bit, half_bit = _bits(points, 1.0), _bits(points, 0.5)
    # A ring of few points says little, and a single one below the curve is no end of the image.
    above = np.convolve(np.pad(curve - half_bit, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    ring = first_crossing(above, 0.0, first_ring=min(COARSEST_RING, len(above) - 1))
    to_nyquist = ring >= len(curve)
    return Agreement(
        correlation=curve,
        one_bit=one_bit,
        half_bit=half_bit,
        side_px=side_px,
        resolution_px=2.0 if to_nyquist else side_px / max(ring, 1.0),
        to_nyquist=to_nyquist,
    )


def _bits(points: Float64[np.ndarray, " ring"], bits: float) -> Float64[np.ndarray, " ring"]:
    """Correlation of two halves in a ring where both together carry so many bits a point."""
    # Signal to noise of a half, of which both together have twice: 2 ** bits - 1 = 2 snr.
    snr = (2.0**bits - 1) / 2
    root = np.sqrt(snr)
    return (snr + (2 * root + 1) / np.sqrt(points)) / (1 + snr + 2 * root / np.sqrt(points))
