"""Search a better probe to start from.

Most failures of joint recovery begin with a start probe of the wrong curvature. So a few epochs at the
coarse level, on a compact part of the scan, try the given probe with defocus phases and its modulus with
curvatures; the candidate with the lowest residual starts the run. The given probe gets a small bonus.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float64

from ptycho_core.arrays import Arrays
from ptycho_core.kernel import Steps
from ptycho_core.physics.canvas import frequencies
from ptycho_core.result.history import RunEvent
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import ScanStatistics, central
from ptycho_core.scan.middle import frames_near_the_middle
from ptycho_core.solver.batches import Batch, cut_evenly
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import OBJECT_LIMIT, Level
from ptycho_core.solver.monitor import Progress
from ptycho_core.solver.spectra import scaled_spectrum
from ptycho_core.solver.team import ON_ITS_OWN, Team

__all__ = ["StartProbe", "search_start_probe"]

_FRAMES = 120
_FRAMES_PER_BATCH = 10
_EPOCHS = 3
_STEPS = Steps(object_step=0.5, probe_step=1.5, object_momentum=0.0, probe_momentum=0.6)
#: Six functions for the sub-pixel shifts are exact enough to rank candidates; three are not.
_DEGREE = 2
_BONUS = 0.98
#: A candidate this much worse than the best one at the same epoch is given up.
_HOPELESS = 1.1
_DEFOCUS = (0.0, -1.2, 1.2, -2.4, 2.4, -4.0, 4.0, -6.0, 6.0)
_CURVATURE = (-1.0, -0.5, 0.0, 0.5, 1.0)
_REFINEMENT = {"defocus": 0.6, "curvature": 0.25}
_REFINEMENT_ROUNDS = 2

Candidate = tuple[str, float]


@dataclass(frozen=True)
class StartProbe:
    """The probe (N, N) that won, how it was made, and the residuals of the given probe and of the winner."""

    probe: Complex64[np.ndarray, "n n"]
    family: str
    value: float
    given_residual: float
    best_residual: float

    @property
    def as_given(self) -> bool:
        """Whether the given probe won."""
        return (self.family, self.value) == ("defocus", 0.0)

    def as_first_found(self, team: Team) -> StartProbe:
        """Return what rank 0 found; processors of another kind may find the last bits otherwise."""
        if not team.several:
            return self
        found: list[Any] = [  # Any: the fields, of several types
            getattr(self, one.name) for one in fields(self)
        ]
        return StartProbe(*team.ranks.from_first(found))

    def event(self) -> RunEvent:
        """Say which probe won."""
        return RunEvent(
            "start_probe",
            f"Start probe: {self.describe()} (residual {self.best_residual:.3f}, "
            f"as given {self.given_residual:.3f}).",
            {
                "family": self.family,
                "value": self.value,
                "residual": self.best_residual,
                "given_residual": self.given_residual,
            },
        )

    def describe(self) -> str:
        """Say in words how the probe was made."""
        if (self.family, self.value) == ("defocus", 0.0):
            return "as given"
        if self.family == "defocus":
            return f"the given one with a defocus phase of {self.value:+.2f}"
        return f"the given modulus with a curvature of {self.value:+.2f}"


def search_start_probe(
    scan: Scan,
    frames: OrderedFrames,
    statistics: ScanStatistics,
    arrays: Arrays,
    *,
    softening: float,
    object_floor: float,
    random: np.random.Generator,
    progress: Progress,
    team: Team = ON_ITS_OWN,
) -> StartProbe:
    """Rank start probes by the coarse residual they lead to on the frames nearest to the scan's middle.

    Args:
        team: the ranks that have the frames of the scan; all of them search alike.
    """
    numbers = frames_near_the_middle(scan.positions_px, _FRAMES)
    part = scan.select(numbers)
    order = random.permutation(part.n_frames)
    n_batches = max(1, part.n_frames // _FRAMES_PER_BATCH)
    whole = slice(0, part.n_frames)
    level = Level(
        frames.some_of(numbers[order], team),
        arrays,
        batches=[Batch(batch, whole) for batch in cut_evenly(whole, n_batches)],
        size_px=statistics.coarse_px,
        background=statistics.background,
        softening=softening,
        object_floor=object_floor,
        degree=_DEGREE,
    )
    epochs = [random.permutation(n_batches) for _ in range(_EPOCHS)]
    crop = central(statistics.coarse_px, scan.frame_px)
    make = _candidate_maker(scan, part)

    leaders = [math.inf] * _EPOCHS

    def score(candidate: Candidate) -> float:
        spectrum = scaled_spectrum(make(candidate), part, part.mean_counts_per_frame())
        level.start(spectrum[None, crop, crop])
        misfit = math.inf
        for epoch, batches in enumerate(epochs):
            misfit = sum(level.step(int(index), _STEPS) for index in batches)
            if not math.isfinite(misfit) or misfit > _HOPELESS * leaders[epoch]:
                return math.inf
            leaders[epoch] = min(leaders[epoch], misfit)
            level.settle(OBJECT_LIMIT)
        return misfit / level.total_amplitude

    scores: dict[Candidate, float] = {}
    candidates = [("defocus", a) for a in _DEFOCUS] + [("curvature", a) for a in _CURVATURE]
    given = candidates[0]
    for candidate in candidates:
        if progress.should_stop():
            break
        scores[candidate] = score(candidate) * (_BONUS if candidate == given else 1.0)
    half_widths = dict(_REFINEMENT)
    for _ in range(_REFINEMENT_ROUNDS):
        family, value = min(scores, key=scores.__getitem__) if scores else given
        for neighbour in ((family, value - half_widths[family]), (family, value + half_widths[family])):
            if neighbour not in scores and not progress.should_stop():
                scores[neighbour] = score(neighbour)
        half_widths[family] /= 2
    best = min(scores, key=scores.__getitem__) if scores else given
    if not math.isfinite(scores.get(best, math.inf)):
        best = given
    return StartProbe(
        probe=make(best),
        family=best[0],
        value=best[1],
        given_residual=scores.get(given, math.inf) / _BONUS,
        best_residual=scores.get(best, math.inf),
    ).as_first_found(team)


def _candidate_maker(scan: Scan, part: Scan) -> Callable[[Candidate], np.ndarray]:
    """Return the function that makes a probe of a family and a strength in its natural unit."""
    probe = scan.probe[0]
    k = np.fft.fftfreq(scan.frame_px)
    k_squared = k[:, None] ** 2 + k**2
    spectrum = scipy.fft.fft2(probe)
    power = np.square(np.abs(spectrum), dtype=np.float64)
    spread = (power * k_squared).sum() / power.sum()
    modulus = np.abs(probe)
    radius_squared, mean_radius_squared = _radii(np.square(modulus, dtype=np.float64))
    curvature = np.sqrt(_pattern_spread(part) / mean_radius_squared)

    def make(candidate: Candidate) -> np.ndarray:
        family, strength = candidate
        if candidate == ("defocus", 0.0):
            return probe
        if family == "defocus":
            made = scipy.fft.ifft2(spectrum * np.exp(1j * strength * k_squared / spread))
        else:
            made = modulus * np.exp(1j * np.pi * curvature * strength * radius_squared)
        return made.astype(np.complex64)

    return make


def _radii(light: Float64[np.ndarray, "n n"]) -> tuple[Float64[np.ndarray, "n n"], float]:
    """Squared distance from the centre of light, and its mean over the light."""
    x = np.arange(len(light))
    total = light.sum()
    row, column = light.sum(axis=1) @ x / total, light.sum(axis=0) @ x / total
    squared = (x[:, None] - row) ** 2 + (x - column) ** 2
    return squared, float((light * squared).sum() / total)


def _pattern_spread(part: Scan) -> float:
    """Mean squared frequency of the mean pattern after the flat background is taken off."""
    mean = part.mean_pattern()
    k = frequencies(len(mean))
    edge = np.maximum(np.abs(k)[:, None], np.abs(k)) > 0.45
    light = np.maximum(mean - np.median(mean[edge]), 0)
    total = light.sum()
    k_squared = k[:, None] ** 2 + k**2
    return float((light * k_squared).sum() / total) if total > 0 else float(k_squared.mean())
