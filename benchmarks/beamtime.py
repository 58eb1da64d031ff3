"""Scans with the faults of a real beamtime: two real ones, and a simulated one whose truth is known."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fidelity import scores
from positions import wrong

from ptycho_core import Scan, open_scan, scan_from_arrays
from ptycho_core.physics.residual import data_residual
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.simulate.scan import expected_intensity

__all__ = ["MODES", "BeamtimeScan", "Found", "beamtime_scan", "faulty_scan", "judged", "position_errors_px"]

MODES = 3
JITTER_PX = 2.0
#: How far the wavefront tilts between begin and end of the simulated scan, in pixels of the detector, and how much
#: its focus breathes: phase in radians at the frequency that the probe has on the mean.
TILT_PX, BREATH_RAD = 0.6, 0.5
#: The beam fades to this part, and flickers from frame to frame by so much (rms).
FADES_TO, FLICKER = 0.6, 0.1
#: Flat counts, as a part of those of a frame.
BACKGROUND = 0.03
PHOTONS = 1e6


@dataclass(frozen=True, eq=False)
class BeamtimeScan:
    """A scan as it is given to everybody, with what is known of it.

    Attributes:
        true_px: (M, 2) true positions. strain_is_known: whether they are true to a stretch, turn or shear.
        made: object and probe where they are known. intensity: (M,) of mean 1 where it is known.
    """

    name: str
    scan: Scan
    true_px: np.ndarray
    strain_is_known: bool = True
    made: SimulatedScan | None = None
    intensity: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What a method found; `centres_px` are canvas coordinates of index N/2 of the windows."""

    obj: np.ndarray
    probe: np.ndarray
    centres_px: np.ndarray
    intensity: np.ndarray | None


def beamtime_scan(name: str, frames: int | None = None) -> BeamtimeScan | None:
    """Open or simulate a scan by name; None where its file is not here.

    Args:
        name: `star`, `labyrinth` or `simulated`. frames: only the first so many.
    """
    if name == "simulated":
        return faulty_scan(frames=frames or 300, frame_px=128)
    if name == "labyrinth":
        path = Path(os.environ.get("PTYCHO_DATA_DIR", ".")) / "labyrinth.npz"
        if not path.is_file():
            return None
        scan = open_scan(path, dc="corner")
        with np.load(path, allow_pickle=False) as file:
            given = file["scan_given"].astype(np.float64)
        opened = BeamtimeScan(name, scan.moved_to(given), scan.positions_px)
    else:
        scan = open_scan("siemens-star")
        moved = scan.moved_to(wrong(scan.positions_px, JITTER_PX, 0, 0))
        opened = BeamtimeScan(name, moved, scan.positions_px, strain_is_known=False)
    if frames is None:
        return opened
    part = np.arange(min(frames, scan.n_frames))
    return replace(opened, scan=opened.scan.select(part), true_px=opened.true_px[part])


def faulty_scan(*, frames: int, frame_px: int, seed: int = 3) -> BeamtimeScan:
    """Simulate three modes, jitter, a probe that drifts, a beam that fades and flickers, and a flat background.

    The probe tilts and breathes, but does not move: that would be the positions' again.
    """
    made = simulate_scan(
        frames=frames, frame_px=frame_px, modes=MODES, photons=PHOTONS, overlap=0.8, seed=seed
    )
    random = np.random.default_rng(seed)
    intensity = np.linspace(1, FADES_TO, frames) * (1 + FLICKER * random.standard_normal(frames))
    intensity = np.maximum(intensity, 0.1)
    intensity /= intensity.mean()
    true_px = made.scan.positions_px
    counts = np.empty((frames, frame_px, frame_px), np.uint32)
    for frame, probe in enumerate(drifting_probes(made.probe, frames, random)):
        expected = expected_intensity(made.obj, probe, true_px[frame : frame + 1])[0] * intensity[frame]
        counts[frame] = random.poisson(expected + BACKGROUND * PHOTONS / frame_px**2)
    scan = scan_from_arrays(
        counts,
        wrong(true_px, JITTER_PX, 0, 0),
        made.scan.probe,
        measurement="counts",
        dc="center",
        bad_frames="off",
        name="beamtime",
        ground_truth=made.obj,
    )
    return BeamtimeScan("simulated", scan, true_px, made=made, intensity=intensity)


def drifting_probes(probe: np.ndarray, frames: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """The probe (P, N, N) of every frame: it tilts steadily and breathes twice, with some noise; same power."""
    n = probe.shape[-1]
    spectrum = np.fft.fft2(probe)
    k = np.fft.fftfreq(n)
    square = k[:, None] ** 2 + k[None, :] ** 2
    power = (np.abs(spectrum) ** 2).sum(axis=0)
    relative = square / ((power * square).sum() / power.sum())
    along = (np.arange(n) - n / 2) / n
    time = np.linspace(-0.5, 0.5, frames)
    tilt = TILT_PX * (time[:, None] * np.array([1.0, -0.7]) + 0.1 * random.standard_normal((frames, 2)))
    breath = BREATH_RAD * (np.sin(4 * np.pi * time) + 0.1 * random.standard_normal(frames))
    for (y, x), phase in zip(tilt, breath, strict=True):
        ramp = np.exp(2j * np.pi * (y * along[:, None] + x * along[None, :]))
        yield (np.fft.ifft2(spectrum * np.exp(1j * phase * relative)) * ramp).astype(np.complex64)


def position_errors_px(found_px: np.ndarray, true_px: np.ndarray) -> tuple[float, float]:
    """Mean distance to the true positions behind a common shift, and behind the best stretch, turn and shear too."""
    off = found_px - true_px
    shifted = off - off.mean(axis=0)
    known = np.column_stack([true_px - true_px.mean(axis=0), np.ones(len(true_px))])
    strained = off - known @ np.linalg.lstsq(known, off, rcond=None)[0]
    return tuple(float(np.linalg.norm(rest, axis=1).mean()) for rest in (shifted, strained))


def judged(found: Found, case: BeamtimeScan) -> dict[str, float]:
    """How good it is: R under both sub-pixel models, errors of positions, and of the object where it is known.

    R is that of object, the probe that all frames share, and the intensity of each frame. What is not finite is the
    worst that there is.
    """
    if not all(np.isfinite(part).all() for part in (found.obj, found.probe, found.centres_px)):
        keys = ("R_probe_fourier", "R_object_bilinear", "position_error_px", "unstrained_error_px")
        return dict.fromkeys((*keys, "error") if case.made else keys, float("inf"))
    values = {
        f"R_{model}": data_residual(
            found.obj,
            found.probe,
            found.centres_px,
            case.scan,
            subpixel=model,
            frame_intensity=found.intensity,
        ).value
        for model in ("probe_fourier", "object_bilinear")
    }
    shifted, unstrained = position_errors_px(found.centres_px, case.true_px)
    values |= {"position_error_px": shifted, "unstrained_error_px": unstrained}
    if case.intensity is not None and found.intensity is not None and np.ptp(found.intensity) > 0:
        values["intensity_correlation"] = float(np.corrcoef(found.intensity, case.intensity)[0, 1])
    if case.made is not None:
        origin = (case.true_px - found.centres_px).mean(axis=0)
        values["error"] = scores(found.obj, origin, case.made)["error"]
    return values
