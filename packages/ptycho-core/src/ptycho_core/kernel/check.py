"""Does a library that a compiler made do what the formulas say? Asked once, before it is kept.

The same step in NumPy, with one transform a frame and direction and no thought of speed; see
docs/reference/physics.md, "The step".
"""

from __future__ import annotations

import ctypes

import numpy as np

from ptycho_core.kernel.step import FusedStep, Steps

__all__ = ["largest_error", "reference_step"]

_STEPS = Steps(object_step=0.7, probe_step=0.9, object_momentum=0.8, probe_momentum=0.6)
#: Sides whose radices are 4 and 8; 3, 4; and 4, 5.
_SIDES = (32, 48, 80)
_OFFSET = 0.01
_FLOOR = 0.25


def largest_error(library: ctypes.CDLL) -> float:
    """Return the largest relative difference from NumPy over some small steps; NaN where there is one."""
    return float(
        np.max([_error_of(library, side, n_modes=1 + index % 2) for index, side in enumerate(_SIDES)])
    )


def _error_of(library: ctypes.CDLL, side: int, *, n_modes: int) -> float:
    random = np.random.default_rng(side)
    n_frames, n_basis, canvas = 7, 3, (side + 9, side + 21)
    larger = random.uniform(0, 2, (n_frames, side + 6, side + 7)).astype(np.float32)
    given = {
        "amplitude": larger[:, 2:-4, 5:-2],
        "good": (random.uniform(size=(side, side)) > 0.1).astype(np.float32),
        "filters": _complex(random, (n_basis, side, side)),
        "shift_weights": random.normal(size=(n_frames, n_basis)).astype(np.float32),
        "corners": random.integers(0, (10, 22), (n_frames, 2)),
    }
    state = {
        "spectrum": _complex(random, (n_modes, side, side)),
        "spectrum_velocity": _complex(random, (n_modes, side, side)),
        "obj": _complex(random, canvas),
        "object_velocity": _complex(random, canvas),
    }
    expected = {name: values.astype(np.complex128) for name, values in state.items()}
    fused = FusedStep(
        library, **given, offset=_OFFSET, object_floor=_FLOOR, largest_batch=n_frames, threads=2
    )
    window = (slice(0, canvas[0]), slice(0, canvas[1]))
    misfit = fused(slice(0, n_frames), window, _STEPS, **state)
    expected_misfit = reference_step(**given, offset=_OFFSET, floor=_FLOOR, steps=_STEPS, **expected)
    errors = [abs(misfit / expected_misfit - 1)]
    errors += [np.abs(state[k] - expected[k]).max() / np.abs(expected[k]).max() for k in state]
    return float(np.max(errors))


def reference_step(
    *,
    amplitude: np.ndarray,
    good: np.ndarray,
    filters: np.ndarray,
    shift_weights: np.ndarray,
    corners: np.ndarray,
    offset: float,
    floor: float,
    steps: Steps,
    spectrum: np.ndarray,
    spectrum_velocity: np.ndarray,
    obj: np.ndarray,
    object_velocity: np.ndarray,
) -> float:
    """Take one step in float64, in place, on all frames at once; return the misfit before it."""
    side, n_frames = amplitude.shape[-1], len(amplitude)
    windows = [np.s_[y : y + side, x : x + side] for y, x in corners.tolist()]
    patches = np.stack([obj[window] for window in windows])
    basis = np.fft.ifft2(spectrum[:, None] * filters, norm="ortho")
    light = np.square(np.abs(np.fft.ifft2(spectrum, norm="ortho"))).sum(axis=0)
    probes = np.einsum("fk,mkyx->mfyx", shift_weights, basis)
    waves = np.fft.fft2(probes * patches, norm="ortho")
    modulus = np.sqrt(np.square(np.abs(waves)).sum(axis=0) + offset)
    changes = np.fft.ifft2(waves * (good * (amplitude / modulus - 1)), norm="ortho")
    to_probe = np.einsum("fk,mfyx->mkyx", shift_weights, patches.conj() * changes)
    coverage, gradient = np.zeros(obj.shape), np.zeros(obj.shape, complex)
    for window, pulled in zip(windows, (probes.conj() * changes).sum(axis=0), strict=True):
        coverage[window] += light
        gradient[window] += pulled
    object_velocity *= steps.object_momentum
    object_velocity += steps.object_step * gradient / (coverage + floor * coverage.max())
    obj += object_velocity
    spectrum_velocity *= steps.probe_momentum
    pulled_back = (filters.conj() * np.fft.fft2(to_probe, norm="ortho")).sum(axis=1)
    spectrum_velocity += pulled_back * (steps.probe_step / n_frames)
    spectrum += spectrum_velocity
    return float(np.abs(good * (amplitude - modulus)).sum())


def _complex(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)
