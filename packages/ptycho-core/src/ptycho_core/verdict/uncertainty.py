"""How far each pixel of an object can be believed: its standard deviation, without the truth.

The scan is split into two halves of its data, at random and several times; each half is reconstructed just
as the whole was. Half the difference of two such objects has the variance of the object from all data, and
by how much the mean of all halves is off from the object from all data is about the error that more data
would still remove: the jackknife of half the sample. Both are squared, added and smoothed over a pixel.

Sources: M. H. Quenouille, Biometrika 43 (1956) 353, 10.1093/biomet/43.3-4.353 (the bias); B. Efron,
The Jackknife, the Bootstrap and Other Resampling Plans (SIAM 1982), 10.1137/1.9781611970319.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Complex64, Complex128, Float32
from scipy import ndimage

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.metrics.alignment import align
from ptycho_core.metrics.object_error import illuminated_region
from ptycho_core.result.callbacks import Callback
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import noise_floor
from ptycho_core.scan.overlap import overlap_fraction
from ptycho_core.scan.split import split_frames
from ptycho_core.solver.frames import scans_of_parts
from ptycho_core.verdict.halves import FEWEST_FRAMES, on_common_canvas, solved_at_the_same_time, used_part

__all__ = ["PAIRS", "with_uncertainty"]

#: Pairs of halves; six reconstructions.
PAIRS = 3
#: Where the frames of a half overlap by less, the photons of each frame are halved in place of the frames.
_OVERLAP_OF_A_HALF = 0.4
#: The variance of so few pairs is itself uncertain; neighbours share theirs.
_SMOOTHING_PX = 1.0

logger = logging.getLogger("ptycho")


def with_uncertainty(
    scan: Scan,
    result: Reconstruction,
    config: SolverConfig | None = None,
    execution: SolverExecutionConfig | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    seed: int = 0,
) -> Reconstruction:
    """Return the result with the standard deviation of its object's amplitude and phase at every pixel.

    It takes about three to six times as long as the result itself. What all halves get wrong alike, as the
    smoothness that a prior prefers or a scale that is off, is not in it.

    Args:
        scan: whose frames the result explains. result: of the solver.
        config, execution: as for `solve`, when the result was made.
        callbacks: asked whether to stop; then the result comes back as it was.
        seed: of the splits.
    Returns:
        The result with `amplitude_std` and `phase_std_rad`, (H, W) float32, NaN outside its illuminated
        part. Where nothing can be told, the result as it was, with a warning and an event that say why.

    Example:
        >>> from ptycho_core import open_scan, solve
        >>> from ptycho_core.verdict import with_uncertainty
        >>> scan = open_scan("siemens-star")
        >>> sure = with_uncertainty(scan, solve(scan))  # doctest: +SKIP
    """
    config, execution = config or SolverConfig(), execution or SolverExecutionConfig()
    if not result.dose_carries_image:
        return _told(result, "No uncertainty: the photons carry no image.")
    part = used_part(scan, result)
    random = np.random.default_rng(seed)
    halves = _Halves.of(part, random)
    if halves is None:
        text = (
            "No uncertainty: frames of a half would overlap too little, and the frames are no photon counts, "
            "so their photons cannot be halved either; `--counts-per-photon` says how many counts are one."
        )
        return _told(result, text)
    asked = {"probe_search": False, "probe_modes": len(result.probe), "leave_out_frames": False}
    how = config.model_copy(update=asked | {"refine_positions": False, "max_time": None})
    variance = _Sum(result)
    for pair in range(PAIRS):
        logger.info("Uncertainty: pair %d of %d, each from half of the %s.", pair + 1, PAIRS, halves.of_what)
        solved = solved_at_the_same_time(halves.draw(), how, execution, callbacks)
        if any(one.interrupted for one in solved):
            return _told(result, "No uncertainty: stopped before its halves were done.")
        if not variance.take(*solved):
            return _told(result, "No uncertainty: the objects of the halves have no part in common.")
    amplitude_std, phase_std_rad = variance.deviations()
    text = (
        f"Uncertainty from {PAIRS} pairs of halves of the {halves.of_what}: half of the pixels are known to "
        f"{np.nanmedian(amplitude_std):.2g} in amplitude and {np.nanmedian(phase_std_rad):.2g} rad in phase, "
        "or better (standard deviation)."
    )
    logger.info("%s", text)
    event = RunEvent("uncertainty", text, {"pairs": PAIRS, "halves_of": halves.of_what})
    return replace(
        result,
        amplitude_std=amplitude_std,
        phase_std_rad=phase_std_rad,
        events=(*result.events, event),
    )


def _told(result: Reconstruction, text: str) -> Reconstruction:
    """Return the result with the reason why nothing more is known of it."""
    logger.warning("%s", text)
    return replace(result, events=(*result.events, RunEvent("uncertainty", text, {})))


@dataclass(frozen=True, eq=False)
class _Halves:
    """How a scan is halved: `frames`, where those of a half still overlap, else `photons` of each frame."""

    scan: Scan
    of_what: str
    random: np.random.Generator

    @classmethod
    def of(cls, scan: Scan, random: np.random.Generator) -> _Halves | None:
        """Find out how a scan can be halved; None where it cannot."""
        first, _ = split_frames(scan.positions_px)
        if scan.n_frames >= 2 * FEWEST_FRAMES:
            overlap = overlap_fraction(scan.positions_px[first], scan.probe)
            if overlap >= _OVERLAP_OF_A_HALF:
                return cls(scan, "frames", random)
        return None if noise_floor(scan) is None else cls(scan, "photons", random)

    def draw(self) -> tuple[Scan, Scan]:
        scan = self.scan
        if self.of_what == "frames":
            one, other = split_frames(scan.positions_px, self.random)
            return scan.select(one), scan.select(other)
        return scans_of_parts(scan, self.random, share=0.5)


class _Sum:
    """Squares of what halves differ by, and the sum of all halves, on the canvas of the whole."""

    def __init__(self, result: Reconstruction) -> None:
        self._result, self._halves = result, 0
        shape = result.object.shape
        self._amplitude, self._phase = np.zeros(shape), np.zeros(shape)
        self._mean: Complex128[np.ndarray, "h w"] = np.zeros(shape, np.complex128)
        self._seen = illuminated_region(result.coverage)

    def take(self, *pair: Reconstruction) -> bool:
        """Take two halves; return whether there is still a part of the object that all have seen."""
        first, second = (self._laid_on(half) for half in pair)
        self._amplitude += np.square(np.abs(first) - np.abs(second)) / 4
        self._phase += np.square(np.angle(first * second.conj())) / 4
        self._mean += first
        self._mean += second
        self._halves += 2
        return bool(self._seen.any())

    def _laid_on(self, half: Reconstruction) -> Complex64[np.ndarray, "h w"]:
        """Return a half's object on the canvas, freed of what no frame tells; note where it is seen."""
        canvas, seen = np.ones(self._result.object.shape, np.complex64), np.zeros_like(self._seen)
        placed = on_common_canvas(self._result, half)
        if placed is not None:
            target, moving, illuminated, corner = placed
            box = tuple(slice(at, at + side) for at, side in zip(corner, moving.shape, strict=True))
            canvas[box] = align(moving, target, illuminated).aligned
            seen[box] = illuminated
        self._seen &= seen
        return canvas

    def deviations(self) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
        """Return the standard deviations of amplitude and phase, NaN where not all saw the object."""
        pairs, mean, whole = self._halves // 2, self._mean / self._halves, self._result.object
        amplitude = self._amplitude / pairs + np.square(np.abs(mean) - np.abs(whole))
        phase = self._phase / pairs + np.square(np.angle(mean * whole.conj()))
        one, other = (_smoothed(variance, self._seen) for variance in (amplitude, phase))
        return one, other


def _smoothed(variance: np.ndarray, seen: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Return the root of a variance that neighbours share; NaN where it was not seen."""
    weight = ndimage.gaussian_filter(seen.astype(np.float64), _SMOOTHING_PX, mode="constant")
    total = ndimage.gaussian_filter(np.where(seen, variance, 0.0), _SMOOTHING_PX, mode="constant")
    found = np.full(variance.shape, np.nan, np.float32)
    found[seen] = np.sqrt(total[seen] / weight[seen])
    return found
