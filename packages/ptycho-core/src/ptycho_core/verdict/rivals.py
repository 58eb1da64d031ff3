"""Which of several images of a scan is the best: what none of them has seen says so.

Of photon counts, a tenth of the photons of every pixel is held out (`ptycho_core.held_out`), and judges by
the Poisson deviance. Where the unit of the frames is not known a fifth of the frames is, and judges by R. An
image that was made of the rest knows nothing of either, whoever made it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64

from ptycho_core.held_out import SHARE
from ptycho_core.physics.likelihood import poisson_deviance
from ptycho_core.physics.residual import PredictedAmplitude
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import noise_floor
from ptycho_core.solver.frames import scans_of_parts
from ptycho_core.solver.unseen_frames import fifth_held_out, residuals_of_unseen

__all__ = ["Rivals"]

#: Frames are predicted in runs of about so many pixels.
_PIXELS = 1 << 20
#: Added on both sides where held-out photons judge, as a part of their mean.
_SOFTENING = 0.02


@dataclass(frozen=True, eq=False)
class Rivals:
    """A scan cut into what images are made of, and what judges them.

    Attributes:
        seen: what images may be made of.
        judging: the same frames with the photons held out, or the frames held out.
        of_what: which of the two.
    """

    seen: Scan
    judging: Scan
    of_what: Literal["photons", "frames"]

    @classmethod
    def of(cls, scan: Scan, random: np.random.Generator) -> Rivals:
        """Cut a scan; the frames are counted anew."""
        nothing = {"frame_numbers": None, "all_positions_px": None, "n_frames_asked_for": None}
        untold = {"ground_truth": None, "patch_truth": None}
        scan = replace(scan, **nothing, **untold)
        if noise_floor(scan) is None:
            held = fifth_held_out(scan.n_frames)
            return cls(scan.select(~held), scan.select(held), "frames")
        seen, judging = scans_of_parts(scan, random, share=SHARE)
        return cls(seen, judging, "photons")

    def for_all(self, image: Reconstruction) -> Reconstruction:
        """Return an image of what is seen as a start for the whole scan: its probe has all photons."""
        if self.of_what == "frames":
            return image
        factor = np.float32(1 / math.sqrt(1 - SHARE))
        shapes = None if image.probe_variations is None else image.probe_variations * factor
        return replace(image, probe=image.probe * factor, probe_variations=shapes)

    def misfits(self, images: Mapping[str, Reconstruction]) -> dict[str, float]:
        """Return the mean misfit of what judges under each image: deviance of a pixel's photons, or R.

        Frames that one of them leaves out, or does not reach, judge none.
        """
        of_frame = self._deviances if self.of_what == "photons" else self._residuals
        found = {name: of_frame(image) for name, image in images.items()}
        common = np.all([np.isfinite(values) for values in found.values()], axis=0)
        if not common.any():
            return dict.fromkeys(found, float("nan"))
        return {name: float(values[common].mean()) for name, values in found.items()}

    def _residuals(self, image: Reconstruction) -> Float64[np.ndarray, " frame"]:
        return residuals_of_unseen(self.judging, image)

    def _deviances(self, image: Reconstruction) -> Float64[np.ndarray, " frame"]:
        """Return the mean deviance of a pixel in each frame; NaN in those that the image leaves out.

        An image may have any scale: its light is given as many counts as there are.
        """
        used = np.flatnonzero(image.frames_used)
        intensity = None if image.frame_intensity is None else image.frame_intensity[used]
        model = PredictedAmplitude(
            image.object,
            image.probe,
            image.positions_on_canvas_px()[used],
            frame_intensity=intensity,
            variations=None if image.variations is None else image.variations.select(used),
        )
        judging = self.judging.select(used)
        step = max(1, _PIXELS // judging.frame_px**2)
        runs = [slice(start, start + step) for start in range(0, len(used), step)]

        def seen_of(run: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            counts, good = judging.counts(run), judging.good_pixels(run)
            return np.square(model(run), dtype=np.float64), counts, np.broadcast_to(good, counts.shape)

        measured = predicted = n_pixels = 0.0
        for run in runs:
            expected, counts, good = seen_of(run)
            measured += float(counts[good].sum(dtype=np.float64))
            predicted += float(expected[good].sum())
            n_pixels += np.count_nonzero(good)
        scale = measured / predicted if predicted > 0 else 0.0
        soft = max(_SOFTENING * measured / max(n_pixels, 1), 1e-9)
        found = np.full(self.judging.n_frames, np.nan)
        for run in runs:
            expected, counts, good = seen_of(run)
            deviance = poisson_deviance(
                expected_counts=expected * scale + soft, measured_counts=counts.astype(np.float64) + soft
            )
            found[used[run]] = (deviance * good).sum(axis=(1, 2)) / np.maximum(good.sum(axis=(1, 2)), 1)
        return found
