"""A scan in the making, handed from one step of `ptycho_core.io.checked_scan` to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ptycho_core.io.frame_values import contiguous
from ptycho_core.io.geometry import lazily
from ptycho_core.io.options import ReadOptions
from ptycho_core.io.raw_scan import RawScan
from ptycho_core.ranks import ALONE, Ranks
from ptycho_core.scan.held import unheld
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.scan import evenly_spaced
from ptycho_core.scan.shared_survey import survey_together
from ptycho_core.scan.survey import FrameSurvey, frame_chunks

__all__ = ["Draft"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Draft:
    """A scan in the making: what was offered, what was asked for, and what the steps have decided so far.

    Attributes:
        raw: what the file says, after what was asked for went before it.
        frames: frame axis first; cropped, rebinned and turned where that was asked for.
        positions: (M, 2) (y, x), one for each frame; first as stored, then in object pixels.
        frame_axis_was_last: the file had the frame axis last, and a mask for each frame has it there too.
        bad_pixels: (N, N) or (M, N, N), True = bad, zero frequency where it is in `frames`; None = all good.
        pixel_size_m, pixel_aspect: width of an object pixel, and its height over that.
        probe: None where it has to be estimated.
        position_scale: object pixels in one unit of the positions as stored.
        counts_per_photon: by which the frames are divided, where they are no photons as stored.
        read_noise: standard deviation of what the detector adds to every pixel, in photons.
        survey: what the one reading of all frames found.
        frame_numbers: (M,) number of each frame in the file, where some of the file's are left out.
        all_positions: (L, 2) of all frames of the file then; NaN where there is none.
        n_frames_asked_for: how many of them were asked for; None where all were.
        notes: one sentence for each decision, in their order.
        ranks: that open the scan together, each of which reads its own frames.
    """

    raw: RawScan
    options: ReadOptions
    frames: np.ndarray | LazyFrames
    positions: Float64[np.ndarray, "frame 2"]
    frame_axis_was_last: bool
    notes: tuple[str, ...]
    bad_pixels: np.ndarray | None = None
    probe: np.ndarray | None = None
    pixel_size_m: float | None = None
    pixel_aspect: float = 1.0
    position_scale: float = 1.0
    survey: FrameSurvey | None = None
    frame_numbers: Int64[np.ndarray, " frame"] | None = None
    all_positions: Float64[np.ndarray, "all 2"] | None = None
    n_frames_asked_for: int | None = None
    counts_per_photon: float | None = None
    read_noise: float = 0.0
    dc: Literal["center", "corner"] = "center"
    ranks: Ranks = ALONE

    @property
    def name(self) -> str:
        return self.raw.name

    @property
    def frame_px(self) -> int:
        return self.frames.shape[-1]

    @property
    def declared_measurement(self) -> tuple[Literal["amplitude", "counts"], str] | None:
        """What the file says its values are, and why we think so; None where something else was asked for."""
        return self.raw.declared_measurement if self.options.measurement == "auto" else None

    @property
    def seen(self) -> FrameSurvey:
        """What the reading of all frames found, for the steps behind it."""
        if self.survey is None:
            raise RuntimeError("the frames have not been read yet")
        return self.survey

    def surveyed(
        self,
        frames: np.ndarray | LazyFrames,
        *,
        bad_pixels: np.ndarray | None,
        measurement: Literal["auto", "amplitude", "counts"],
    ) -> FrameSurvey:
        """Read frames that lie at the positions of the draft once, each rank its own, and report."""
        return survey_together(
            frames, self.positions, self.ranks, bad_pixels=bad_pixels, measurement=measurement
        )

    def noting(self, *sentences: str, **decided: Any) -> Draft:  # Any: fields of several types
        """Return the draft with these fields changed, and why."""
        return replace(self, notes=(*self.notes, *sentences), **decided)

    def keeping(self, used: Bool[np.ndarray, " frame"]) -> Draft:
        """Return the draft with some of its frames; all that has one value for each of them follows."""
        chosen = evenly_spaced(np.flatnonzero(used), len(used))
        numbers = np.arange(len(used)) if self.frame_numbers is None else self.frame_numbers
        frames, bad, truth = self.frames, self.bad_pixels, self.raw.patch_truth
        if truth is not None and len(truth) == len(used):
            truth = np.asarray(truth)[chosen]
        a_view = isinstance(frames, np.ndarray) and isinstance(chosen, slice)
        return replace(
            self,
            raw=replace(self.raw, patch_truth=truth),
            frames=frames[chosen] if a_view else lazily(frames).select(chosen),
            positions=self.positions[chosen],
            bad_pixels=bad[chosen] if bad is not None and bad.ndim == 3 else bad,
            frame_numbers=numbers[chosen],
            all_positions=_known(self.positions) if self.all_positions is None else self.all_positions,
            survey=None,
        )

    def with_verified_frames(self) -> Draft:
        """Check the checksum of the frames as stored, before any of them are left out or changed.

        Raises:
            DataError: the file is damaged.
        """
        frames, checksum = self.frames, self.raw.checksum
        if checksum is None:
            return self
        if isinstance(frames, np.ndarray) and not frames.flags.c_contiguous:
            frames, _ = contiguous(frames, checksum)
            return replace(self, frames=frames, raw=replace(self.raw, checksum=None))
        if self.ranks.count > 1:
            checksum.update_together(unheld(frames), self.ranks)
        else:
            for chunk in frame_chunks(frames.shape[0], frames[0].size * frames.dtype.itemsize):
                checksum.update(np.asarray(frames[chunk]))
        checksum.verify()
        return replace(self, raw=replace(self.raw, checksum=None))


def _known(positions: Float64[np.ndarray, "frame 2"]) -> Float64[np.ndarray, "frame 2"]:
    """Return the positions, (NaN, NaN) for those that are not known."""
    return np.where(np.isfinite(positions).all(axis=1, keepdims=True), positions, np.nan)
