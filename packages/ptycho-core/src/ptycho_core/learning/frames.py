"""A scan's frames as a network takes them, gathered for the frames of a batch only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex64, Float32, Int, Int64

from ptycho_config.errors import ConfigError
from ptycho_core.learning.views import Views
from ptycho_core.physics import cut_patches, whole_and_rest
from ptycho_core.physics.normalisation import intensity_scale, unit_factor_from_mean_energy
from ptycho_core.scan import Scan

__all__ = ["FrameBatch", "Frames"]


#: While frames are new nothing teaches as much as they do; a network that knows them learns their habits.
_NEW_UNTIL, _KNOWN_AFTER = 5.0, 15.0


class FrameBatch(NamedTuple):
    """Frames that are solved together; B frames, n = N pixels.

    Attributes:
        amplitude: (B, n, n) unit amplitude, mean energy (N/2)^2 over the scan, zero frequency in the centre.
        counts: (B, n, n) measured counts.
        corners: (B, 2) top-left pixel (y, x) of each window on a canvas.
        rests_px: (B, 2) what is left of the positions, which moves the probe.
        good: (B or 1, n, n) 1 where the detector works, None where it works everywhere.
        truth: (B, n, n) the true object patches, None where they were not asked for.
    """

    amplitude: Float32[np.ndarray, "frame n n"]
    counts: Float32[np.ndarray, "frame n n"]
    corners: Int64[np.ndarray, "frame 2"]
    rests_px: Float32[np.ndarray, "frame 2"]
    good: Float32[np.ndarray, "some n n"] | None = None
    truth: Complex64[np.ndarray, "frame n n"] | None = None


class Frames:
    """A scan as batches of frames. Holds the scan and a few numbers, no copy of the frames.

    Attributes:
        corners: (J, 2) top-left pixel of each window, (y, x), counted from the smallest position.
        kept: part of the photons that the network sees; None where it sees all.
    """

    def __init__(
        self,
        scan: Scan,
        nphotons: float | None = None,
        *,
        with_truth: bool = False,
        thin_to: float | None = None,
        views: Views | None = None,
        view_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Measure the scan.

        Args:
            nphotons: mean photons of a frame; those measured when not given, which makes rates real counts.
            with_truth: batches carry the true object patches, which supervised training needs.
            thin_to: the amplitudes are of frames thinned binomially to this mean count, anew each time; the
                counts stay those measured. A thinned Poisson count is the count of a dimmer measurement.
            views: of the scan's object, where thinned batches shall show others than those measured.
            view_share: part of the batches that do, once the measured frames are well known: none before each
                was seen five times, so many after fifteen.
            seed: of the thinning and of the views.
        Raises:
            ConfigError: the frames are no photon counts, or not brighter than `thin_to`.
        """
        self.scan, self._with_truth = scan, with_truth
        self.mean_counts = scan.mean_counts_per_frame()
        self.nphotons = nphotons or self.mean_counts
        self.alpha = unit_factor_from_mean_energy(self.mean_counts, scan.frame_px)
        self.kept = None if thin_to is None else self._kept_part(thin_to)
        self._views, self._view_share, self._given = views, view_share, 0
        self._random = np.random.default_rng(seed)
        self.intensity_scale = intensity_scale(self.nphotons, scan.frame_px)
        self.corners, rests = whole_and_rest(scan.positions_px - scan.positions_px.min(axis=0))
        self._rests = rests.astype(np.float32)
        good = scan.good_pixels() if scan.bad_pixels is not None else None
        self._good = None if good is None or good.all() else good.astype(np.float32)

    def batch(self, indices: Int[np.ndarray, " frame"]) -> FrameBatch:
        """Gather some frames."""
        amplitude, seen = self._amplitudes(indices)
        good = self._good if self._good is None or self._good.ndim == 2 else self._good[indices]
        if good is not None:
            amplitude, seen = amplitude * good, seen * good
        good = good[None] if good is not None and good.ndim == 2 else good
        truth = self._truth(indices) if self._with_truth else None
        counts = np.square(amplitude * np.float32(self.alpha * self.intensity_scale))
        brighter = 1.0 if self.kept is None else self.kept**-0.5
        unit = seen * np.float32(self.alpha * brighter)
        return FrameBatch(unit, counts, self.corners[indices], self._rests[indices], good, truth)

    def _amplitudes(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the network must explain, and what it sees: amplitudes (B, n, n), measured or of a view."""
        amplitude = self.scan.amplitude(indices)
        if self.kept is None:
            return amplitude, amplitude
        share = self._share_of_views()
        self._given += len(indices)
        if self._views is not None and self._random.random() < share:
            expected = self._views.counts(self.scan.positions_px[indices], self._random)
            drawn = self._random.poisson(expected * self.kept)
            return np.sqrt(expected), np.sqrt(drawn, dtype=np.float32)
        counts = np.rint(amplitude.astype(np.float64) ** 2).astype(np.int64)
        thinned = self._random.binomial(counts, self.kept)
        return amplitude, np.sqrt(thinned, dtype=np.float32)

    def _share_of_views(self) -> float:
        """Part of the batches that show views by now: none while the frames are new."""
        times_seen = self._given / self.scan.n_frames
        return self._view_share * min(1.0, max(0.0, (times_seen - _NEW_UNTIL) / (_KNOWN_AFTER - _NEW_UNTIL)))

    def _kept_part(self, thin_to: float) -> float:
        sample = np.square(self.scan.amplitude(slice(0, 16)), dtype=np.float64)
        if self.scan.measurement != "counts" or np.abs(sample - np.round(sample)).max() > 1e-2:
            raise ConfigError(
                "`--thin-to` needs frames of photon counts; these are not. Give a scan of whole counts, or "
                "leave `--thin-to` out."
            )
        if thin_to >= self.mean_counts:
            raise ConfigError(
                f"`--thin-to` is {thin_to:g} and the frames of {self.scan.name} have {self.mean_counts:.4g} "
                "counts on average. Give fewer."
            )
        return thin_to / self.mean_counts

    def _truth(self, indices: np.ndarray) -> np.ndarray:
        scan = self.scan
        if scan.patch_truth is not None:
            return np.ascontiguousarray(scan.patch_truth[indices])
        whole, _ = whole_and_rest(scan.positions_px[indices])
        return cut_patches(np.asarray(scan.ground_truth), whole, scan.frame_px).astype(np.complex64)
