"""Where photons are few: which start, which probe and which prior, as photons held out say.

A share of the photons of every pixel is held out (`ptycho_core.held_out`). Every state on the way is judged
by how likely it makes them: the start (the solver's image, or none with a probe whose modulus is that of
the mean pattern), the freedom of the probe, the shape of the prior and its strength. The image is the mean
of the best tries, each gone on with all photons, with the weights of a posterior probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Complex64
from scipy import ndimage

from ptycho_config.errors import DataError
from ptycho_core.arrays import Array, Arrays
from ptycho_core.held_out import HELD_TO_KEPT, SHARE
from ptycho_core.physics.canvas import frequencies, light_on
from ptycho_core.physics.forward import whole_and_rest
from ptycho_core.result.history import RunEvent
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import ScanStatistics, central
from ptycho_core.solver.frame_parameters import FrameParameters
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.most_probable import Objective, kept_and_judge, photons_per_pixel
from ptycho_core.solver.posterior import Posterior, PosteriorState, ProbeFreedom
from ptycho_core.solver.prior import SHAPES, Prior, Shape
from ptycho_core.solver.spectra import spectrum_of
from ptycho_core.solver.start import Look
from ptycho_core.solver.state import Solution

__all__ = ["Chosen", "chosen_by_held_out_photons", "photons_are_few", "thorough_would_hold_out"]

#: Below so many photons for each illuminated pixel of the object, held-out photons decide.
_FEW = 400.0
#: And below so many where the frames are noisy and time does not matter.
_FEW_OF_NOISY_FRAMES = 4000.0
#: Above so many pixels of all frames this takes too long.
_MOST_PIXELS = 6e7
#: Where the noise floor of R exceeds this, frames are noisy: starts without an image are tried as well.
_UNCERTAIN_FLOOR = 0.15
#: Strength of the prior in units of the noise of a pixel, the root of its photons; and what is tried beside
#: it.
_STRENGTH, _STRONGEST, _LADDER = 0.7, 80.0, 1.5
#: Steps: a start to be ranked, one without an image, one more stage, a try, a try with all photons.
_RANKING, _FROM_NOTHING, _PHASES, _STAGE, _TRY, _WITH_ALL = 10, 40, 40, 20, 30, 30
_FREE_ROUNDS = 3
#: A step on the ladder has to make the held-out photons likelier by so much; tries this near are averaged.
_LEAST_GAIN, _NEAR, _MOST_AVERAGED = 3.0, 5.0, 4
#: By so much an image has to make them likelier than no object does, or it is none.
_AN_IMAGE = 10.0
#: Defocus tried on the mean pattern's modulus, and half-way beside the best of them; in units as in
#: `probe_search`.
_DEFOCUS, _BESIDE = (0.0, -1.2, 1.2, -2.4, 2.4, -4.0, 4.0), 0.6
_RANKED_FRAMES = 100
#: Added on both sides where held-out photons are judged, as a part of their mean.
_JUDGE_SOFTENING = 0.02


def photons_are_few(look: Look) -> bool:
    """Return whether held-out photons are to decide: frames of counts, with few for each pixel.

    Of noisy frames there may be more of them where the effort is `thorough`.
    """
    scan, statistics = look.scan, look.statistics
    if statistics.noise_floor is None or scan.n_frames * look.with_prior_px**2 > _MOST_PIXELS:
        return False
    noisy = statistics.noise_floor > _UNCERTAIN_FLOOR
    few = _FEW_OF_NOISY_FRAMES if noisy and look.config.effort == "thorough" else _FEW
    return _photons_on_the_object(scan, statistics) < few


def thorough_would_hold_out(scan: Scan, statistics: ScanStatistics, *, of_frames: int | None = None) -> bool:
    """Return whether held-out photons would decide with `--effort thorough`, and do not without it.

    Args:
        of_frames: how many frames there are, where `scan` is a part of them.
    """
    if statistics.noise_floor is None or statistics.noise_floor <= _UNCERTAIN_FLOOR:
        return False
    affordable = (of_frames or scan.n_frames) * scan.frame_px**2 <= _MOST_PIXELS
    return affordable and _FEW <= _photons_on_the_object(scan, statistics) < _FEW_OF_NOISY_FRAMES


def _photons_on_the_object(scan: Scan, statistics: ScanStatistics) -> float:
    """Return the mean photons on each pixel of the object that is illuminated, by the start probe."""
    on_canvas = scan.positions_px - scan.positions_px.min(axis=0)
    corners, _ = whole_and_rest(on_canvas)
    probe = np.square(np.abs(scan.probe), dtype=np.float64).sum(axis=0)
    probe *= statistics.counts_per_frame / probe.sum()
    last = corners.max(axis=0) + scan.frame_px
    light = light_on(corners, probe, (int(last[0]), int(last[1])))
    return photons_per_pixel(light)


@dataclass(frozen=True, eq=False)
class Chosen:
    """What held-out photons chose.

    Attributes:
        carries_an_image: they are likelier under the image than under a transparent object.
        plain: they are likelier under the solver's image than under any with a prior; it has to be made of
            all photons.
    """

    solution: Solution
    carries_an_image: bool
    event: RunEvent
    plain: bool = False


@dataclass(frozen=True, eq=False)
class _Try:
    """A state and how unlikely it makes the held-out photons."""

    misfit: float
    state: PosteriorState
    prior: Prior
    start: str
    probe: ProbeFreedom


def chosen_by_held_out_photons(
    solution: Solution | None,
    start: Solution,
    parameters: FrameParameters | None,
    look: Look,
    frames: OrderedFrames,
    parts: tuple[OrderedFrames, OrderedFrames],
    arrays: Arrays,
    *,
    background: float,
    should_stop: Callable[[], bool],
) -> Chosen:
    """Find the most probable image of few photons.

    Args:
        solution: of the kept photons; None where there was no descent. start: what it began with.
        frames: with all photons. parts: those that are kept, and those held out.
    """
    selection = _Selection(solution or start, look, parts, arrays, parameters, background, should_stop)
    if solution is not None:
        selection.from_solver()
    if solution is None or (look.statistics.noise_floor or 0.0) > _UNCERTAIN_FLOOR:
        selection.from_nothing(start)
    selection.free_the_probe()
    tries = selection.tries()
    best = tries[0]
    transparent = selection.without_object(best)
    carries = best.misfit < transparent - _AN_IMAGE
    data = {
        "held_out_misfit": best.misfit,
        "held_out_misfit_transparent": transparent,
        "start": best.start,
        "shape": best.prior.shape,
        "strength": best.prior.strength,
        "probe": best.probe,
        "photons_per_pixel": selection.photons,
        "averaged": len(tries),
    }
    if not carries:
        text = (
            f"{look.statistics.counts_per_frame:.3g} counts per frame carry no image: photons held out are "
            "as likely under a transparent object as under the best image found. The object is left "
            "transparent. Measure longer, or bin the detector."
        )
        return Chosen(replace(start, object=None), carries_an_image=False, event=RunEvent("dose", text, data))
    if selection.as_the_solver_left_it <= best.misfit:
        text = (
            f"Photons held out ({100 * SHARE:.0f} %) are likelier under the solver's image than under any "
            "with a prior: none is taken."
        )
        event = RunEvent("prior", text, {**data, "taken": False})
        return Chosen(start, carries_an_image=True, event=event, plain=True)
    found = selection.with_all_photons(tries, frames)
    probe = {"held": "held", "phases": "refined in its phases", "free": "refined"}[best.probe]
    text = (
        f"Chosen by {100 * SHARE:.0f} % of the photons, held out: start from {best.start}, probe {probe}, "
        f"prior `{best.prior.shape}` with a strength of {best.prior.strength:.3g}; the mean of {len(tries)} "
        f"{'try' if len(tries) == 1 else 'tries'} is taken."
    )
    return Chosen(found, carries_an_image=True, event=RunEvent("prior", text, data))


class _Selection:
    """The tries so far, and the best state among them."""

    def __init__(
        self,
        solution: Solution,
        look: Look,
        parts: tuple[OrderedFrames, OrderedFrames],
        arrays: Arrays,
        parameters: FrameParameters | None,
        background: float,
        should_stop: Callable[[], bool],
    ) -> None:
        self._look, self._arrays, self._parameters = look, arrays, parameters
        self._background, self._should_stop = background, should_stop
        self._solution, (self._kept, self._held) = solution, parts
        objective = Objective.on(
            self._kept,
            solution,
            look,
            arrays,
            misfit="poisson",
            background=(1 - SHARE) * background,
            parameters=parameters,
        )
        self._posterior = objective.posterior
        self._judge = Objective.on(
            self._held,
            solution,
            look,
            arrays,
            misfit="poisson",
            background=SHARE * background,
            parameters=parameters,
            softening=lambda mean: max(_JUDGE_SOFTENING * mean, 1e-9),
        ).level
        self.photons = photons_per_pixel(arrays.to_numpy(objective.posterior.light))
        strength = look.config.prior_strength or min(_STRENGTH * math.sqrt(self.photons), _STRONGEST)
        asked = look.config.prior
        self._shapes: tuple[Shape, ...] = SHAPES if asked in ("auto", "none") else (asked,)
        self._prior = Prior(self._shapes[0], strength)
        self._best: _Try | None = None
        self.as_the_solver_left_it = math.inf

    def _misfit(self, posterior: Posterior) -> float:
        return posterior.misfit_of(self._judge, counts_ratio=HELD_TO_KEPT)

    def _offer(self, prior: Prior, start: str, probe: ProbeFreedom = "held") -> bool:
        """Keep the present state if it is the best so far.

        Args:
            probe: how freely it has moved.
        """
        misfit = self._misfit(self._posterior)
        better = math.isfinite(misfit) and (self._best is None or misfit < self._best.misfit)
        if better:
            self._best = _Try(misfit, self._posterior.state(), prior, start, probe)
        return better

    def _improve(self, prior: Prior, steps: int, probe: ProbeFreedom = "held") -> None:
        self._posterior.improve(prior, iterations=steps, probe=probe, should_stop=self._should_stop)

    @property
    def best(self) -> _Try:
        """The best state so far."""
        if self._best is None:
            raise DataError("No photon that was held out has a likelihood: the counts are not finite.")
        return self._best

    def without_object(self, best: _Try) -> float:
        """Return the misfit of the held-out photons under a transparent object, with the best try's probe."""
        self._posterior.begin_flat(best.state.spectrum)
        return self._misfit(self._posterior)

    def from_solver(self) -> None:
        """Start from the image of the descent."""
        first = self._prior
        self._offer(first, "the solver's image")
        self.as_the_solver_left_it = self.best.misfit if self._look.config.prior == "auto" else math.inf
        self._improve(first, _STAGE)
        self._offer(first, "the solver's image")
        if self._may_move_probe():
            self._improve(first, _STAGE, "free")
            self._offer(first, "the solver's image", "free")

    def from_nothing(self, start: Solution) -> None:
        """Start from a transparent object with the probe that explains held-out photons best."""
        given = self._spectrum_of(start.spectra)
        spectrum, named = given, "the probe given"
        if self._may_move_probe() and len(start.spectra) == 1 and self._parameters is None:
            spectrum, named = self._ranked_probe(given)
        smooth = Prior("huber" if "huber" in self._shapes else self._shapes[0], self._prior.strength)
        self._posterior.begin_flat(spectrum)
        self._improve(smooth, _FROM_NOTHING)
        text = f"no image, with {named}"
        self._offer(smooth, text)
        self._improve(self._prior, _STAGE)
        self._offer(self._prior, text)
        if self._may_move_probe():
            self._improve(self._prior, _PHASES, "phases")
            self._offer(self._prior, text, "phases")
            self._improve(self._prior, _STAGE, "free")
            self._offer(self._prior, text, "free")

    def _ranked_probe(self, given: Array) -> tuple[Array, str]:
        """Try the probe of the solver's start, that of the scan, and its phase with the modulus of the mean
        pattern and some defocus."""
        xp, n = self._arrays, self._look.with_prior_px
        middle = np.median(self._kept.positions_px, axis=0)
        near, held = (part.near(middle, _RANKED_FRAMES) for part in (self._kept, self._held))
        posterior, judge = kept_and_judge((near, held), self._look, xp, given, background=self._background)
        mean = ndimage.gaussian_filter(self._kept.mean_pattern(n), 0.7, mode="wrap")
        scans_own = self._spectrum_of(spectrum_of(self._look.scan.probe[:1]))
        given_here = xp.to_numpy(scans_own)[0]
        k = frequencies(n)
        k_squared = k[:, None] ** 2 + k**2
        power = np.square(np.abs(given_here), dtype=np.float64)
        spread = float((power * k_squared).sum() / power.sum())

        def made(defocus: float) -> Array:
            phase = np.angle(given_here) + defocus * k_squared / spread
            return self._scaled((np.sqrt(mean) * np.exp(1j * phase))[None].astype(np.complex64))

        def score(spectrum: Array) -> float:
            posterior.begin_flat(spectrum)
            posterior.improve(self._prior, iterations=_RANKING, should_stop=self._should_stop)
            return posterior.misfit_of(judge, counts_ratio=HELD_TO_KEPT)

        named = {"the probe of the solver's start": given, "the scan's probe": scans_own}
        as_given = {name: score(probe) for name, probe in named.items()}
        favourite = min(as_given, key=as_given.__getitem__)
        scores: dict[float, float] = {defocus: score(made(defocus)) for defocus in _DEFOCUS}
        best = min(scores, key=scores.__getitem__)
        if not scores[best] < as_given[favourite]:
            return named[favourite], favourite
        for beside in (best - _BESIDE, best + _BESIDE):
            scores[beside] = score(made(beside))
        best = min(scores, key=scores.__getitem__)
        return made(best), f"the mean pattern's modulus and a defocus of {best:+.1f}"

    def free_the_probe(self) -> None:
        """Let the probe move as long as the held-out photons ask for it; go on from the best state."""
        self._posterior.restore(self.best.state)
        if self._may_move_probe():
            for _ in range(_FREE_ROUNDS):
                self._improve(self._prior, _STAGE, "free")
                if not self._offer(self._prior, self.best.start, "free"):
                    break

    def _may_move_probe(self) -> bool:
        return self._look.config.probe_step > 0

    def tries(self) -> list[_Try]:
        """Try shapes, then strengths, from the best state; return the best tries, the best one first."""
        base = self.best
        found = [self._tried(Prior(shape, self._prior.strength), base.state, base) for shape in self._shapes]
        if self._look.config.prior_strength is None:
            for factor in (_LADDER, 1 / _LADDER):
                leader = min(found, key=lambda one: one.misfit)
                while not self._should_stop() and leader.prior.strength < 2 * _STRONGEST:
                    further = self._tried(leader.prior.times(factor), leader.state, base)
                    found.append(further)
                    if not further.misfit < leader.misfit - _LEAST_GAIN:
                        break
                    leader = further
        found.sort(key=lambda one: one.misfit)
        return [one for one in found if one.misfit < found[0].misfit + _NEAR][:_MOST_AVERAGED]

    def _tried(self, prior: Prior, state: PosteriorState, base: _Try) -> _Try:
        self._posterior.restore(state)
        self._improve(prior, _TRY)
        misfit = self._misfit(self._posterior)
        misfit = misfit if math.isfinite(misfit) else math.inf
        return _Try(misfit, self._posterior.state(), prior, base.start, base.probe)

    def with_all_photons(self, tries: list[_Try], frames: OrderedFrames) -> Solution:
        """Go on from each try with all photons, and return the mean of the images, the likelier the more."""
        xp = self._arrays
        objective = Objective.on(
            frames,
            self._solution,
            self._look,
            xp,
            misfit="poisson",
            background=self._background,
            parameters=self._parameters,
        )
        posterior = objective.posterior
        spectrum = tries[0].state.spectrum * math.sqrt(1 / (1 - SHARE))
        posterior.begin(tries[0].state.object, spectrum)
        if tries[0].probe == "free":
            posterior.improve(tries[0].prior, iterations=_STAGE, probe="free", should_stop=self._should_stop)
        weights = np.exp([tries[0].misfit - one.misfit for one in tries])
        weights /= weights.sum()
        mean: Array = None
        first: Array = None
        for weight, one in zip(weights.tolist(), tries, strict=True):
            posterior.go_on_with(one.state)
            posterior.improve(one.prior, iterations=_WITH_ALL, should_stop=self._should_stop)
            image = posterior.object
            if first is None:
                first, mean = image, image * weight
                continue
            # The images may differ by a complex factor.
            light = posterior.light
            across = complex(xp.total(image.conj() * first * light))
            image = image * (across / float(xp.total(abs(image) ** 2 * light).real))
            mean = mean + image * weight
        posterior.begin(mean, posterior.spectrum)
        return objective.reached()

    def _spectrum_of(self, spectra: Complex64[np.ndarray, "mode n n"]) -> Array:
        crop = central(self._look.with_prior_px, spectra.shape[-1])
        return self._scaled(np.ascontiguousarray(spectra[:, crop, crop]))

    def _scaled(self, spectra: Complex64[np.ndarray, "mode n n"]) -> Array:
        """Give spectra the power of the photons that are kept."""
        power = float(np.square(np.abs(spectra), dtype=np.float64).sum())
        factor = math.sqrt(self._posterior.counts_per_frame / power)
        return self._arrays.asarray((spectra * factor).astype(np.complex64))
