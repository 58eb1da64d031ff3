"""The data residual R: how far a reconstruction is from the frames that were measured.

    R = sum |k |psi| - sqrt(I)| / sum sqrt(I),    k = sum |psi| sqrt(I) / sum |psi|^2

over all frames and good pixels, psi the orthonormal FFT of probe times object patch (for several modes
|psi|^2 is their sum) and k one number for the whole scan. Where the intensity of each frame was found, |psi|
is multiplied by its root; where the probe varies from frame to frame (OPR), each frame has its own. R needs
no truth and knows nothing of the method that made the object; it judges all of them alike.

Positions between pixels need a model, and it is an argument: `probe_fourier` cuts the object at whole
pixels and moves the probe by the rest with a Fourier shift; `object_bilinear` interpolates the object.

Transforms run in float32, sums in float64. Frames are read and compared in chunks, so that the memory
needed does not grow with a scan that lies on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import scipy.fft
from jaxtyping import Bool, Complex, Complex64, Float32, Float64, Inexact, Real
from numpy.lib.stride_tricks import sliding_window_view

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.naming import shown
from ptycho_core.cores import usable_cores
from ptycho_core.physics.forward import whole_and_rest
from ptycho_core.physics.variations import ProbeVariations

SubpixelModel = Literal["probe_fourier", "object_bilinear"]
SUBPIXEL_MODELS: tuple[SubpixelModel, ...] = ("probe_fourier", "object_bilinear")

CHUNK_BYTES = 2 << 20
"""Complex field per chunk and thread: small enough to stay in a core's cache between the steps."""

KEPT_BYTES = 48 << 20
"""Amplitudes kept between the pass that finds k and the one that needs it; more are predicted twice."""


@runtime_checkable
class AmplitudeSource(Protocol):
    """Whatever hands out measured amplitude, DC in the centre, bad pixels 0; a `Scan` does."""

    def amplitude(self, indices: slice) -> np.ndarray: ...


Frames = Real[np.ndarray, "_ n n"] | AmplitudeSource | Callable[[slice], np.ndarray]


@dataclass(frozen=True, eq=False)
class Residual:
    """R of a reconstruction.

    Attributes:
        value: R of the whole scan; NaN for a scan without a single count.
        scale: k, by which the modelled amplitude was multiplied.
        per_frame: (M,) R restricted to one frame, with the scan's k; NaN for a frame without counts.
    """

    value: float
    scale: float
    per_frame: Float32[np.ndarray, " frame"]


def data_residual(
    obj: Complex[np.ndarray, "h w"],
    probe: Complex[np.ndarray, "*mode n n"],
    positions_on_canvas_px: Inexact[np.ndarray, "frame 2"],
    frames: Frames,
    *,
    subpixel: SubpixelModel = "probe_fourier",
    good_pixels: Bool[np.ndarray, "*_ n n"] | None = None,
    frame_intensity: Float64[np.ndarray, " frame"] | None = None,
    variations: ProbeVariations | None = None,
    threads: int | None = None,
    over_all: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Residual:
    """Compare what object and probe predict with the measured amplitudes.

    Args:
        obj: the object on its canvas; outside it is 0.
        probe: one mode or a stack of incoherent modes, any scale.
        positions_on_canvas_px: (y, x) canvas coordinate of index N/2 of each frame's window, that is
            `positions_px - origin_px`.
        frames: measured amplitude, DC in the centre: a `Scan`, a stack, or a function from a slice of
            frame numbers to a stack. Functions are called from several threads.
        subpixel: the model for positions between pixels.
        good_pixels: True where a pixel counts, DC in the centre, for all frames or for each. By default
            those of the scan, and all pixels where there is none.
        frame_intensity: (M,) of each frame over the mean of all, where it was found; 1 where None.
        variations: of the probe from frame to frame, where they were found.
        threads: chunks worked on at the same time; by default one per core. The result does not depend on it.
        over_all: where these frames are a part of the scan and other processes have the rest: adds up sums
            (k,) float64 over all processes. `value` and `scale` are then those of the whole scan.

    Raises:
        ConfigError: an unknown sub-pixel model.
        DataError: a window lies wholly outside the canvas, or there are more positions than frames.

    Source: docs/reference/physics.md, "Data residual"; the known values on the Siemens star are those of the
    data set's own description.
    """
    if subpixel not in SUBPIXEL_MODELS:
        raise ConfigError(f"`subpixel` is {shown(subpixel)}; choose one of {', '.join(SUBPIXEL_MODELS)}")
    n_frames = len(positions_on_canvas_px)
    centres_px = np.asarray(positions_on_canvas_px, np.float64)
    model = PredictedAmplitude(obj, probe, centres_px, subpixel, frame_intensity, variations)
    measured = _Measured(frames, good_pixels, n_frames)
    chunks = list(_chunks(n_frames, frame_bytes=8 * probe.shape[-1] ** 2))
    keep = n_frames * 4 * probe.shape[-1] ** 2 <= KEPT_BYTES

    def compare(chunk: slice, predicted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        amplitude, good = measured(chunk)
        predicted = model(chunk) if predicted is None else predicted
        if good is not None:
            amplitude, predicted = amplitude * good, predicted * good
        return predicted, amplitude

    def moments(chunk: slice) -> tuple[_Moments, np.ndarray | None]:
        predicted, amplitude = compare(chunk)
        return _Moments.of(predicted, amplitude), predicted if keep else None

    def distance(job: tuple[slice, np.ndarray | None]) -> np.ndarray:
        predicted, amplitude = compare(*job)
        difference = np.multiply(predicted, np.float32(scale), out=predicted)
        np.subtract(difference, amplitude, out=difference)
        return np.abs(difference, out=difference).sum(axis=(1, 2), dtype=np.float64)

    with ThreadPoolExecutor(threads or usable_cores()) as pool:
        first = list(pool.map(moments, chunks))
        cross = sum(m.cross for m, _ in first)
        power = sum(m.power for m, _ in first)
        if over_all is not None:
            cross, power = over_all(np.array([cross, power])).tolist()
        scale = cross / power if power > 0 else 0.0
        distances = np.concatenate(
            list(pool.map(distance, zip(chunks, (kept for _, kept in first), strict=True)))
        )
    measured_sum = np.concatenate([m.measured for m, _ in first])
    counted = measured_sum > 0
    per_frame = np.full(n_frames, np.nan, np.float32)
    per_frame[counted] = distances[counted] / measured_sum[counted]
    distance_sum, total = float(distances.sum()), float(measured_sum.sum())
    if over_all is not None:
        distance_sum, total = over_all(np.array([distance_sum, total])).tolist()
    value = distance_sum / total if total > 0 else float("nan")
    return Residual(value=value, scale=float(scale), per_frame=per_frame)


@dataclass(frozen=True)
class _Moments:
    """The sums over a chunk that k and the denominator of R need."""

    cross: float
    power: float
    measured: Float64[np.ndarray, " frame"]

    @classmethod
    def of(cls, predicted: np.ndarray, amplitude: np.ndarray) -> _Moments:
        per_frame = "fij,fij->f"
        # Within a frame float32 is exact enough; the frames are added up in float64.
        return cls(
            cross=float(np.einsum(per_frame, predicted, amplitude).sum(dtype=np.float64)),
            power=float(np.einsum(per_frame, predicted, predicted).sum(dtype=np.float64)),
            measured=amplitude.sum(axis=(1, 2), dtype=np.float64),
        )


class _Measured:
    """Measured amplitudes and their good pixels, chunk by chunk, wherever they come from."""

    def __init__(self, frames: Frames, good_pixels: np.ndarray | None, n_frames: int):
        if isinstance(frames, np.ndarray):
            self.read: Callable[[slice], np.ndarray] = frames.__getitem__
        elif isinstance(frames, AmplitudeSource):
            self.read = frames.amplitude
        else:
            self.read = frames
        self.read_good = getattr(frames, "good_pixels", None) if good_pixels is None else None
        if good_pixels is not None and good_pixels.ndim == 3 and len(good_pixels) != n_frames:
            raise DataError(
                f"`good_pixels` has {len(good_pixels)} frames, the positions have {n_frames}; "
                "pass one mask of shape (N, N) or one for each frame"
            )
        self.good = good_pixels

    def __call__(self, chunk: slice) -> tuple[np.ndarray, np.ndarray | None]:
        amplitude = np.asarray(self.read(chunk), np.float32)
        if len(amplitude) != chunk.stop - chunk.start:
            raise DataError(
                f"frames {chunk.start} to {chunk.stop} were asked for and {len(amplitude)} came; "
                "give one position for each frame, e.g. `scan.select(indices)` for a part of a scan"
            )
        if self.read_good is not None:
            good = np.asarray(self.read_good(chunk))
        elif self.good is not None:
            good = self.good[chunk] if self.good.ndim == 3 else self.good
        else:
            return amplitude, None
        return amplitude, None if good.all() else good


class PredictedAmplitude:
    """Modelled amplitude of a chunk of frames, DC in the centre, up to one factor for the whole scan."""

    def __init__(
        self,
        obj: np.ndarray,
        probe: np.ndarray,
        centres_px: np.ndarray,
        subpixel: SubpixelModel = "probe_fourier",
        frame_intensity: Float64[np.ndarray, " frame"] | None = None,
        variations: ProbeVariations | None = None,
    ) -> None:
        """Take object, probe, centres (where index N/2 of each window lies) and so on as `data_residual`."""
        n = probe.shape[-1]
        top_left = centres_px - n // 2
        # Whole-pixel corner of each window; the rest is at most half a pixel for the probe's shift
        # (nearest pixel), and non-negative for the interpolation (pixel below).
        corner = whole_and_rest(top_left)[0] if subpixel == "probe_fourier" else np.floor(top_left)
        self.rest = (top_left - corner).astype(np.float32)
        self.frame_px = n
        self.subpixel = subpixel
        side = n if subpixel == "probe_fourier" else n + 1
        self.windows, self.corner = _windows(
            obj.astype(np.complex64, copy=False), corner.astype(np.int64), side
        )
        modes = probe.reshape(-1, n, n).astype(np.complex64)
        # Rolling a spectrum by n/2 multiplies the wave by a checkerboard, and that brings DC of its own
        # transform to index n/2: the patterns come out centred without being moved.
        spectrum = scipy.fft.fftshift(scipy.fft.fft2(modes), axes=(-2, -1))
        self.spectrum = spectrum
        self.frequency = scipy.fft.fftshift(scipy.fft.fftfreq(n)).astype(np.float32)
        self.probe = scipy.fft.ifft2(spectrum)
        self.factor = None if frame_intensity is None else np.sqrt(frame_intensity).astype(np.float32)
        self.varying: tuple[np.ndarray, np.ndarray] | None = None
        if variations is not None:
            further = scipy.fft.fftshift(scipy.fft.fft2(variations.shapes), axes=(-2, -1))
            if subpixel == "object_bilinear":
                further = scipy.fft.ifft2(further)
            self.varying = variations.weights.astype(np.float32), further

    def __call__(self, chunk: slice) -> Float32[np.ndarray, "frame n n"]:
        amplitude = self._of_equal_intensity(chunk)
        if self.factor is not None:
            amplitude *= self.factor[chunk, None, None]
        return amplitude

    def _of_equal_intensity(self, chunk: slice) -> Float32[np.ndarray, "frame n n"]:
        corner, rest = self.corner[chunk], self.rest[chunk]
        patches = self.windows[corner[:, 0], corner[:, 1]]
        if self.subpixel == "object_bilinear":
            modes = self._of_frames(self.probe, chunk)
            return _modulus(mode * _interpolated(patches, rest) for mode in modes)
        along_y = np.exp(-2j * np.pi * self.frequency * rest[:, :1])[:, :, None]
        along_x = np.exp(-2j * np.pi * self.frequency * rest[:, 1:])[:, None, :]
        modes = self._of_frames(self.spectrum, chunk)
        return _modulus(_exit_wave(mode, along_y, along_x, patches) for mode in modes)

    def _of_frames(self, modes: np.ndarray, chunk: slice) -> Iterable[np.ndarray]:
        """Yield each mode (n, n), or (f, n, n) of the frames where they vary."""
        if self.varying is None:
            return modes
        weights, further = self.varying
        return (
            mode + np.tensordot(weights[chunk], more, axes=1)
            for mode, more in zip(modes, further, strict=True)
        )


def _exit_wave(
    spectrum: np.ndarray, along_y: np.ndarray, along_x: np.ndarray, patches: np.ndarray
) -> Complex64[np.ndarray, "frame n n"]:
    """Shift a probe mode by ramps on its spectrum and multiply it with the patches, all in one array."""
    wave = spectrum * along_y
    wave *= along_x
    wave = scipy.fft.ifft2(wave, overwrite_x=True)
    wave *= patches
    return wave


def _interpolated(patches: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Bilinear patches of side n out of whole-pixel patches of side n + 1."""
    fy, fx = rest[:, 0, None, None], rest[:, 1, None, None]
    rows = (1 - fy) * patches[:, :-1] + fy * patches[:, 1:]
    return (1 - fx) * rows[:, :, :-1] + fx * rows[:, :, 1:]


def _modulus(exit_waves: Iterable[np.ndarray]) -> Float32[np.ndarray, "frame n n"]:
    """Amplitude on the detector of incoherent exit waves."""
    intensity: np.ndarray | None = None
    for exit_wave in exit_waves:
        wave = scipy.fft.fft2(exit_wave, norm="ortho", overwrite_x=True)
        part = np.square(wave.real)
        part += np.square(wave.imag, out=wave.imag)
        intensity = part if intensity is None else np.add(intensity, part, out=intensity)
    if intensity is None:
        raise DataError("the probe has no mode; pass an array of shape (N, N) or (P, N, N)")
    return np.sqrt(intensity, out=intensity)


def _windows(obj: np.ndarray, corner: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """View of all windows of the object, zero-padded where windows reach over its edge."""
    height, width = obj.shape
    outside = ((corner <= -side) | (corner >= np.array([height, width]))).any(axis=1)
    if outside.any():
        frame = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"the window of frame {frame} starts at pixel {tuple(corner[frame].tolist())} and lies outside "
            f"the canvas of shape {(height, width)}; pass `positions_px - origin_px` of the same result"
        )
    before = np.maximum(0, -corner.min(axis=0, initial=0))
    after = np.maximum(0, corner.max(axis=0, initial=0) + side - np.array([height, width]))
    if before.any() or after.any():
        obj = np.pad(obj, list(zip(before, after, strict=True)))
    return sliding_window_view(obj, (side, side)), corner + before


def _chunks(n_frames: int, frame_bytes: int) -> Iterator[slice]:
    size = max(1, CHUNK_BYTES // frame_bytes)
    for start in range(0, n_frames, size):
        yield slice(start, min(start + size, n_frames))
