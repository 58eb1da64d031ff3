"""Tries on the photons that are kept, each judged by how likely it makes those held out.

Starts, probes, shapes and strengths of the prior, and pulls towards an image that is expected; `selection.py`
says in which order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex64
from scipy import ndimage

from ptycho_config.errors import DataError
from ptycho_core.arrays import Array, Arrays
from ptycho_core.held_out import HELD_TO_KEPT, SHARE
from ptycho_core.physics.canvas import frequencies
from ptycho_core.scan.dose import central
from ptycho_core.solver.frame_parameters import FrameParameters
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.most_probable import Objective, kept_and_judge, photons_of, photons_per_pixel
from ptycho_core.solver.posterior import Posterior, PosteriorState, ProbeFreedom
from ptycho_core.solver.prior import SHAPES, Prior, Shape, softened
from ptycho_core.solver.prior_mean import GivenImage, illuminated, laid_over
from ptycho_core.solver.spectra import seed_modes, spectrum_of
from ptycho_core.solver.start import Look
from ptycho_core.solver.state import Solution

__all__ = ["PRIOR_MEAN", "Tries", "Try"]

#: Strength of the prior in units of the noise of a pixel, the root of its photons; and what is tried beside
#: it.
_STRENGTH, _STRONGEST, _LADDER = 0.7, 80.0, 1.5
#: Steps: a start to be ranked, one without an image, one more stage, a try, a try with all photons.
_RANKING, _FROM_NOTHING, _PHASES, _STAGE, _TRY, _WITH_ALL = 10, 40, 40, 20, 30, 30
_FREE_ROUNDS, _MORE_STAGES = 3, 5
#: Further modes: steps of a try, how many there may be, and photons of a pixel that can tell them.
_MODES, _MOST_MODES, _TELLING = 40, 3, 50.0
#: Width of the edges, in passes of the blur, that tries begin with, and at most.
_PASSES, _MOST_PASSES = 1, 16
#: A step on the ladder has to make the held-out photons likelier by so much; tries this near are averaged.
_LEAST_GAIN, _NEAR, _MOST_AVERAGED = 3.0, 5.0, 4
#: Defocus tried on the mean pattern's modulus, and half-way beside the best of them; in units as in
#: `probe_search`.
_DEFOCUS, _BESIDE = (0.0, -1.2, 1.2, -2.4, 2.4, -4.0, 4.0), 0.6
_RANKED_FRAMES = 100
#: A pull to the image that is expected, in units of the photons of a pixel, what is tried beside it, and at
#: most.
_PULL, _PULL_LADDER, _MOST_PULL = 1.0, 3.0, 250.0
#: What a start from that image is called.
PRIOR_MEAN = "the prior mean"
#: Added on both sides where held-out photons are judged, as a part of their mean.
_JUDGE_SOFTENING = 0.02


@dataclass(frozen=True, eq=False)
class Try:
    """A state and how unlikely it makes the held-out photons."""

    misfit: float
    state: PosteriorState
    prior: Prior
    start: str
    probe: ProbeFreedom


class Tries:
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
            background=background,
            share=1 - SHARE,
            parameters=parameters,
        )
        self._objective, self._posterior = objective, objective.posterior
        self._judge = Objective.on(
            self._held,
            solution,
            look,
            arrays,
            misfit="poisson",
            background=background,
            share=SHARE,
            parameters=parameters,
            softening=lambda mean: max(_JUDGE_SOFTENING * mean, 1e-9),
        ).level
        self.photons = photons_of(objective.posterior, arrays)
        strength = look.config.prior_strength or min(_STRENGTH * math.sqrt(self.photons), _STRONGEST)
        asked = look.config.prior
        self._shapes: tuple[Shape, ...] = SHAPES if asked in ("auto", "none") else (asked,)
        self._prior = Prior(self._shapes[0], strength)
        self._best: Try | None = None
        self.as_the_solver_left_it = math.inf
        self._given: GivenImage | None = None
        self._given_is_moved = self._pull_by_light = False

    def _misfit(self, posterior: Posterior) -> float:
        return posterior.misfit_of(self._judge, counts_ratio=HELD_TO_KEPT)

    def _offer(self, prior: Prior, start: str, probe: ProbeFreedom = "held") -> bool:
        """Keep the present state, whose probe has moved so freely, if it is the best so far."""
        misfit = self._misfit(self._posterior)
        better = math.isfinite(misfit) and (self._best is None or misfit < self._best.misfit)
        if better:
            self._best = Try(misfit, self._posterior.state(), prior, start, probe)
        return better

    def _improve(self, prior: Prior, steps: int, probe: ProbeFreedom = "held") -> None:
        self._posterior.improve(prior, iterations=steps, probe=probe, should_stop=self._should_stop)

    @property
    def best(self) -> Try:
        """The best state so far."""
        if self._best is None:
            raise DataError("No photon that was held out has a likelihood: the counts are not finite.")
        return self._best

    def without_object(self, best: Try) -> float:
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
        look = self._look
        near, held = (
            part.near_the_middle(_RANKED_FRAMES, look.scan, look.team) for part in (self._kept, self._held)
        )
        posterior, judge = kept_and_judge((near, held), look, xp, given, background=self._background)
        mean = ndimage.gaussian_filter(self._kept.mean_pattern(n, look.team), 0.7, mode="wrap")
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

    def more_modes(self) -> None:
        """Give the probe further modes as long as that makes the held-out photons likelier than as many steps
        without them; where the number of modes was not chosen and photons can tell."""
        chosen = "probe_modes" in self._look.config.model_fields_set or len(self._look.scan.probe) > 1
        if chosen or self._parameters is not None or not self._may_move_probe() or self.photons < _TELLING:
            return
        xp = self._arrays
        while len(self.best.state.spectrum) < _MOST_MODES and not self._should_stop():
            base = self.best
            self._posterior.restore(base.state)
            self._improve(self._prior, _MODES, "free")
            without = min(base.misfit, self._misfit(self._posterior))
            self._posterior.restore(base.state)
            modes = xp.to_numpy(base.state.spectrum)
            further = seed_modes(modes[0], len(modes) + 1)[-1:]
            self._posterior.go_on_with_probe(self._scaled(np.concatenate([modes, further])))
            self._improve(self._prior, _MODES, "free")
            if not self._misfit(self._posterior) < without - _LEAST_GAIN:
                break
            self._offer(self._prior, base.start, "free")

    def _may_move_probe(self) -> bool:
        return self._look.config.probe_step > 0

    def tries(self) -> list[Try]:
        """Try shapes, widths of edges, strengths and more steps, from the best state.

        Returns:
            The best tries, the best one first.
        """
        base = self.best
        found = self._shapes_tried(base, passes=_PASSES)
        found += self._other_edges(min(found, key=_misfit_of))
        passes = min(found, key=_misfit_of).prior.passes
        if passes != _PASSES:
            found += self._shapes_tried(base, passes=passes)
        found += self._other_strengths(min(found, key=_misfit_of), (_LADDER, 1 / _LADDER))
        return _best_of(found + self._more_steps(min(found, key=_misfit_of)))

    def _shapes_tried(self, base: Try, *, passes: int) -> list[Try]:
        priors = [Prior(shape, self._prior.strength, passes=passes) for shape in self._shapes]
        return [self._tried(prior, base.state, base) for prior in priors]

    def _other_edges(self, leader: Try) -> list[Try]:
        """Try the leader's prior with sharp edges, then with ever softer ones; keep what makes the held-out
        photons much likelier than as many more steps do: chance decides between edges nearly as likely."""
        wanted = self._tried(leader.prior, leader.state, leader)
        found, passes = [wanted], 0
        while passes <= _MOST_PASSES and not self._should_stop():
            state = leader.state if passes <= 2 * leader.prior.passes else wanted.state
            other = self._tried(leader.prior.with_edges(passes), state, leader)
            better = other.misfit < min(wanted.misfit, leader.misfit) - _LEAST_GAIN
            if better:
                found.append(other)
                wanted = other
            elif passes:
                break
            passes = 2 * max(passes, leader.prior.passes)
        return found

    def _more_steps(self, leader: Try) -> list[Try]:
        """Go on from the leader while that makes the held-out photons likelier."""
        found = [leader]
        for _ in range(_MORE_STAGES):
            if self._should_stop():
                break
            found.append(self._tried(leader.prior, found[-1].state, leader))
            if not found[-1].misfit < found[-2].misfit - _LEAST_GAIN:
                break
        return found[1:]

    def _other_strengths(self, leader: Try, factors: tuple[float, ...]) -> list[Try]:
        """Try the leader's prior stronger and weaker, as long as that makes the held-out photons likelier."""
        found = [leader]
        if self._look.config.prior_strength is not None:
            return []
        for factor in factors:
            leader = min(found, key=_misfit_of)
            while not self._should_stop() and leader.prior.strength < 2 * _STRONGEST:
                further = self._tried(leader.prior.times(factor), leader.state, leader)
                found.append(further)
                if not further.misfit < leader.misfit - _LEAST_GAIN:
                    break
                leader = further
        return found[1:]

    def with_prior_mean(self, given: GivenImage, alone: list[Try]) -> list[Try]:
        """Try the image that is expected, as a start and with a pull to it.

        Args:
            given: made of the kept photons alone.
            alone: the best tries without it. They stay where nothing makes the held-out photons likelier.
        """
        self._given, before, found = given, self.best, alone
        image = self._laid_over(alone[0])
        self._posterior.begin(image, alone[0].state.spectrum)
        self._offer(self._prior, PRIOR_MEAN, alone[0].probe)
        self._improve(self._prior, _STAGE)
        self._offer(self._prior, PRIOR_MEAN, alone[0].probe)
        if self._may_move_probe():
            self._improve(self._prior, _STAGE, "free")
            self._offer(self._prior, PRIOR_MEAN, "free")
        if self.best is not before:
            self.free_the_probe()
            started = self.tries()
            if started[0].misfit < self._with_more_steps(alone[0]) - _LEAST_GAIN:
                found = started
                self._laid_over(found[0])
        pulled = self._pulled_either_way(found[0])
        wanted = min(pulled, key=_misfit_of).misfit < self._with_more_steps(found[0]) - _LEAST_GAIN
        return _best_of([*found, *pulled]) if wanted else found

    def _with_more_steps(self, one: Try) -> float:
        """Return the misfit of a try, or what more steps make of it: no prior gains by its steps alone."""
        return min(one.misfit, self._tried(one.prior, one.state, one).misfit)

    def _laid_over(self, best: Try) -> Array:
        """Lay the image that is expected over the best one, and let priors pull to it.

        Its ramp and its place become those of the best one where that makes the held-out photons likelier.
        """
        found: dict[bool, tuple[float, Array]] = {}
        for moved in (False, True):
            image = self._expect_image(self._objective, best, moved=moved)
            self._posterior.begin(image, best.state.spectrum)
            found[moved] = self._misfit(self._posterior), image
        self._given_is_moved = found[True][0] < found[False][0]
        return self._expect_image(self._objective, best, moved=self._given_is_moved)

    def _expect_image(self, objective: Objective, best: Try, *, moved: bool) -> Array:
        """Lay the image that was given over the best one, for priors on these frames to pull to."""
        if self._given is None:
            raise RuntimeError("no image was given")
        xp, level = self._arrays, objective.level
        image = self._given.on_canvas(self._look, objective.solution, shape=level.shape, scale=level.scale)
        light = xp.to_numpy(objective.posterior.light)
        region = illuminated(light)
        where = region * np.minimum(1, light / photons_per_pixel(light)) if self._pull_by_light else region
        placed = xp.asarray(
            laid_over(
                image, xp.to_numpy(softened(xp, best.state.sharp, best.state.passes)), region, moved=moved
            )
        )
        objective.posterior.expect_image(placed, xp.asarray(where.astype(np.float32)))
        return placed

    def _pulled_either_way(self, base: Try) -> list[Try]:
        """Try pulls that are as strong everywhere, and such that are weaker where less light is.

        An image that was made of the frames knows less there as well.
        """
        ways: dict[bool, list[Try]] = {}
        for by_light in (False, True):
            self._pull_by_light = by_light
            self._expect_image(self._objective, base, moved=self._given_is_moved)
            ways[by_light] = self._pulled(base)
        self._pull_by_light = min(ways, key=lambda way: min(map(_misfit_of, ways[way])))
        return ways[self._pull_by_light]

    def _pulled(self, base: Try) -> list[Try]:
        """Try pulls to the image that is expected from the best try, then other strengths beside the best."""
        found = [self._tried(base.prior.pulled(_PULL * self.photons), base.state, base)]
        for factor in (_PULL_LADDER, 1 / _PULL_LADDER):
            leader = min(found, key=_misfit_of)
            while not self._should_stop() and leader.prior.to_mean < _MOST_PULL * self.photons:
                pull = leader.prior.to_mean * factor
                further = self._tried(leader.prior.pulled(pull), leader.state, base)
                found.append(further)
                if not further.misfit < leader.misfit - _LEAST_GAIN:
                    break
                leader = further
        leader = min(found, key=_misfit_of)
        return found + self._other_strengths(leader, (1 / _LADDER, _LADDER))

    def _tried(self, prior: Prior, state: PosteriorState, base: Try) -> Try:
        self._posterior.restore(state)
        self._improve(prior, _TRY)
        misfit = self._misfit(self._posterior)
        misfit = misfit if math.isfinite(misfit) else math.inf
        return Try(misfit, self._posterior.state(), prior, base.start, base.probe)

    def with_all_photons(
        self, tries: list[Try], frames: OrderedFrames, *, given: GivenImage | None = None
    ) -> Solution:
        """Go on from each try with all photons, and return the mean of the images, the likelier the more.

        Args:
            given: the image that is expected, made of all photons; None where no try has a pull to it.
        """
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
        if given is not None:
            self._given = given
            self._expect_image(objective, tries[0], moved=self._given_is_moved)
        spectrum = tries[0].state.spectrum * math.sqrt(1 / (1 - SHARE))
        posterior.begin(tries[0].state.sharp, spectrum)
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
            light = posterior.tiles.of_mine(xp, posterior.light)
            across = posterior.total(image.conj() * first * light)
            image = image * (across / posterior.total(abs(image) ** 2 * light).real)
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


def _misfit_of(one: Try) -> float:
    return one.misfit


def _best_of(tries: list[Try]) -> list[Try]:
    """Return the best try and those that are as good with the same probe, the best one first."""
    ranked = sorted(tries, key=_misfit_of)
    best = ranked[0]
    near = [
        one
        for one in ranked
        if one.misfit < best.misfit + _NEAR and one.state.spectrum is best.state.spectrum
    ]
    return near[:_MOST_AVERAGED] or [best]
