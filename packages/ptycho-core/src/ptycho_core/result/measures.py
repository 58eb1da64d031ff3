"""What can be measured on a result without the truth, from some of its frames; nothing is judged here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Complex64, Float32, Float64
from scipy.optimize import nnls
from scipy.special import gammaln

from ptycho_core.physics.residual import AmplitudeSource, PredictedAmplitude
from ptycho_core.physics.variations import ProbeVariations
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import mean_and_good, signal_pixels, whole_counts

__all__ = [
    "MOST_MODULI",
    "Explanation",
    "Sample",
    "frames_sampled",
    "measure",
    "measures_of",
    "modulus_sampled",
    "noise_of_amplitude",
]

#: Frames of so many pixels, evenly spread, tell as much as all of them.
SAMPLED_PIXELS = 1 << 19
FEWEST_SAMPLED, MOST_SAMPLED = 8, 64
#: Pixels of the object whose moduli are judged, about.
MOST_MODULI = 400_000
WELL_ILLUMINATED = 0.1


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a result says of the frames of its scan.

    Attributes:
        on_canvas_px: (M, 2) of index N/2 of each window.
        residual_per_frame: (M,), NaN where there is no light.
        frame_intensity: (M,) over the mean of all frames, where it was found.
        variations: of the probe from frame to frame, where they were found.
    """

    object: Complex64[np.ndarray, "height width"]
    probe: Complex64[np.ndarray, "mode n n"]
    on_canvas_px: Float64[np.ndarray, "frame 2"]
    coverage: Float32[np.ndarray, "height width"]
    residual_per_frame: Float32[np.ndarray, " frame"]
    frame_intensity: Float64[np.ndarray, " frame"] | None = None
    variations: ProbeVariations | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """Some frames of a scan and of an object, which tell as much as all of them.

    Attributes:
        chosen: (k,) numbers of the frames.
        amplitude, predicted: (k, N, N) as measured and, up to a factor, as the result has them.
        modulus: (n,) of illuminated pixels of the object.
    """

    chosen: np.ndarray
    amplitude: Float32[np.ndarray, "chosen n n"]
    predicted: Float32[np.ndarray, "chosen n n"]
    modulus: np.ndarray


def frames_sampled(scan: Scan) -> np.ndarray:
    """Return the numbers (k,) of frames spread evenly over the scan, few of large ones."""
    wanted = min(max(SAMPLED_PIXELS // scan.frame_px**2, FEWEST_SAMPLED), MOST_SAMPLED, scan.n_frames)
    return np.unique(np.linspace(0, scan.n_frames - 1, wanted).astype(int))


def measure(scan: Scan, explained: Explanation, frames: AmplitudeSource | None = None) -> dict[str, float]:
    """Measure how a result explains its frames, and whether it looks like a physical object and probe.

    Fit and noise are those of the pixels that carry signal: however large the empty part of a detector is,
    and whatever its dark counts are, it does not decide.

    Returns:
        `residual`: R over the signal pixels of some frames. `noise_floor`: R that photon noise alone leaves
        there (missing where the values are no photon counts), if the prediction is right. `mean_residual`: R
        of the mean pattern in the place of every frame. `unexplained`: what is left between noise (0) and the
        mean pattern (1), which has the intensity of each frame where that was found. `amplitude_high`,
        `amplitude_low`: modulus of the object that 1 % of the illuminated pixels exceed, stay below.
        `probe_off_centre`, `probe_extent`: centre of the probe against the middle of its window, and its
        root-mean-square radius, as parts of the window's side. `probe_at_edge`: part of its power in the
        outer sixteenth of the window. `uneven`: residual of the frames beyond all but 5 % over that of the
        median one.
    """
    chosen = frames_sampled(scan)
    source = scan if frames is None else frames
    intensity = None if explained.frame_intensity is None else explained.frame_intensity[chosen]
    sample = Sample(
        chosen,
        np.concatenate([source.amplitude(slice(i, i + 1)) for i in chosen.tolist()]),
        PredictedAmplitude(
            explained.object,
            explained.probe,
            explained.on_canvas_px[chosen],
            frame_intensity=intensity,
            variations=None if explained.variations is None else explained.variations.select(chosen),
        )(slice(0, len(chosen))),
        modulus_sampled(explained.object, explained.coverage),
    )
    return measures_of(scan, sample, explained.probe, explained.residual_per_frame, explained.frame_intensity)


def measures_of(
    scan: Scan,
    sample: Sample,
    probe: Complex64[np.ndarray, "mode n n"],
    residual_per_frame: Float32[np.ndarray, " frame"],
    frame_intensity: Float64[np.ndarray, " frame"] | None,
) -> dict[str, float]:
    """Measure as `measure` does, with a sample at hand."""
    amplitude, predicted, chosen = sample.amplitude, sample.predicted, sample.chosen
    mean, good = mean_and_good(scan)
    signal = signal_pixels(mean, good)
    weight = np.broadcast_to(signal, amplitude.shape)
    if scan.bad_pixels is not None and scan.bad_pixels.ndim == 3:
        weight = scan.good_pixels(chosen) & signal
    measures = _probe(probe) | _object(sample.modulus)
    intensity = None if frame_intensity is None else frame_intensity[chosen]
    fit = _fit(amplitude, predicted, weight)
    if fit is None:
        return measures
    known = _as_of_equal_frames(residual_per_frame, frame_intensity)
    measures["residual"] = fit.residual
    if known.size:
        measures["uneven"] = float(np.percentile(known, 95) / max(float(np.median(known)), 1e-9))
    pattern = np.broadcast_to(np.sqrt(mean).astype(np.float32), amplitude.shape)
    if intensity is not None:
        pattern = pattern * np.sqrt(intensity).astype(np.float32)[:, None, None]
    of_the_mean = _fit(amplitude, pattern, weight)
    measures["mean_residual"] = 1.0 if of_the_mean is None else of_the_mean.residual
    floor = 0.0
    if scan.counts_per_photon is not None or whole_counts(amplitude):
        counts = np.square(fit.scale * predicted[weight])
        noise = float(noise_of_amplitude(counts, scan.read_noise).sum(dtype=np.float64))
        floor = noise / float(amplitude[weight].sum(dtype=np.float64))
        measures["noise_floor"] = floor
        measures["over_noise"] = fit.residual / max(floor, 1e-9)
    measures["unexplained"] = (fit.residual - floor) / max(measures["mean_residual"] - floor, 1e-3)
    return {name: float(value) for name, value in measures.items()}


def _as_of_equal_frames(
    residual: Float32[np.ndarray, " frame"], frame_intensity: Float64[np.ndarray, " frame"] | None
) -> Float64[np.ndarray, " known"]:
    """Return the residual of the frames with light, as if all had the mean intensity.

    The noise of a frame is a larger part of it where the beam was weaker: R is a + b / sqrt(intensity).
    """
    known = np.isfinite(residual)
    found = residual[known].astype(np.float64)
    if frame_intensity is None or found.size == 0:
        return found
    root = np.sqrt(np.maximum(frame_intensity[known], 1e-6))
    wrong, noise = nnls(np.stack([np.ones(found.size), 1 / root], axis=1), found)[0]
    return found * (wrong + noise) / np.maximum(wrong + noise / root, 1e-30)


@dataclass(frozen=True, eq=False)
class _Fit:
    """R of a prediction, and the factor on it."""

    residual: float
    scale: float


def _fit(amplitude: np.ndarray, predicted: np.ndarray, weight: np.ndarray) -> _Fit | None:
    """Compare frames with a prediction over the pixels with a weight; None without any light."""
    seen, model = amplitude * weight, predicted * weight
    power = float(np.square(model).sum(dtype=np.float64))
    measured = float(seen.sum(dtype=np.float64))
    if not (measured > 0 and power > 0):
        return None
    scale = float((seen * model).sum(dtype=np.float64)) / power
    distance = float(np.abs(seen - np.float32(scale) * model).sum(dtype=np.float64))
    return _Fit(distance / measured, scale)


def noise_of_amplitude(
    counts: Float32[np.ndarray, "..."], read_noise: float = 0.0
) -> Float32[np.ndarray, "..."]:
    """Mean of |sqrt(n) - sqrt(m)| for Poisson counts n of mean m plus read noise, in photons."""
    return np.interp(counts, *_noise_table(round(read_noise, 3))).astype(np.float32)


@cache
def _noise_table(read_noise: float) -> tuple[Float64[np.ndarray, " mean"], Float64[np.ndarray, " mean"]]:
    means = np.concatenate([[0.0], np.geomspace(1e-3, 60, 120)])
    n = np.arange(200)
    with np.errstate(divide="ignore"):
        chances = np.exp(n * np.log(np.maximum(means, 1e-300))[:, None] - means[:, None] - gammaln(n + 1))
    nodes, weights = np.polynomial.hermite_e.hermegauss(31 if read_noise else 1)
    seen = np.sqrt(np.maximum(n[:, None] + read_noise * nodes, 0))
    away = np.abs(seen - np.sqrt(means)[:, None, None]) @ (weights / weights.sum())
    return np.append(means, 1e30), np.append((chances * away).sum(axis=1), 1 / np.sqrt(2 * np.pi))


def modulus_sampled(
    obj: Complex64[np.ndarray, "height width"],
    coverage: Float32[np.ndarray, "height width"],
    *,
    brightest: float | None = None,
    most: int = MOST_MODULI,
) -> Float32[np.ndarray, " pixel"]:
    """Return the modulus of well illuminated pixels, of many only some.

    Args:
        brightest: coverage, where the largest one lies elsewhere.
        most: about so many of them.
    """
    limit = WELL_ILLUMINATED * (coverage.max(initial=0) if brightest is None else brightest)
    illuminated = coverage > limit
    return np.abs(obj[illuminated][:: max(1, int(illuminated.sum()) // most)])


def _object(modulus: np.ndarray) -> dict[str, float]:
    if not modulus.size:
        modulus = np.ones(1)
    low, middle, high = np.percentile(modulus, (1, 50, 99))
    return {
        "amplitude_low": low,
        "amplitude_middle": middle,
        "amplitude_high": high,
        "amplitude_spread": float(modulus.std() / max(float(modulus.mean()), 1e-9)),
    }


def _probe(probe: Complex64[np.ndarray, "mode n n"]) -> dict[str, float]:
    power = (np.abs(probe).astype(np.float64) ** 2).sum(axis=0)
    power /= max(float(power.sum()), 1e-30)
    n = len(power)
    pixel = np.arange(n) - n // 2
    centre = np.array([power.sum(axis=1) @ pixel, power.sum(axis=0) @ pixel])
    square = power.sum(axis=1) @ (pixel - centre[0]) ** 2 + power.sum(axis=0) @ (pixel - centre[1]) ** 2
    edge = max(1, n // 16)
    return {
        "probe_off_centre": float(np.hypot(*centre)) / n,
        "probe_extent": float(np.sqrt(max(square, 0.0))) / n,
        "probe_at_edge": 1 - float(power[edge:-edge, edge:-edge].sum()),
    }
