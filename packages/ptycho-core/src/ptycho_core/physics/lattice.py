"""What an exact raster leaves open besides: a pattern with the period of its steps.

Let f be any function with the periods of the raster. Every frame sees P(r - r_j) O(r), and P f times O / f is
the same wave for all of them, since f(r - r_j) = f(r): frames cannot tell how such a pattern is shared
between probe and object, and a solver leaves dots at every scan point in the object. Samples hardly ever
have the period of the scan, so the pattern goes to the probe.

Source: the ambiguity of a raster, P. Thibault, M. Dierolf, O. Bunk, A. Menzel and F. Pfeiffer,
Ultramicroscopy 109 (2009) 338, 10.1016/j.ultramic.2008.12.011; that it is a gauge, and its fixing, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex64, Complex128, Float32, Float64
from scipy import ndimage
from scipy.spatial import KDTree

from ptycho_core.physics.canvas import row_bands

__all__ = ["Lattice", "hand_over_lattice", "lattice_of"]

FEWEST_FRAMES = 16
#: A position may stand so far from its lattice point; jitter of more breaks the ambiguity.
LARGEST_MISFIT_PX = 0.05
SMALLEST_STEP_PX = 3.0
#: Part of the largest coverage above which a pixel counts.
WELL_ILLUMINATED = 0.3
#: Fainter ones, by the standard deviation of the logarithm of their modulus, are noise.
FAINTEST_PATTERN = 0.005
#: Side of the part of a large object, about its middle, whose cells are averaged.
AVERAGED_PX = 1024


@dataclass(frozen=True, eq=False)
class Lattice:
    """The points of an exact raster: origin + whole numbers times the two steps.

    Attributes:
        steps_px: (2, 2), a step (y, x) in each row. origin_px: (y, x) of one point.
    """

    steps_px: Float64[np.ndarray, "2 2"]
    origin_px: Float64[np.ndarray, " 2"]

    def cell(self, points_px: Float64[np.ndarray, "*shape 2"]) -> Float64[np.ndarray, "*shape 2"]:
        """Return where points (y, x) lie in their cell, from 0 to 1 along each step."""
        along = (points_px - self.origin_px) @ np.linalg.inv(self.steps_px)
        return along - np.floor(along)


def lattice_of(positions_px: Float64[np.ndarray, "frame 2"]) -> Lattice | None:
    """Return the lattice on which all positions stand; None where they are no exact raster."""
    if len(positions_px) < FEWEST_FRAMES:
        return None
    away, near = KDTree(positions_px).query(positions_px, k=5)
    steps = (positions_px[np.asarray(near)[:, 1:]] - positions_px[:, None]).reshape(-1, 2)
    length = np.asarray(away)[:, 1:].ravel()
    if not length.min() > 0:
        return None
    first = steps[int(np.argmin(length))]
    across = np.abs(steps[:, 0] * first[1] - steps[:, 1] * first[0]) / np.linalg.norm(first)
    aside = np.flatnonzero(across > 0.3 * np.linalg.norm(first))
    if not aside.size:
        return None
    basis = np.stack([first, steps[aside[int(np.argmin(length[aside]))]]])
    origin = positions_px[0]
    for _ in range(3):
        whole = np.rint((positions_px - origin) @ np.linalg.inv(basis))
        table = np.column_stack([whole, np.ones(len(whole))])
        if np.linalg.matrix_rank(table) < 3:
            return None
        found = np.linalg.lstsq(table, positions_px, rcond=None)[0]
        basis, origin = found[:2], found[2]
        if abs(np.linalg.det(basis)) < SMALLEST_STEP_PX**2:
            return None
    misfit = np.linalg.norm(positions_px - (whole @ basis + origin), axis=1).max()
    return Lattice(basis, origin) if misfit < LARGEST_MISFIT_PX else None


def hand_over_lattice(
    obj: Complex64[np.ndarray, "rows columns"],
    probe: Complex64[np.ndarray, "mode n n"],
    coverage: Float32[np.ndarray, "rows columns"],
    lattice: Lattice,
    window_px: Float64[np.ndarray, " 2"],
) -> tuple[Complex64[np.ndarray, "rows columns"], Complex64[np.ndarray, "mode n n"]]:
    """Move the pattern with the period of the raster from the object to the probe; every wave stays as it is.

    Args:
        coverage: light on each pixel of the object.
        lattice: in the coordinates of the canvas.
        window_px: canvas coordinate (y, x) of index [0, 0] of one frame's window.
    """
    part = middle_part(obj.shape)
    pattern = lattice_pattern(
        obj[part], coverage[part] > WELL_ILLUMINATED * coverage.max(initial=0), lattice, part
    )
    if pattern is None:
        return obj, probe
    return without_pattern(obj, pattern, lattice), with_pattern(probe, pattern, lattice, window_px)


def middle_part(shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the part of a canvas, about its middle, that tells the pattern."""
    return _middle(shape[0]), _middle(shape[1])


def lattice_pattern(
    obj: Complex64[np.ndarray, "h w"],
    illuminated: Bool[np.ndarray, "h w"],
    lattice: Lattice,
    part: tuple[slice, slice],
) -> Complex128[np.ndarray, "bins bins"] | None:
    """Return the pattern that all cells of an object share; None where it is noise, or nothing is lit.

    Args:
        part: rows and columns of the canvas that the object fills.
    """
    if not illuminated.any():
        return None
    bins = max(2, round(float(np.sqrt(abs(np.linalg.det(lattice.steps_px))))))
    pattern = _pattern(obj, illuminated, lattice.cell(_grid(*part)), bins)
    return None if float(np.log(np.abs(pattern)).std()) < FAINTEST_PATTERN else pattern


def without_pattern(
    obj: Complex64[np.ndarray, "rows columns"],
    pattern: Complex128[np.ndarray, "bins bins"],
    lattice: Lattice,
    corner: tuple[int, int] = (0, 0),
) -> Complex64[np.ndarray, "rows columns"]:
    """Return the object without a pattern.

    Args:
        corner: (y, x) pixel of the canvas at which the object begins.
    """
    even = np.empty_like(obj)
    columns = slice(corner[1], corner[1] + obj.shape[1])
    for band in row_bands(obj.shape):
        rows = slice(corner[0] + band.start, corner[0] + band.stop)
        even[band] = obj[band] / _sampled(pattern, lattice.cell(_grid(rows, columns)))
    return even


def with_pattern(
    probe: Complex64[np.ndarray, "mode n n"],
    pattern: Complex128[np.ndarray, "bins bins"],
    lattice: Lattice,
    window_px: Float64[np.ndarray, " 2"],
) -> Complex64[np.ndarray, "mode n n"]:
    """Return the probe with a pattern that the object gave away."""
    whole = slice(0, probe.shape[-1])
    return (probe * _sampled(pattern, lattice.cell(_grid(whole, whole) + window_px))).astype(np.complex64)


def _middle(side_px: int) -> slice:
    first = max(0, (side_px - AVERAGED_PX) // 2)
    return slice(first, min(side_px, first + AVERAGED_PX))


def _grid(rows: slice, columns: slice) -> Float64[np.ndarray, "rows columns 2"]:
    return np.moveaxis(np.mgrid[rows, columns], 0, -1).astype(np.float64)


def _pattern(
    obj: np.ndarray, illuminated: np.ndarray, cell: np.ndarray, bins: int
) -> Complex128[np.ndarray, "bins bins"]:
    """Average ln|O| and the phase of O beyond their local means over all cells."""
    weight = illuminated.astype(np.float64)
    light = np.maximum(ndimage.gaussian_filter(weight, bins), 1e-6)

    def smooth(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values * weight, bins) / light

    modulus = np.log(np.maximum(np.abs(obj), 1e-3))
    modulus = modulus - smooth(modulus)
    turn = obj * np.conj(smooth(np.real(obj)) + 1j * smooth(np.imag(obj)))
    turn = turn / np.maximum(np.abs(turn), 1e-30)
    place = np.floor(cell * bins + 0.5).astype(int) % bins
    index = (place[..., 0] * bins + place[..., 1])[illuminated]
    size = bins * bins
    count = np.maximum(np.bincount(index, minlength=size), 1)
    mean = np.bincount(index, modulus[illuminated], size) / count
    phase = np.angle(
        np.bincount(index, turn.real[illuminated], size)
        + 1j * np.bincount(index, turn.imag[illuminated], size)
    )
    return np.exp(mean - mean.mean() + 1j * (phase - phase.mean())).reshape(bins, bins)


def _sampled(pattern: np.ndarray, cell: np.ndarray) -> Complex128[np.ndarray, "rows columns"]:
    where = [cell[..., axis] * len(pattern) for axis in (0, 1)]
    real, imaginary = (
        ndimage.map_coordinates(part, where, order=1, mode="grid-wrap")
        for part in (np.real(pattern), np.imag(pattern))
    )
    return real + 1j * imaginary
