"""The optics, slow and plain: the reference by which every core and solver is judged.

A probe P stands at position c and lights a patch of the object O; the wave behind it travels to the
detector, which counts photons:

    interaction    psi = P * O[patch at c]          (N, N) exit wave, one for each incoherent mode
    propagation    Psi = F psi                      orthonormal FFT, zero frequency at [N/2, N/2]
    measurement    I   = sum over modes |Psi|^2     counts, if the probe's power is in counts

Each linear step has its adjoint right beneath it: <A x, y> = <x, A* y> with <a, b> = sum conj(a) b. All is
float64 and complex128. Index N/2 of a patch lies on the position; positions are (y, x) in canvas pixels
(docs/reference/physics.md, "Pixel convention"). A patch at whole pixels is a copy; the rest of a position
moves the probe by a Fourier shift, or the object by bilinear interpolation (`translate`). How group members
share an object: `group_object`.

No scale is hidden here (NORMALIZATION-001): intensities are in the unit of the probe's power.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Complex128, Float64, Inexact, Int, Integer
from scipy.fft import fft2, fftfreq, fftshift, ifft2, ifftshift

from ptycho_config.errors import DataError

YX = (-2, -1)

# Positions


def whole_and_rest(
    positions_px: Inexact[np.ndarray, "frame 2"],
) -> tuple[Int[np.ndarray, "frame 2"], Float64[np.ndarray, "frame 2"]]:
    """Split positions into the nearest whole pixel (halves upwards) and a rest in [-1/2, 1/2)."""
    whole = np.floor(np.asarray(positions_px, np.float64) + 0.5)
    return whole.astype(np.int64), positions_px - whole


# Cutting patches, whole pixels


def cut_patches(
    obj: Complex[np.ndarray, "h w"], pixels: Integer[np.ndarray, "frame 2"], side: int
) -> Complex128[np.ndarray, "frame {side} {side}"]:
    """Cut the patches whose index side/2 lies on the given canvas pixels.

    patch[i, j] = O[cy - side/2 + i, cx - side/2 + j]

    Raises:
        DataError: a patch leaves the canvas.
    """
    patches = np.empty((len(pixels), side, side), np.complex128)
    for patch, window in zip(patches, _windows(obj.shape, pixels, side), strict=True):
        patch[:] = obj[window]
    return patches


def place_patches(
    patches: Complex[np.ndarray, "frame n n"], pixels: Integer[np.ndarray, "frame 2"], shape: tuple[int, int]
) -> Complex128[np.ndarray, "h w"]:
    """Add patches into an empty canvas where they were cut. Adjoint of `cut_patches`."""
    canvas = np.zeros(shape, np.complex128)
    for patch, window in zip(patches, _windows(shape, pixels, patches.shape[-1]), strict=True):
        canvas[window] += patch
    return canvas


def _windows(shape: tuple[int, ...], pixels: np.ndarray, side: int) -> list[tuple[slice, slice]]:
    corners = pixels - side // 2
    leaves = (corners < 0).any(axis=1) | (corners + side > np.array(shape)).any(axis=1)
    if leaves.any():
        frame = int(np.flatnonzero(leaves)[0])
        raise DataError(
            f"the {side} px window of frame {frame} around pixel {tuple(pixels[frame].tolist())} leaves the "
            f"canvas of shape {tuple(shape)}; use a larger canvas or positions relative to its pixel [0, 0]"
        )
    return [(slice(y, y + side), slice(x, x + side)) for y, x in corners.tolist()]


# Moving fields by fractions of a pixel


def shift_probe(
    probe: Complex[np.ndarray, "*mode n n"], shift_px: Inexact[np.ndarray, "2"]
) -> Complex128[np.ndarray, "*mode n n"]:
    """Move a field by a Fourier shift: content goes by +shift_px (y, x), around the edges."""
    return ifft2(fft2(probe.astype(np.complex128)) * _shift_ramp(probe.shape[-1], shift_px))


def shift_probe_adjoint(
    field: Complex[np.ndarray, "*mode n n"], shift_px: Inexact[np.ndarray, "2"]
) -> Complex128[np.ndarray, "*mode n n"]:
    """Move back: the adjoint of `shift_probe` is also its inverse."""
    return ifft2(fft2(field.astype(np.complex128)) * _shift_ramp(field.shape[-1], shift_px).conj())


def _shift_ramp(n: int, shift_px: np.ndarray) -> np.ndarray:
    k = fftfreq(n)
    return np.exp(-2j * np.pi * (k[:, None] * shift_px[0] + k[None] * shift_px[1]))


def translate(
    field: Inexact[np.ndarray, "h w"], shift_px: Inexact[np.ndarray, "2"]
) -> Inexact[np.ndarray, "h w"]:
    """Move an image by bilinear interpolation: (T_t f)[y, x] = f(y - t_y, x - t_x).

    Content goes by +t; outside the image it is 0, each of the four neighbours by itself. Whole shifts are
    exact.

    Source: docs/reference/physics.md, "Moving by fractions of a pixel".
    """
    moved = np.zeros(field.shape, np.result_type(field, np.float64))
    for whole, weight in _neighbours(shift_px):
        into, out_of = _overlap(field.shape, whole)
        moved[into] += weight * field[out_of]
    return moved


def translate_adjoint(
    field: Inexact[np.ndarray, "h w"], shift_px: Inexact[np.ndarray, "2"]
) -> Inexact[np.ndarray, "h w"]:
    """Adjoint of `translate`, which is the translation by the opposite shift."""
    gathered = np.zeros(field.shape, np.result_type(field, np.float64))
    for whole, weight in _neighbours(shift_px):
        into, out_of = _overlap(field.shape, whole)
        gathered[out_of] += weight * field[into]
    return gathered


def _neighbours(shift_px: np.ndarray) -> list[tuple[tuple[int, int], float]]:
    """The whole shifts around a shift, with their weights; those of weight 0 are left out."""
    (y, x), (fy, fx) = np.floor(shift_px).astype(int).tolist(), (shift_px - np.floor(shift_px)).tolist()
    weights = {(y, x): (1 - fy) * (1 - fx), (y + 1, x): fy * (1 - fx)}
    weights |= {(y, x + 1): (1 - fy) * fx, (y + 1, x + 1): fy * fx}
    return [(whole, weight) for whole, weight in weights.items() if weight]


def _overlap(
    shape: tuple[int, ...], whole: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where content lands, and where it comes from, when an image moves by whole pixels."""
    (height, width), (down, right) = shape, whole
    into = _reached(height, down), _reached(width, right)
    return into, (_reached(height, -down), _reached(width, -right))


def _reached(side_px: int, shift_px: int) -> slice:
    """The pixels of one side that content of the same side reaches when it moves."""
    return slice(max(0, shift_px), max(0, side_px + min(0, shift_px)))


# Interaction


def interact(
    probe: Complex[np.ndarray, "*mode n n"], object_patch: Complex[np.ndarray, "n n"]
) -> Complex128[np.ndarray, "*mode n n"]:
    """Multiply probe and patch: the exit wave of each mode."""
    return probe.astype(np.complex128) * object_patch


def interact_adjoint_object(
    probe: Complex[np.ndarray, "*mode n n"], exit_wave: Complex[np.ndarray, "*mode n n"]
) -> Complex128[np.ndarray, "n n"]:
    """Adjoint in the object: sum over the modes of conj(P) psi."""
    field = probe.astype(np.complex128).conj() * exit_wave
    return field.reshape(-1, *field.shape[-2:]).sum(axis=0)


def interact_adjoint_probe(
    object_patch: Complex[np.ndarray, "n n"], exit_wave: Complex[np.ndarray, "*mode n n"]
) -> Complex128[np.ndarray, "*mode n n"]:
    """Adjoint in the probe: conj(O) psi for each mode."""
    return object_patch.astype(np.complex128).conj() * exit_wave


# Propagation


def propagate(exit_wave: Complex[np.ndarray, "*mode n n"]) -> Complex128[np.ndarray, "*mode n n"]:
    """Carry waves to the far field: energy is kept, zero frequency lands on [N/2, N/2]."""
    wave = ifftshift(exit_wave.astype(np.complex128), axes=YX)
    return fftshift(fft2(wave, norm="ortho"), axes=YX)


def propagate_adjoint(detector_wave: Complex[np.ndarray, "*mode n n"]) -> Complex128[np.ndarray, "*mode n n"]:
    """Carry waves back: the adjoint of `propagate` is also its inverse."""
    wave = ifftshift(detector_wave.astype(np.complex128), axes=YX)
    return fftshift(ifft2(wave, norm="ortho"), axes=YX)


# Measurement


def measure(detector_wave: Complex[np.ndarray, "*mode n n"]) -> Float64[np.ndarray, "n n"]:
    """Add up the modes incoherently: I = sum over modes |Psi|^2."""
    power = np.abs(detector_wave.astype(np.complex128)) ** 2
    return power.reshape(-1, *power.shape[-2:]).sum(axis=0)


def measure_gradient(
    detector_wave: Complex[np.ndarray, "*mode n n"], by_intensity: Float64[np.ndarray, "n n"]
) -> Complex128[np.ndarray, "*mode n n"]:
    """Turn the derivative of a loss by I into its gradient by Psi: 2 dL/dI Psi.

    The measurement is not linear, so this takes the place of its adjoint: for a small change d of the
    wave the loss grows by Re <gradient, d>.
    """
    return 2 * by_intensity * detector_wave.astype(np.complex128)


# The whole way


def intensity(
    obj: Complex[np.ndarray, "h w"],
    probe: Complex[np.ndarray, "*mode n n"],
    positions_on_canvas_px: Inexact[np.ndarray, "frame 2"],
) -> Float64[np.ndarray, "frame n n"]:
    """Predict the frames of a scan, in the unit of the probe's power, DC in the centre.

    The patch is cut at the nearest whole pixel and the probe moved by the rest.

    Args:
        positions_on_canvas_px: (y, x) canvas coordinate of index N/2 of each window.

    Source: docs/reference/physics.md, "Forward model".
    """
    whole, rest = whole_and_rest(positions_on_canvas_px)
    n = probe.shape[-1]
    frames = np.empty((len(whole), n, n))
    patches = cut_patches(obj, whole, n)
    for frame, object_patch, shift_px in zip(frames, patches, rest, strict=True):
        frame[:] = measure(propagate(interact(shift_probe(probe, shift_px), object_patch)))
    return frames
