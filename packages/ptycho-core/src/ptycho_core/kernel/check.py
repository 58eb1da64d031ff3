"""Does a library that a compiler made do what the formulas say? Asked once, before it is kept.

`python -m ptycho_core.kernel.check LIBRARY` writes the largest error: `build` asks in a process of its own.

The same step in NumPy, with one transform a frame and direction and no thought of speed; see
docs/reference/physics.md, "The step".
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import BackendUnavailableError
from ptycho_core.coded_frames import CodedFrames, counts_added
from ptycho_core.kernel.build import opened_library
from ptycho_core.kernel.places import misfits_of_places
from ptycho_core.kernel.proximal import proximal_step
from ptycho_core.kernel.step import BatchResult, FusedStep, Misfit, Steps
from ptycho_core.kernel.strain import strain_products

__all__ = [
    "largest_error",
    "mixed_overlaps",
    "reference_gradient",
    "reference_places",
    "reference_proximal",
    "reference_step",
]

_STEPS = Steps(object_step=0.7, probe_step=0.9, object_momentum=0.8, probe_momentum=0.6)
#: Sides whose radices are 4 and 8; 3, 4; 5, 8; and 2, 7 and 5, 5, 2, which fill no whole vectors.
_SIDES = (32, 48, 40, 14, 50)
_OFFSET = 0.01
_FLOOR = 0.25


def largest_error(library: ctypes.CDLL) -> float:
    """Return the largest relative difference from NumPy over some small steps; NaN where there is one."""
    errors = [_error_of(library, side, index) for index, side in enumerate(_SIDES)]
    others = (_error_of_gradient, _error_of_proximal, _error_of_varied, _error_of_strain, _error_of_places)
    return float(np.max([*errors, *(error_of(library) for error_of in others)]))


def _error_of(library: ctypes.CDLL, side: int, index: int) -> float:
    """Compare a step, and what it says of the frames, with one mode or two and up to two OPR modes."""
    random, n_modes = np.random.default_rng(side), 1 + index % 2
    n_frames, n_filters, n_variations, canvas = 5, 3, index % 3, (side + 9, side + 21)
    larger = random.uniform(0, 2, (n_frames, side + 6, side + 7)).astype(np.float32)
    given = {
        "amplitude": larger[:, 2:-4, 5:-2],
        "good": (random.uniform(size=(side, side)) > 0.1).astype(np.float32),
        "filters": _complex(random, (n_filters, side, side)),
    }
    placed = {
        "weights": random.normal(size=(n_frames, n_filters * (1 + n_variations))).astype(np.float32),
        "corners": random.integers(0, (10, 22), (n_frames, 2)),
    }
    state = {
        "spectrum": _complex(random, (n_modes, side, side)),
        "variations": _complex(random, (n_modes, n_variations, side, side)),
        "spectrum_velocity": _complex(random, (n_modes, side, side)),
        "obj": _complex(random, canvas),
        "object_velocity": _complex(random, canvas),
    }
    expected: dict[str, Any] = {name: values.astype(np.complex128) for name, values in state.items()}
    fused = FusedStep(
        library, **given, offset=_OFFSET, object_floor=_FLOOR, largest_batch=n_frames, threads=2
    )
    window = (slice(0, canvas[0]), slice(0, canvas[1]))
    found = fused(
        slice(0, n_frames), window, _STEPS, **placed, **state, with_overlaps=True, with_curvature=True
    )
    right = reference_step(**given, **placed, offset=_OFFSET, floor=_FLOOR, steps=_STEPS, **expected)
    pairs: list[Any] = [(np.array(found.misfit), np.array(right.misfit))]
    pairs += [(found.overlaps, right.overlaps), (found.curvature, right.curvature)]
    pairs += [(state[name], expected[name]) for name in state]
    return float(np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in pairs if b.size]))


def _error_of_varied(library: ctypes.CDLL) -> float:
    """Compare the sum over basis functions with that of spectra, where filters are products of lines."""
    random, side, n_frames, canvas = np.random.default_rng(3), 20, 5, (28, 31)
    lines, filters, moves = _products_of_lines(random, side, n_frames)
    mix = random.uniform(0.5, 1.5, (n_frames, 3, 1))
    given = {
        "amplitude": random.uniform(0, 3, (n_frames, side, side)).astype(np.float32),
        "good": np.ones((side, side), np.float32),
        "filters": filters,
    }
    placed = {
        "weights": (mix * moves[:, None]).reshape(n_frames, -1).astype(np.float32),
        "corners": random.integers(0, (8, 11), (n_frames, 2)),
    }
    state: dict[str, Any] = {
        "spectrum": _complex(random, (2, side, side)),
        "variations": _complex(random, (2, 2, side, side)),
        "spectrum_velocity": _complex(random, (2, side, side)),
        "obj": _complex(random, canvas),
        "object_velocity": _complex(random, canvas),
    }
    expected: dict[str, Any] = {name: values.astype(np.complex128) for name, values in state.items()}
    fused = FusedStep(
        library,
        **given,
        offset=_OFFSET,
        object_floor=_FLOOR,
        largest_batch=n_frames,
        threads=2,
        lines=lines,
    )
    window = (slice(0, canvas[0]), slice(0, canvas[1]))
    found = fused(slice(0, n_frames), window, _STEPS, **placed, **state, with_overlaps=True)
    right = reference_step(**given, **placed, offset=_OFFSET, floor=_FLOOR, steps=_STEPS, **expected)
    pairs_of: list[Any] = [(found.overlaps, mixed_overlaps(right.overlaps, moves, mix[..., 0]))]
    pairs_of += [(state[name], expected[name]) for name in state]
    return float(np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in pairs_of]))


def _products_of_lines(
    random: np.random.Generator, side: int, n_frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lines (3, n), the filters (6, n, n) that they make, and weights (frames, 6) of the same form."""
    lines = random.normal(size=(3, side)).astype(np.float32)
    line = lines * np.array([1, 1j, 1])[:, None]
    along = random.normal(size=(2, n_frames, 3))
    along[:, :, 0] = 1
    pairs = [(a, b) for a in range(3) for b in range(3 - a)]
    filters = np.stack([np.outer(line[a], line[b]) for a, b in pairs]).astype(np.complex64)
    return lines, filters, np.stack([along[0, :, a] * along[1, :, b] for a, b in pairs], axis=1)


def _error_of_strain(library: ctypes.CDLL) -> float:
    """Compare the products of derivatives by a strain and by phases of the spectrum."""
    random, side, n_frames, canvas = np.random.default_rng(4), 20, 5, (30, 33)
    lines, filters, moves = _products_of_lines(random, side, 3)
    given = {
        "amplitude": random.uniform(0, 3, (n_frames, side, side)).astype(np.float32),
        "good": (random.uniform(size=(n_frames, side, side)) > 0.1).astype(np.float32),
        "filters": filters,
    }
    state = {
        "weights": (random.normal(size=(3, 2, 1)) * moves[:, None]).reshape(3, -1).astype(np.float32),
        "corners": random.integers(2, (9, 12), (3, 2)),
        "spectrum": _complex(random, (2, side, side)),
        "variations": _complex(random, (2, 1, side, side)),
        "obj": _complex(random, canvas),
    }
    frames, phases = np.array([0, 2, 3]), random.normal(size=(3, side, side)).astype(np.float32)
    how = {"offset": 0.3, "object_floor": _FLOOR, "largest_batch": 1, "threads": 2, "lines": lines}
    fused = FusedStep(library, **given, **how)
    found = fused.strain(frames, phases, **state, count=0.6)
    spectra = np.concatenate([state["spectrum"][:, None], state["variations"]], axis=1)
    right = strain_products(
        state["obj"],
        spectra,
        given["filters"],
        phases,
        corners=state["corners"],
        weights=state["weights"],
        amplitude=given["amplitude"][frames],
        good=given["good"][frames],
        offset=0.3,
        count=0.6,
    )
    size = np.sqrt(np.diag(right))
    return float(np.abs((found - right) / size / size[:, None]).max())


def _error_of_places(library: ctypes.CDLL) -> float:
    """Compare misfits at other places, of whole frames and of folded ones, with masks and without."""
    random, side, n_frames, n_places = np.random.default_rng(5), 28, 3, 4
    probes, obj = _complex(random, (2, n_frames, side, side)), _complex(random, (37, 41))
    corners = random.integers(0, (9, 13), (n_places, n_frames, 2))
    errors = []
    for every, masks in ((1, n_frames), (2, 1), (2, 0)):
        compared = side // every
        good = (random.uniform(size=(n_frames, compared, compared)) > 0.1).astype(np.float32)
        amplitude = random.uniform(0, 30, (n_frames, compared, compared)).astype(np.float32)
        mask = {0: None, 1: good[0]}.get(masks, good)
        amplitude *= 1 if mask is None else mask
        right = reference_places(probes, obj, corners, amplitude, mask, every=every)
        found = misfits_of_places(
            library, probes=probes, obj=obj, corners=corners, amplitude=amplitude, good=mask
        )
        errors.append(np.abs(found / right - 1).max())
    return float(np.max(errors))


def reference_places(
    probes: np.ndarray,
    obj: np.ndarray,
    corners: np.ndarray,
    amplitude: np.ndarray,
    good: np.ndarray | None,
    *,
    every: int,
) -> np.ndarray:
    """Return the misfits (place, frame) with every so many-th pixel of the whole transforms, in float64."""
    side, misfits = probes.shape[-1], np.zeros(corners.shape[:2])
    for place, frame in np.ndindex(*misfits.shape):
        y, x = corners[place, frame]
        waves = np.fft.fft2(probes[:, frame] * obj[y : y + side, x : x + side].astype(complex))
        modulus = np.sqrt(np.square(np.abs(waves[:, ::every, ::every])).sum(axis=0))
        if good is not None:
            modulus *= good if good.ndim == 2 else good[frame]
        seen = amplitude[frame].astype(np.float64)
        scale = (modulus * seen).sum() / np.square(modulus).sum()
        misfits[place, frame] = np.abs(scale * modulus - seen).sum() / seen.sum()
    return misfits


def _error_of_gradient(library: ctypes.CDLL) -> float:
    """Compare misfit and gradients of counts, with a mask for each frame; some in two bytes a pixel."""
    side, n_frames, canvas = 36, 5, (45, 57)
    random = np.random.default_rng(1)
    counts = random.poisson(2.0, (n_frames, side, side)).astype(np.float32)
    counts[:2] *= 1.3  # not whole, so that these are kept in steps
    counts[2, 7, 3], counts[2, 20, 33] = 60_000, 70_000  # in steps with all that is bright
    amplitude = np.sqrt(counts)
    coded = CodedFrames(np.zeros(amplitude.shape, np.uint16))
    coded[:] = amplitude
    sources = {"poisson": amplitude, "roots": coded, "moduli": counts_added(coded, 0.2)}
    given: dict[str, Any] = {
        "good": (random.uniform(size=(n_frames, side, side)) > 0.1).astype(np.float32),
        "filters": _complex(random, (3, side, side)),
    }
    state = {
        "weights": random.normal(size=(n_frames, 6)).astype(np.float32),
        "corners": random.integers(0, (10, 22), (n_frames, 2)),
        "spectrum": _complex(random, (2, side, side)),
        "variations": _complex(random, (2, 1, side, side)),
        "obj": _complex(random, canvas),
    }
    window, errors = (slice(0, canvas[0]), slice(0, canvas[1])), []
    kinds: tuple[Misfit, ...] = ("poisson", "roots", "moduli")
    for misfit in kinds:
        measured = sources[misfit]
        fused = FusedStep(
            library,
            amplitude=measured,
            **given,
            offset=_OFFSET + 0.3,
            object_floor=_FLOOR,
            largest_batch=n_frames,
            threads=2,
            misfit=misfit,
            softening=0.3,
        )
        to_spectrum, to_object = (np.zeros_like(state[name]) for name in ("spectrum", "obj"))
        value = fused.gradient(
            slice(0, n_frames), window, **state, to_spectrum=to_spectrum, to_object=to_object
        )
        expected = reference_gradient(
            amplitude=measured[:], **given, offset=_OFFSET + 0.3, softening=0.3, misfit=misfit, **state
        )
        errors += [abs(value / expected[0] - 1)]
        errors += [
            np.abs(found - right).max() / np.abs(right).max()
            for found, right in zip((to_spectrum, to_object), expected[1:], strict=True)
        ]
    return float(np.max(errors))


def reference_gradient(
    *,
    amplitude: np.ndarray,
    good: np.ndarray,
    filters: np.ndarray,
    weights: np.ndarray,
    corners: np.ndarray,
    offset: float,
    softening: float,
    misfit: Misfit,
    spectrum: np.ndarray,
    variations: np.ndarray,
    obj: np.ndarray,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return a misfit and the way down of the spectra (P, n, n) and the canvas, in float64.

    Args:
        softening: counts added to those measured; not for `moduli`.
    """
    seen = _Prediction(filters, weights, corners, spectrum, variations, obj)
    expected = np.square(np.abs(seen.waves)).sum(axis=0) + offset
    counts = np.square(amplitude.astype(np.float64)) + softening
    if misfit == "moduli":
        off, factor = np.abs(amplitude - np.sqrt(expected)), amplitude / np.sqrt(expected) - 1
    elif misfit == "poisson":
        off, factor = expected - counts + counts * np.log(counts / expected), counts / expected - 1
    else:
        root = np.sqrt(counts / expected)
        off, factor = 2 * expected * np.square(root - 1), 2 * (root - 1)
    pulled = seen.pulled_back(good * factor)
    return float((good * off).sum()), pulled.to_spectrum, pulled.to_object


@dataclass(frozen=True, eq=False)
class _Pulled:
    """What waves on the detector are for the spectra (P, n, n), the variations (P, L, n, n), the canvas, and
    the weights (f, (1 + L) K) of each frame."""

    to_spectrum: np.ndarray
    to_variations: np.ndarray
    to_object: np.ndarray
    overlaps: np.ndarray


class _Prediction:
    """The waves of all frames on the detector, in float64, and the way back."""

    def __init__(
        self,
        filters: np.ndarray,
        weights: np.ndarray,
        corners: np.ndarray,
        spectrum: np.ndarray,
        variations: np.ndarray,
        obj: np.ndarray,
    ) -> None:
        side = spectrum.shape[-1]
        self._filters, self._weights, self._shape = filters, weights, obj.shape
        self.windows = [np.s_[y : y + side, x : x + side] for y, x in corners.tolist()]
        self._patches = np.stack([obj[window] for window in self.windows]).astype(np.complex128)
        spectra = np.concatenate([spectrum[:, None], variations], axis=1)
        basis = np.fft.ifft2(spectra[:, :, None] * filters, norm="ortho")
        self._basis = basis.reshape(len(spectrum), -1, side, side)
        self._probes = np.einsum("fk,mkyx->mfyx", weights, self._basis)
        self.waves = np.fft.fft2(self._probes * self._patches, norm="ortho")

    def pulled_back(self, factor: np.ndarray) -> _Pulled:
        """Return what waves times a factor (f, n, n) are for all that made them."""
        changes = np.fft.ifft2(self.waves * factor, norm="ortho")
        to_probes = self._patches.conj() * changes
        to_basis = np.einsum("fk,mfyx->mkyx", self._weights, to_probes)
        to_parts = to_basis.reshape(len(to_basis), -1, *self._filters.shape)
        to_spectra = (self._filters.conj() * np.fft.fft2(to_parts, norm="ortho")).sum(axis=2)
        to_object = np.zeros(self._shape, complex)
        for window, pulled in zip(self.windows, (self._probes.conj() * changes).sum(axis=0), strict=True):
            to_object[window] += pulled
        overlaps = np.einsum("mkyx,mfyx->fk", self._basis.conj(), to_probes).real
        return _Pulled(to_spectra[:, 0], to_spectra[:, 1:], to_object, overlaps)


def _error_of_proximal(library: ctypes.CDLL) -> float:
    random = np.random.default_rng(2)
    rows, columns = 19, 45
    given = {
        "target": _complex(random, (rows, columns)),
        "weight": random.uniform(0.5, 4, (rows, columns)).astype(np.float32),
        "strength": random.uniform(0.1, 2, (rows, columns)).astype(np.float32),
        "smooth": 0.1,
    }
    image, dual = _complex(random, (rows, columns)), np.zeros((2, rows, columns), np.complex64)
    expected = reference_proximal(**given, image=image, dual=dual, iterations=7)
    proximal_step(library, **given, image=image, dual=dual, iterations=7, threads=2)
    return max(
        float(np.abs(found - right).max()) for found, right in zip((image, dual), expected, strict=True)
    )


def reference_proximal(
    *,
    target: np.ndarray,
    weight: np.ndarray,
    strength: np.ndarray,
    smooth: float,
    image: np.ndarray,
    dual: np.ndarray,
    iterations: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return image (H, W) and dual variable (2, H, W) after some iterations, in float64."""
    image, dual, weight = image.astype(complex), dual.astype(complex), weight.astype(np.float64)
    least = weight.copy()
    least[:-1] = np.minimum(least[:-1], weight[1:])
    least[:, :-1] = np.minimum(least[:, :-1], weight[:, 1:])
    climb, ahead = least / 4, image
    for _ in range(iterations):
        gradient = np.zeros_like(dual)
        gradient[0, :-1], gradient[1, :, :-1] = np.diff(ahead, axis=0), np.diff(ahead, axis=1)
        dual = (dual + climb * gradient) / (1 + climb * smooth / strength)
        modulus = np.sqrt(np.square(np.abs(dual)).sum(axis=0))
        dual = dual * strength / np.maximum(modulus, strength)
        sources = dual[0] + dual[1]
        sources[1:] -= dual[0, :-1]
        sources[:, 1:] -= dual[1, :, :-1]
        moved = (image + sources / (2 * weight) + target) / 2
        ahead, image = 2 * moved - image, moved
    return image, dual


def mixed_overlaps(overlaps: Any, moves: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """Return what a frame's weights, products of moves (f, K) and a mix (f, 1 + L), make of its overlaps."""
    each = overlaps.reshape(*mix.shape, -1)
    return np.hstack([np.einsum("flk,fk->fl", each, moves), np.einsum("flk,fl->fk", each, mix)])


def reference_step(
    *,
    amplitude: np.ndarray,
    good: np.ndarray,
    filters: np.ndarray,
    weights: np.ndarray,
    corners: np.ndarray,
    offset: float,
    floor: float,
    steps: Steps,
    spectrum: np.ndarray,
    spectrum_velocity: np.ndarray,
    variations: np.ndarray,
    obj: np.ndarray,
    object_velocity: np.ndarray,
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> BatchResult:
    """Take one step in float64, in place, on all frames at once; return what it says of the frames.

    Args:
        window: rows and columns of the canvas that count for the slopes of the object.
    """
    seen = _Prediction(filters, weights, corners, spectrum, variations, obj)
    light = np.square(np.abs(np.fft.ifft2(spectrum, norm="ortho"))).sum(axis=0)
    modulus = np.sqrt(np.square(np.abs(seen.waves)).sum(axis=0) + offset)
    pulled = seen.pulled_back(good * (amplitude / modulus - 1))
    coverage = np.zeros(obj.shape)
    for seen_window in seen.windows:
        coverage[seen_window] += light
    object_velocity *= steps.object_momentum
    object_velocity += steps.object_step * pulled.to_object / (coverage + floor * coverage.max())
    obj += object_velocity
    spectrum_velocity *= steps.probe_momentum
    spectrum_velocity += pulled.to_spectrum * (steps.probe_step / len(amplitude))
    spectrum += spectrum_velocity
    variations += pulled.to_variations * (steps.probe_step / len(amplitude))
    slopes = np.zeros((2, *obj.shape), complex)
    part, inner = obj[window], (slice(None), *window)
    slopes[inner][0, 1:-1] = (part[2:] - part[:-2]) / 2
    slopes[inner][1, :, 1:-1] = (part[:, 2:] - part[:, :-2]) / 2
    products = np.einsum("ayx,byx->abyx", slopes.conj(), slopes).real
    curvature = [np.einsum("abyx,yx->ab", products[:, :, y, x], light) / 2 for y, x in seen.windows]
    misfit = float(np.abs(good * (amplitude - modulus)).sum())
    return BatchResult(misfit, pulled.overlaps, np.array(curvature))


def _complex(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)


def _main() -> None:
    try:
        sys.stdout.write(f"{largest_error(opened_library(Path(sys.argv[1])))}\n")
    except (OSError, AttributeError, BackendUnavailableError) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    _main()
