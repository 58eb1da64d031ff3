"""Scans with known truth: an object, a probe and a path become Poisson counts.

The truth is exact: the probe moves by fractions of a pixel in Fourier space, the object is cut at whole
pixels, the propagation is the orthonormal transform; that is the model of `ptycho_core.physics.residual`.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float64

from ptycho_config.errors import ConfigError
from ptycho_config.naming import shown
from ptycho_core.given import expect
from ptycho_core.io import scan_from_arrays
from ptycho_core.scan import Scan
from ptycho_core.simulate.objects import ObjectKind, make_object
from ptycho_core.simulate.positions import PositionKind, make_positions, step_for_overlap_px
from ptycho_core.simulate.probes import ProbeKind, effective_diameter_px, make_probe
from ptycho_core.simulate.start_probe import StartKind, make_start_probe

__all__ = ["SimulatedScan", "simulate_scan", "simulate_twin"]

#: Canvas pixels around the windows of all frames.
_MARGIN_PX = 4
_CHUNK_PIXELS = 1 << 21


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """A scan with what it was made of.

    Attributes:
        scan: counts, positions and the start probe; its `ground_truth` is `obj`.
        obj: (H, W) true object; pixel [i, j] is scan coordinate (i, j).
        probe: (P, N, N) true modes, sum |P|^2 = expected counts per frame of a transparent object.
        dose: expected counts of each frame, background not included.
        overlap: linear overlap of neighbouring frames that was asked for, None for given positions.
    """

    scan: Scan
    obj: Complex64[np.ndarray, "height width"]
    probe: Complex64[np.ndarray, "mode n n"]
    dose: Float64[np.ndarray, " frame"]
    overlap: float | None


def simulate_scan(
    *,
    object_kind: ObjectKind = "polygons",
    probe_kind: ProbeKind = "focus",
    position_kind: PositionKind = "spiral",
    start_kind: StartKind = "scan-like",
    overlap: float = 0.7,
    photons: float = 1e6,
    frames: int = 200,
    frame_px: int = 64,
    modes: int = 1,
    background: float = 0.0,
    bad_pixel_fraction: float = 0.0,
    seed: int = 0,
) -> SimulatedScan:
    """Simulate a scan.

    Args:
        start_kind: how wrong the start probe is that comes with the scan.
        overlap: linear overlap of neighbouring frames, 1 - step / effective probe diameter.
        photons: mean counts per frame.
        background: flat background as a part of `photons`.
        bad_pixel_fraction: part of the pixels that read garbage and are marked as bad.
    Raises:
        ConfigError: an unknown kind, or a number outside its range; names it.
        TypeError: an argument has another type.

    Example:
        >>> made = simulate_scan(object_kind="star", frames=20, photons=1e5, seed=3)
        >>> made.scan.n_frames, made.scan.frame_px
        (20, 64)
    """
    kinds = (object_kind, probe_kind, position_kind, start_kind)
    for value in kinds:
        expect(value, str, "simulate_scan", "the name of a kind, as text")
    for value in (overlap, photons, background, bad_pixel_fraction):
        expect(value, Real, "simulate_scan", "a number")
    for value in (frames, frame_px, modes, seed):
        expect(value, Integral, "simulate_scan", "a whole number")
    # No machine holds more; the kinds have narrower bounds of their own.
    _require(8 <= frame_px <= 1 << 15, "frame_px", frame_px, "8 to 32768")
    _require(frames <= 1 << 30, "frames", frames, "at most 1073741824")
    _require(photons > 0, "photons", photons, "more than 0")
    _require(background >= 0, "background", background, "0 or more")
    _require(0 <= bad_pixel_fraction < 0.5, "bad_pixel_fraction", bad_pixel_fraction, "0 to below 0.5")
    _require(seed >= 0, "seed", seed, "0 or more")
    random = np.random.default_rng(seed)
    probe = make_probe(probe_kind, frame_px, random, n_modes=modes)
    step = step_for_overlap_px(overlap, effective_diameter_px(probe))
    positions = make_positions(position_kind, frames, step, random) + frame_px // 2 + _MARGIN_PX
    shape = _canvas_shape(positions, frame_px)
    obj = make_object(object_kind, shape, random)
    start = make_start_probe(start_kind, probe[0], random)
    return _measured(
        obj,
        probe,
        positions,
        start,
        photons=photons,
        background=background,
        bad_pixel_fraction=bad_pixel_fraction,
        random=random,
        name=f"{object_kind}-{probe_kind}-{position_kind}",
        overlap=overlap,
    )


def simulate_twin(
    real_scan: Scan,
    probe: Complex64[np.ndarray, "mode n n"],
    *,
    object_kind: ObjectKind = "discs",
    seed: int = 0,
) -> SimulatedScan:
    """Simulate the twin of a real scan: its positions and mean counts, a given probe, another object.

    The start probe is the real scan's own, as wrong as it is there.

    Source: docs/reference/physics.md, "Simulation".
    """
    _require(seed >= 0, "seed", seed, "0 or more")
    random = np.random.default_rng(seed)
    positions = real_scan.positions_px - real_scan.positions_px.min(axis=0)
    positions = positions + real_scan.frame_px // 2 + _MARGIN_PX
    obj = make_object(object_kind, _canvas_shape(positions, real_scan.frame_px), random)
    unit = (probe / np.linalg.norm(probe)).astype(np.complex64)
    return _measured(
        obj,
        unit,
        positions,
        real_scan.probe,
        photons=real_scan.mean_counts_per_frame(),
        background=0.0,
        bad_pixel_fraction=0.0,
        random=random,
        name=f"{real_scan.name}-twin",
        overlap=None,
    )


def _require(holds: bool, name: str, value: float | int, expected: str) -> None:
    if not holds:
        raise ConfigError(f"`{name}` is {shown(value)}. Expected {expected}.")


def _canvas_shape(positions_px: np.ndarray, frame_px: int) -> tuple[int, int]:
    last = np.ceil(positions_px.max(axis=0)).astype(int) + frame_px // 2 + _MARGIN_PX
    return int(last[0]), int(last[1])


def _measured(
    obj: np.ndarray,
    probe: np.ndarray,
    positions_px: np.ndarray,
    start: np.ndarray,
    *,
    photons: float,
    background: float,
    bad_pixel_fraction: float,
    random: np.random.Generator,
    name: str,
    overlap: float | None,
) -> SimulatedScan:
    """Expose every frame, scale to the dose, draw the counts."""
    n = probe.shape[-1]
    frames = np.empty((len(positions_px), n, n), np.float32)
    chunk = max(1, _CHUNK_PIXELS // n**2)
    for first in range(0, len(frames), chunk):
        part = slice(first, first + chunk)
        frames[part] = expected_intensity(obj, probe, positions_px[part])
    dose = frames.sum(axis=(1, 2), dtype=np.float64)
    scale = photons / dose.mean()
    counts = np.empty(frames.shape, np.uint32)
    for first in range(0, len(frames), chunk):
        part = slice(first, first + chunk)
        counts[part] = random.poisson(frames[part] * scale + background * photons / n**2)
    bad = None
    if bad_pixel_fraction > 0:
        bad = random.random((n, n)) < bad_pixel_fraction
        counts[:, bad] = random.integers(0, 1 << 20, (len(counts), int(bad.sum())))
    scan = scan_from_arrays(
        counts,
        positions_px,
        start,
        measurement="counts",
        dc="center",
        bad_pixels=bad,
        bad_frames="off",
        name=name,
        ground_truth=obj,
        metadata={"physics_parameters": {"nphotons": photons, "N": n}},
    )
    modes = (probe * np.sqrt(scale)).astype(np.complex64)
    return SimulatedScan(scan=scan, obj=obj, probe=modes, dose=dose * scale, overlap=overlap)


def expected_intensity(
    obj: Complex64[np.ndarray, "height width"],
    probe: Complex64[np.ndarray, "mode n n"],
    positions_px: Float64[np.ndarray, "frame 2"],
) -> np.ndarray:
    """Expected intensity (frame, n, n) of frames at positions on the object's canvas, DC in the centre."""
    n = probe.shape[-1]
    corners = positions_px - n // 2
    whole = np.floor(corners + 0.5).astype(np.int64)
    rest = corners - whole
    k = scipy.fft.fftfreq(n)
    phases = np.exp(-2j * np.pi * k * rest[..., None]).astype(np.complex64)
    shift = phases[:, 0, :, None] * phases[:, 1, None, :]
    pixel = np.arange(n)
    patches = obj[whole[:, 0, None, None] + pixel[:, None], whole[:, 1, None, None] + pixel]
    total = np.zeros((len(positions_px), n, n), np.float32)
    for spectrum in scipy.fft.fft2(probe):
        waves = scipy.fft.fft2(scipy.fft.ifft2(spectrum * shift) * patches, norm="ortho")
        total += np.square(np.abs(waves))
    return scipy.fft.fftshift(total, axes=(1, 2))
