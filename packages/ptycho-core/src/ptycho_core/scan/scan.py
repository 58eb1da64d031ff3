"""The scan: frames as they were measured, where the probe stood, and what is known beside.

A `Scan` is immutable and was checked once, when it was read (`ptycho_core.io.checked_scan`); what takes one
does not check again. Frames stay as stored, in the file where it allows, until some are asked for.

What is called `bad_pixels` is True where a pixel is bad; what is called `good`, because amplitudes are
multiplied by it, is True where a pixel counts. One becomes the other in `Scan.good_pixels`, and in
`Intake.good` for frames that still come. The `mask` of an NPZ is True where a pixel is good, and is
inverted when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Complex64, Float32, Float64

from ptycho_config.moved import moved_name
from ptycho_config.naming import shown
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.source_file import SourceFile
from ptycho_core.scan.survey import FrameSurvey, frame_chunks, survey_frames

_MOVED = {"scan_from_arrays": "ptycho_core.io"}

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: How many values of frames a notebook reads to show a scan.
_SHOWN_VALUES = 1 << 23

FrameIndices = slice | np.ndarray | list[int] | None


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Scan:
    """A ptychographic scan of M frames of N x N pixels.

    Make one with `ptycho_core.open_scan` from a file or a named data set, or with
    `ptycho_core.scan_from_arrays`; the constructor itself checks nothing.

    Attributes:
        name: the data set's name or the file's stem, for messages and figures.
        frames: (M, N, N) as stored, any real dtype, DC where `dc` says; read from the file in blocks.
        positions_px: (M, 2) float64 (y, x); index N/2 of a frame's window sits here.
        probe: (P, N, N) complex64 start probe, any scale.
        measurement: whether `frames` hold counts or their square root.
        dc: where the zero frequency is in `frames`.
        bad_pixels: bool (N, N) or (M, N, N), True = bad, DC in the centre; None = all good.
        probe_source: where the start probe came from.
        position_convention: what the file had; `positions_px` are always in the index convention.
        position_scale: object pixels in one unit of the positions as stored.
        ground_truth: (H, W) complex64, pixel [i, j] is scan coordinate (i, j).
        patch_truth: (M, N, N) complex64, the true object patch of every frame.
        source, known_sha256: the file, and its checksum where it is known already. origin: the file as it was
            when it was opened; None for arrays in memory.
        pixel_size_m: width of an object pixel. energy_ev: photon energy. distance_m: sample to detector.
        pixel_aspect: height of an object pixel over its width; 1 unless the detector's pixels are oblong.
        counts_per_photon: what the detector gives for a photon, by which `frames` are divided already; None
            where they are taken for photons as they are.
        read_noise: standard deviation of what the detector adds to every pixel, in photons; 0 where none
            was found.
        nphotons: photons per frame that the file declares.
        metadata: the file's own metadata, fit for JSON.
        notes: one sentence for each thing that was decided while it was read, and why.
        frame_numbers: (M,) number of each frame in the file, where some of the file's are left out; else
            None.
        all_positions_px: (L, 2) positions of all L frames of the file then, NaN where there is none.
        n_frames_asked_for: how many of the file's frames were asked for; None where all were.
    """

    name: str
    frames: np.ndarray | LazyFrames
    positions_px: Float64[np.ndarray, "frame 2"]
    probe: Complex64[np.ndarray, "mode n n"]
    measurement: Literal["amplitude", "counts"]
    dc: Literal["center", "corner"]
    bad_pixels: np.ndarray | None = None
    probe_source: Literal["file", "given", "estimated"] = "file"
    position_convention: Literal["index", "center"] = "index"
    position_scale: float = 1.0
    ground_truth: np.ndarray | None = None
    patch_truth: np.ndarray | None = None
    source: Path | None = None
    known_sha256: str | None = None
    origin: SourceFile | None = None
    pixel_size_m: float | None = None
    pixel_aspect: float = 1.0
    energy_ev: float | None = None
    distance_m: float | None = None
    counts_per_photon: float | None = None
    read_noise: float = 0.0
    nphotons: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)  # Any: whatever JSON the file's author chose
    notes: tuple[str, ...] = ()
    frame_numbers: np.ndarray | None = None
    all_positions_px: np.ndarray | None = None
    n_frames_asked_for: int | None = None

    @classmethod
    def from_arrays(cls, *arguments: Any, **settings: Any) -> Scan:
        """Do what `ptycho_core.scan_from_arrays` does; this name goes with the next release."""
        return moved_name(f"{__name__}.Scan", "scan_from_arrays", _MOVED)(*arguments, **settings)

    def __repr__(self) -> str:
        return (
            f"<Scan {self.name}: {self.n_frames} frames of {self.frame_px} x {self.frame_px} px, "
            f"{self.measurement}, zero frequency in the {self.dc}, probe {self.probe_source}>"
        )

    def _repr_html_(self) -> str:
        """Show the mean pattern, the positions and the key figures, as notebooks ask for.

        Of a scan whose frames were not read yet a sample is: no more than a cell can wait for.
        """
        from ptycho_core.scan.display import notebook_html

        known = "_statistics" in vars(self)
        sample = min(self.n_frames, 64, max(1, _SHOWN_VALUES // self.frame_px**2))
        chosen = np.linspace(0, self.n_frames - 1, sample).astype(np.intp)
        pattern = self.mean_pattern() if known else self.counts(chosen).mean(axis=0)
        lines = [repr(self)[1:-1]]
        if self.pixel_size_m:
            lines.append(f"pixel of the object {self.pixel_size_m * 1e9:.4g} nm")
        if self.energy_ev:
            lines.append(f"energy {self.energy_ev:.6g} eV")
        of_all = known or sample == self.n_frames
        pattern_of = "all frames" if of_all else f"{sample} frames"
        return notebook_html(pattern, self.positions_px, lines, pattern_of=pattern_of)

    def plot_frame(self, number: int, *, axes: Axes | None = None) -> Axes:
        """Draw the counts of one frame, its zero frequency in the centre, and bad pixels in grey.

        Args:
            number: of the frame in this scan, from 0; negative ones count from the end.
            axes: axes of matplotlib to draw on; those of a new pyplot figure where None.
        Returns:
            The axes, to be changed: `axes.images[0]` holds the counts, (N, N) float32.
        Raises:
            IndexError: the scan has no such frame.
            TypeError: the number is none, or `axes` are not of matplotlib.
        """
        from ptycho_core.scan.display import draw_frame

        if not isinstance(number, Integral) or isinstance(number, bool):
            raise TypeError(f"Scan.plot_frame expects the number of a frame, not {shown(number)}.")
        last = self.n_frames - 1
        if not -self.n_frames <= number <= last:
            raise IndexError(f"{self.name} has frames 0 to {last}; there is no frame {number}.")
        index = np.array([int(number) % self.n_frames])
        good = self.good_pixels(index).reshape(self.frame_px, self.frame_px)
        heading = f"{self.name}, frame {index[0]}"
        if self.frame_numbers is not None:
            heading += f" ({self.frame_numbers[index[0]]} in the file)"
        return draw_frame(self.counts(index)[0], good, heading, axes)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.frames.shape[0]

    @property
    def frame_px(self) -> int:
        """Side of a frame in pixels."""
        return self.frames.shape[-1]

    @property
    def share_left_out(self) -> float:
        """Part of the frames that were asked for which is left out, as no data or without a position."""
        if self.all_positions_px is None:
            return 0.0
        return 1 - self.n_frames / (self.n_frames_asked_for or len(self.all_positions_px))

    @cached_property
    def source_sha256(self) -> str | None:
        """Checksum of the source file as it was read; None for arrays in memory, or where it is not known.

        It is not known where the file changed before it was taken.
        """
        if self.known_sha256 is not None or self.source is None:
            return self.known_sha256
        origin = self.origin or SourceFile.of(self.source)
        return None if origin is None else origin.sha256()

    def amplitude(self, indices: FrameIndices = None) -> Float32[np.ndarray, "frame n n"]:
        """Return the square root of the counts, DC in the centre, bad pixels 0."""
        values = self._centred(indices)
        return np.sqrt(values, out=values) if self.measurement == "counts" else values

    def counts(self, indices: FrameIndices = None) -> Float32[np.ndarray, "frame n n"]:
        """Return the counts, DC in the centre, bad pixels and negative counts 0."""
        values = self._centred(indices)
        return np.square(values, out=values) if self.measurement == "amplitude" else values

    def good_pixels(
        self, indices: FrameIndices = None
    ) -> Bool[np.ndarray, "n n"] | Bool[np.ndarray, "frame n n"]:
        """Return True where the detector can be believed, DC in the centre; per frame if the mask is."""
        if self.bad_pixels is None:
            return np.ones((self.frame_px, self.frame_px), dtype=bool)
        if self.bad_pixels.ndim == 2:
            return ~self.bad_pixels
        return ~self.bad_pixels[_selector(indices)]

    def counts_per_frame(self) -> Float64[np.ndarray, " frame"]:
        """Return the counts of each frame over its good pixels."""
        return self._statistics.counts_per_frame

    def mean_counts_per_frame(self) -> float:
        """Return the mean over the frames of the counts on good pixels."""
        return float(self._statistics.counts_per_frame.mean())

    def mean_pattern(self) -> Float64[np.ndarray, "n n"]:
        """Return the mean counts of every pixel over the frames in which it is good, DC in the centre."""
        total = self._statistics.counts_sum
        if self.dc == "corner":
            total = np.fft.fftshift(total)
        if self.bad_pixels is None or self.bad_pixels.ndim == 2:
            return total / self.n_frames
        good_frames = np.zeros(total.shape, dtype=np.int64)
        for chunk in frame_chunks(self.n_frames, total.size):
            good_frames += self.good_pixels(chunk).sum(axis=0)
        return total / np.maximum(good_frames, 1)

    def variance_of_counts(self) -> Float64[np.ndarray, "n n"] | None:
        """Return the variance of every pixel's counts over the frames, DC in the centre.

        None where the frames hold amplitudes, or where pixels are bad in some frames only.
        """
        per_frame = self.bad_pixels is not None and self.bad_pixels.ndim == 3
        if self.measurement != "counts" or per_frame or self.n_frames < 2:
            return None
        variance = self._statistics.pixel_variance
        return np.fft.fftshift(variance) if self.dc == "corner" else variance

    def select(self, indices: FrameIndices) -> Scan:
        """Return a scan of some of the frames; evenly spaced ones share memory with this scan.

        Its frames are counted anew: what it becomes has one value for each of them.
        """
        chosen = evenly_spaced(_selector(indices), self.n_frames)
        bad = self.bad_pixels
        return replace(
            self,
            frames=self.frames.select(chosen) if isinstance(self.frames, LazyFrames) else self.frames[chosen],
            positions_px=self.positions_px[chosen],
            bad_pixels=bad[chosen] if bad is not None and bad.ndim == 3 else bad,
            patch_truth=None if self.patch_truth is None else self.patch_truth[chosen],
            frame_numbers=None,
            all_positions_px=None,
            n_frames_asked_for=None,
        )

    def moved_to(self, positions_px: Float64[np.ndarray, "frame 2"]) -> Scan:
        """Return the same frames at other positions; what is known of the frames is kept, not read again."""
        moved = replace(self, positions_px=positions_px)
        known = vars(self).get("_statistics")
        return moved if known is None else moved.remember(known)

    def of_all_frames(self, values: np.ndarray, missing: object = np.nan) -> np.ndarray:
        """Return one value for each frame of the file, from one for each frame of the scan.

        Args:
            values: (M, ...), one for each frame of the scan.
            missing: what stands for frames that are left out; broadcast to (L, ...).
        """
        if self.frame_numbers is None or self.all_positions_px is None:
            return values
        spread = np.empty((len(self.all_positions_px), *values.shape[1:]), values.dtype)
        spread[...] = missing
        spread[self.frame_numbers] = values
        return spread

    def remember(self, survey: FrameSurvey) -> Scan:
        """Keep what was found when these very frames were read, so that they are not read for it again.

        It is not a field: a scan made from this one by `dataclasses.replace` must not inherit it.
        """
        vars(self)["_statistics"] = survey
        return self

    def survey(self) -> FrameSurvey:
        """Return what all frames say together; they are read once for it."""
        return self._statistics

    @cached_property
    def _statistics(self) -> FrameSurvey:
        return survey_frames(self.frames, bad_pixels=self.bad_as_stored, measurement=self.measurement)

    @property
    def bad_as_stored(self) -> np.ndarray | None:
        """The bad pixels with the zero frequency where it is in `frames`."""
        if self.bad_pixels is None or self.dc == "center":
            return self.bad_pixels
        return np.fft.ifftshift(self.bad_pixels, axes=(-2, -1))

    def _centred(self, indices: FrameIndices) -> Float32[np.ndarray, "frame n n"]:
        """Read frames as float32 >= 0 with DC in the centre and bad pixels 0, in a single copy."""
        stored = self.frames[_selector(indices)]
        values = np.empty(stored.shape, dtype=np.float32)
        if self.dc == "center":
            values[...] = stored
        else:
            half = self.frame_px // 2
            near, far = slice(0, half), slice(half, None)
            for rows, rows_to in ((near, far), (far, near)):
                for columns, columns_to in ((near, far), (far, near)):
                    values[:, rows_to, columns_to] = stored[:, rows, columns]
        if self.bad_pixels is not None:
            np.copyto(values, 0, where=~self.good_pixels(indices))
        return np.maximum(values, 0, out=values)


def _selector(indices: FrameIndices) -> slice | np.ndarray:
    """Turn what callers may pass into what arrays can be indexed with, keeping the frame axis."""
    if indices is None:
        return slice(None)
    if isinstance(indices, slice):
        return indices
    chosen = np.atleast_1d(np.asarray(indices))
    if chosen.size and chosen.dtype.kind not in "biu":
        raise TypeError(
            "A scan expects numbers of frames, a slice, or True and False for each frame, not "
            f"{type(indices).__name__} {shown(indices)}."
        )
    return chosen if chosen.dtype == bool or chosen.size else chosen.astype(np.int64)


def evenly_spaced(indices: slice | np.ndarray, n_frames: int) -> slice | np.ndarray:
    """Replace increasing, evenly spaced indices by the slice that needs no copy."""
    if isinstance(indices, slice):
        return indices
    if indices.dtype == bool:
        indices = np.flatnonzero(indices)
    if indices.size == 0 or indices.min() < 0 or indices.max() >= n_frames:
        return indices
    steps = np.diff(indices)
    if steps.size == 0:
        return slice(int(indices[0]), int(indices[0]) + 1)
    if steps[0] <= 0 or np.any(steps != steps[0]):
        return indices
    return slice(int(indices[0]), int(indices[-1]) + 1, int(steps[0]))
