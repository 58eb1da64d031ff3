"""What frames cannot fix about an object, and the conventions that fix it.

A phase, a linear ramp and a shift can move from the object to the probe and back without any frame
noticing. Functions here measure and remove them; `metrics.alignment` finds them between two objects.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Complex, Complex64, Complex128, Float32, Float64, Inexact

from ptycho_core.physics.canvas import row_bands
from ptycho_core.physics.variations import ProbeVariations

#: Part of the largest coverage above which a pixel counts for the mean ramp and phase.
WELL_LIT = 0.1


def linear_ramp(
    obj: Complex[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"] | None = None
) -> Float64[np.ndarray, "2"]:
    """Return the mean phase slope (y, x) of a field in rad per pixel, between -pi and pi.

    The angle of the mean of o[r + 1] conj(o[r]): neighbours are compared, so no phase is unwrapped.
    """
    return np.angle(ramp_sums(obj, region))


def ramp_sums(
    obj: Complex[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"] | None = None
) -> Complex128[np.ndarray, "2"]:
    """Return the sums of o[r + 1] conj(o[r]) along y and x, whose angles are the mean slope."""
    seen = np.ones(obj.shape, bool) if region is None else region
    steps = np.zeros(2, np.complex128)
    for band in row_bands(obj.shape):
        # The pairs of rows that begin in this band reach one row into the next.
        reaching = slice(band.start, band.stop + 1)
        for axis, rows in enumerate((reaching, band)):
            here, there = (np.moveaxis(a[rows], axis, 0) for a in (obj, seen))
            pairs = there[1:] & there[:-1]
            steps[axis] += np.sum((here[1:] * here[:-1].conj())[pairs], dtype=np.complex128)
    return steps


def phase_ramp(
    shape: tuple[int, int], slope: Float64[np.ndarray, "2"], rows: slice = slice(None)
) -> Complex128[np.ndarray, "h w"]:
    """Return exp(i slope . r), slope in rad per pixel (y, x), with r = 0 at index (H // 2, W // 2).

    Args:
        rows: those of the image that are wanted.
    """
    y, x = (np.arange(side) - side // 2 for side in shape)
    return np.exp(1j * slope[0] * y[rows])[:, None] * np.exp(1j * slope[1] * x)[None]


def without_ramp(
    obj: Complex[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"] | None = None
) -> Complex128[np.ndarray, "h w"]:
    """Return the object without its mean phase slope on the region."""
    return obj * phase_ramp(obj.shape, -linear_ramp(obj, region))


def without_mean_phase(
    obj: Complex[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"] | None = None
) -> Complex[np.ndarray, "h w"]:
    """Return the object turned so that the phase of its mean on the region is 0."""
    inside = obj if region is None else obj[region]
    return obj * np.exp(-1j * np.angle(np.sum(inside, dtype=np.complex128)))


def probe_centre_px(probe: Inexact[np.ndarray, "*mode n n"]) -> Float64[np.ndarray, "2"]:
    """Return the centre of mass (y, x) of the probe's intensity, all modes together, in pixels.

    Index N/2 is where the frame's position lies (docs/reference/physics.md, "Pixel convention").
    """
    intensity = np.abs(probe.reshape(-1, *probe.shape[-2:])).astype(np.float64) ** 2
    intensity = intensity.sum(axis=0)
    total = intensity.sum()
    if total == 0:
        return np.array(intensity.shape, np.float64) / 2
    pixel = np.arange(len(intensity))
    return np.array([intensity.sum(axis=1) @ pixel, intensity.sum(axis=0) @ pixel]) / total


def hand_over_ramp(
    obj: Complex64[np.ndarray, "rows columns"],
    probe: Complex64[np.ndarray, "mode n n"],
    coverage: Float32[np.ndarray, "rows columns"],
    *,
    overwrite_obj: bool = False,
) -> tuple[Complex64[np.ndarray, "rows columns"], Complex64[np.ndarray, "mode n n"]]:
    """Hand the object's mean phase ramp and mean phase over to the probe; every modulus stays as it is.

    Args:
        overwrite_obj: change the object where it lies, which spares a copy of the canvas.
    """
    lit_well = coverage > WELL_LIT
    slope = linear_ramp(obj, lit_well)
    turned = obj if overwrite_obj else np.empty_like(obj)
    total = 0j
    for band in row_bands(obj.shape):
        flat = obj[band] * phase_ramp(obj.shape, -slope, band)
        total += np.sum(flat[lit_well[band]])
        turned[band] = flat
    turn = np.exp(-1j * np.angle(total))
    turned *= np.complex64(turn)
    tilted = probe * phase_ramp(probe.shape[-2:], slope) / turn
    return turned, tilted.astype(np.complex64)


def orthogonal_modes(
    probe: Complex64[np.ndarray, "mode n n"], variations: ProbeVariations | None = None
) -> tuple[Complex64[np.ndarray, "mode n n"], ProbeVariations | None]:
    """Mix the modes unitarily so that they are orthogonal and sorted by power, and their variations alike."""
    if len(probe) == 1:
        return probe, variations
    flat = probe.reshape(len(probe), -1).astype(np.complex128)
    _, vectors = np.linalg.eigh(flat.conj() @ flat.T)
    mixing = vectors[:, ::-1].T
    mixed = (mixing @ flat).reshape(probe.shape).astype(np.complex64)
    if variations is None:
        return mixed, None
    shapes = np.tensordot(mixing, variations.shapes, axes=1).astype(np.complex64)
    return mixed, replace(variations, shapes=shapes)
