"""From the image that explains the frames to the one that is most probable: likelihood and prior together.

Where photons are many, a rule sets the prior's strength, by the noise that the image leaves unexplained
(`with_prior`). Where they are few, photons that had no part in any fit choose (`selection.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from ptycho_core.arrays import Array, Arrays
from ptycho_core.held_out import HELD_TO_KEPT, SHARE
from ptycho_core.kernel import Misfit
from ptycho_core.result.history import RunEvent
from ptycho_core.scan.dose import central, mean_and_good, signal_pixels
from ptycho_core.solver.batches import Batch, cut_evenly
from ptycho_core.solver.frame_parameters import FrameParameters
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import Level
from ptycho_core.solver.posterior import Posterior, softening_of
from ptycho_core.solver.prior import Prior, Shape
from ptycho_core.solver.start import Look
from ptycho_core.solver.state import Solution
from ptycho_core.solver.team import ON_ITS_OWN, Team

__all__ = [
    "Objective",
    "kept_and_judge",
    "photons_of",
    "photons_per_pixel",
    "steps_of_the_prior",
    "with_prior",
]

#: Strength of the prior in units of the noise of a pixel, the root of its photons, and at most. What a model
#: cannot explain varies more slowly than noise over pixels and frames: it counts in full, not by its root.
_STRENGTH, _STRONGEST = 0.6, 120.0
#: Width of the edges, in passes of the blur.
_PASSES = 1
#: Part of the steps after which it is seen what stays unexplained.
_FIRST = 0.3
#: A step goes over all frames. So many pixels are compared, within these numbers of steps; the first few do
#: most.
_PIXELS_COMPARED, _FEWEST_STEPS, _MOST_STEPS = 6.5e7, 8, 200
#: Scans of so many pixels and less, whose steps cost next to nothing, get up to twice as many.
_SMALL = 1e6
#: An image that the prior makes no smoother than this was smoother than the prior can tell.
_SMOOTHER = 0.995
#: The misfit may grow by such a factor where the levels had fitted noise; beyond it, as where a stop hides
#: the beam, the image has left the data.
_LOST_THE_DATA = 2.0
#: Pixels with more than this part of the most light are judged.
_ILLUMINATED = 0.1
_FRAMES_PER_BATCH = 64
#: Where the image explains the frames down to so many times the photon noise, photons held out of some frames
#: in the middle of the scan tell objects that vary smoothly from those with edges. Strengths that are tried
#: of either prior, in units of the rule's, and the steps of a try.
_EXPLAINED, _JUDGED_PIXELS, _MOST_JUDGED, _FEWEST_JUDGED = 1.5, 4.2e5, 100, 16
_EDGED: tuple[tuple[Shape, float], ...] = (("log", 1.0), ("log", 0.5))
_SMOOTH: tuple[tuple[Shape, float], ...] = (("huber", 1 / 4), ("huber", 1 / 8), ("huber", 1 / 16))
_STEPS_OF_A_TRY = 40
#: By so much for each of their photons per pixel and frame the smooth one has to be likelier; where it is by
#: much more, tries of one kind have not come to their end.
_SMOOTH_GAIN, _TOO_GOOD = 2.8e-4, 8e-4
#: Added on both sides where the unit of the frames is unknown, as a part of the mean counts.
_SOFTENING = 0.01
#: Part of the variance of noise about zero that is left where what is below zero is cut off.
_LEFT_OF_NOISE = 0.5 - 0.5 / math.pi


@dataclass(frozen=True, eq=False)
class Objective:
    """A posterior on some frames, and how to bring its state back into a solution.

    Read noise adds as many counts as its variance on both sides: then Poisson's law has mean and variance of
    the counts (D. L. Snyder et al., J. Opt. Soc. Am. A 10 (1993) 1014, 10.1364/JOSAA.10.001014). Of noise
    about zero the part below is cut off; its mean is in the background.

    Attributes:
        posterior: starts at the solution.
        level: the frames.
        solution: that it starts from.
    """

    posterior: Posterior
    level: Level
    solution: Solution
    arrays: Arrays

    @classmethod
    def on(
        cls,
        frames: OrderedFrames,
        solution: Solution,
        look: Look,
        arrays: Arrays,
        *,
        misfit: Misfit,
        background: float,
        share: float = 1.0,
        parameters: FrameParameters | None = None,
        softening: Callable[[float], float] = softening_of,
    ) -> Objective:
        """Put frames on the canvas of the last level, with object and probe of a solution.

        Args:
            background: flat counts per pixel added to every prediction of all photons.
            share: of the photons that the frames have.
            parameters: of the frames, which are held.
            softening: gives the counts per pixel added on both sides, of their mean.
        """
        size_px, frame_px = look.with_prior_px, look.scan.frame_px
        if parameters is not None:
            parameters.hold_positions()
            if not parameters.model.changes_the_probe:
                frames, parameters = frames.moved_by(parameters.correction_px), None
        team = look.team
        mean_pattern, read_noise = frames.mean_pattern(size_px, team), share * look.scan.read_noise
        level = Level(
            frames,
            arrays,
            batches=_large_batches([batch.cell for batch in look.batches]),
            size_px=size_px,
            background=share * background,
            softening=0.0,
            object_floor=look.config.object_floor,
            shift_px=solution.shift_px,
            parameters=parameters,
            margin_px=look.margin_px,
            misfit=misfit,
            count_softening=softening(float(mean_pattern.mean())) + _left_of(read_noise),
            team=team,
        )
        crop = central(size_px, frame_px)
        spectra = np.ascontiguousarray(solution.spectra[:, crop, crop])
        obj = solution.object_on(
            level.shape, scale=level.scale, margin_px=look.margin_px, corner=level.tiles.origin
        )
        level.start(spectra, obj, solution.variations[:, :, crop, crop])
        posterior = _posterior(level, look.scan.n_frames, mean_pattern, arrays, read_noise=read_noise)
        return cls(posterior, level, solution, arrays)

    @classmethod
    def apart(
        cls,
        frames: OrderedFrames,
        look: Look,
        arrays: Arrays,
        spectrum: Array,
        *,
        background: float,
        share: float,
    ) -> Objective:
        """Put some frames on a canvas of their own, with spectra (P, n, n) and a transparent object.

        Args:
            background, share: as in `on`.
        """
        mean_pattern, read_noise = frames.mean_pattern(look.with_prior_px), share * look.scan.read_noise
        level = Level(
            frames,
            arrays,
            batches=_large_batches([slice(0, len(frames))]),
            size_px=look.with_prior_px,
            background=share * background,
            softening=0.0,
            object_floor=look.config.object_floor,
            misfit="poisson",
            count_softening=softening_of(float(mean_pattern.mean())) + _left_of(read_noise),
        )
        spectra = arrays.to_numpy(spectrum)
        level.start(spectra)
        no_variations = np.zeros((len(spectra), 0, *spectra.shape[1:]), np.complex64)
        nothing = Solution(spectra, np.zeros(2), no_variations)
        posterior = _posterior(level, len(frames), mean_pattern, arrays, read_noise=read_noise)
        return cls(posterior, level, nothing, arrays)

    def reached(self) -> Solution:
        """Return the solution with object and probe as they are now; it may have got further modes."""
        before, level, xp = self.solution, self.level, self.arrays
        reached = xp.to_numpy(self.posterior.spectrum)
        spectra = np.zeros((len(reached), *before.spectra.shape[1:]), np.complex64)
        spectra[: len(before.spectra)] = before.spectra
        crop = central(level.size_px, spectra.shape[-1])
        spectra[:, crop, crop] = reached
        variations = before.variations
        if len(spectra) > len(variations):  # a probe that varies gets no further modes
            variations = np.zeros((len(spectra), *variations.shape[1:]), np.complex64)
        return replace(
            before,
            spectra=spectra,
            variations=variations,
            object=xp.to_numpy(self.posterior.object),
            scale=level.scale,
            corner=level.tiles.origin,
        )


def _left_of(read_noise: float) -> float:
    """Return the variance that read noise about zero has where what is below zero is cut off."""
    return _LEFT_OF_NOISE * read_noise**2


def photons_per_pixel(
    light: Float32[np.ndarray, "h w"], *, brightest: float | None = None, team: Team = ON_ITS_OWN
) -> float:
    """Return the mean photons that fall on a pixel of the object, over those that are illuminated.

    Args:
        light: of this rank's pixels. brightest: the most light, where it may lie elsewhere.
    """
    most = light.max() if brightest is None else brightest
    return team.mean(light[light > _ILLUMINATED * most])


def photons_of(posterior: Posterior, arrays: Arrays) -> float:
    """Return the same of a posterior, over the pixels of all ranks."""
    tiles, light = posterior.tiles, arrays.to_numpy(posterior.light)
    brightest = tiles.team.largest(float(light.max()))
    return photons_per_pixel(light[tiles.mine], brightest=brightest, team=tiles.team)


def steps_of_the_prior(pixels: int, *, effort: str) -> int:
    """Return how many steps the prior gets where each compares so many pixels, all modes counted."""
    if effort == "thorough":
        return _MOST_STEPS
    wanted = math.ceil(_PIXELS_COMPARED / pixels * (1 + min(1.0, _SMALL / pixels)))
    return min(max(_FEWEST_STEPS, wanted), _MOST_STEPS)


def with_prior(
    solution: Solution,
    parameters: FrameParameters | None,
    look: Look,
    frames: OrderedFrames,
    arrays: Arrays,
    *,
    background: float,
    should_stop: Callable[[], bool],
) -> tuple[Solution, RunEvent]:
    """Take the prior into account where photons are many; say what became of it.

    The likelihood is that of the square roots, which is Poisson's where model and counts agree, and bears
    it better where a beam is not quite what the model says. The noise is taken as large as what the image
    does not explain.
    """
    config, known = look.config, look.statistics.noise_floor is not None

    def on(seen: OrderedFrames, at: Solution) -> Objective:
        return Objective.on(
            seen,
            at,
            look,
            arrays,
            misfit="roots",
            background=background,
            parameters=parameters,
            # Of frames in an unknown unit, it is a part of the mean in the same unit.
            softening=softening_of if known else lambda mean: max(_SOFTENING * mean, 1e-30),
        )

    bright = frames.seen_only_where(signal_pixels(*mean_and_good(look.scan)))

    def noise_left_by(at: Solution) -> float:
        left = on(bright, at)
        share = bright.good_share(left.level.size_px, look.team)
        return left.posterior.misfit() / left.posterior.expected_misfit(share)

    def prior_for(noise: float) -> Prior:
        """Return the prior for a misfit of so many times that of photon noise."""
        if known:
            noise = max(1.0, noise)
            asked = min(_STRENGTH * math.sqrt(photons) * noise, _STRONGEST * math.sqrt(noise))
            return Prior(shape, config.prior_strength or asked)
        # What is left is the only measure of the noise: then it is the unit of everything.
        asked = noise * min(_STRENGTH * math.sqrt(photons / noise), _STRONGEST)
        return Prior(shape, config.prior_strength or asked, pull=noise)

    objective = on(frames, solution)
    posterior = objective.posterior
    photons = photons_of(posterior, arrays)
    shape: Shape = "log" if config.prior in ("auto", "none") else config.prior  # none: not called then
    pixels = look.scan.n_frames * len(solution.spectra) * objective.level.size_px**2
    steps = steps_of_the_prior(pixels, effort=config.effort)
    before = _roughness(posterior, arrays)
    # The probe has the power of the counts that are seen: where pixels hide a part of the beam, the image
    # may leave the data.
    hidden = known and look.scan.bad_pixels is not None
    misfit_before = posterior.misfit() if hidden else 0.0
    freedom = "free" if config.probe_step else "held"
    # The levels may have ended before the image explained what it can: the first steps take it there, with a
    # prior as if noise were all that is left.
    first = round(_FIRST * steps)
    prior = prior_for(1.0 if known else noise_left_by(solution))
    posterior.improve(prior, iterations=first, probe=freedom, should_stop=should_stop)
    # A softer object would be smoother whatever the prior does, so it is judged before its edges get soft.
    ratio = _roughness(posterior, arrays) / max(before, 1e-12)
    noise = noise_left_by(objective.reached())
    prior = prior_for(noise)
    smooth_gain = None
    if known and noise < _EXPLAINED and config.prior == "auto" and parameters is None:
        smooth, smooth_gain = _if_smooth(
            frames,
            look,
            arrays,
            posterior.spectrum,
            prior,
            background=background,
            photons=photons,
            should_stop=should_stop,
        )
        prior = smooth or prior
    # A smooth prior was chosen by photons; the levels alone may leave more of the image out than it does.
    wanted = ratio <= _SMOOTHER or prior.shape != shape or config.prior != "auto"
    moved = 0.0
    if wanted:
        begins = posterior.object
        prior = prior.with_edges(_PASSES)
        posterior.improve(prior, iterations=steps - first, probe=freedom, should_stop=should_stop)
        moved = _moved(begins, posterior, arrays)
    lost_the_data = (
        wanted
        and hidden
        and posterior.misfit()
        > _LOST_THE_DATA
        * max(misfit_before, posterior.expected_misfit(frames.good_share(objective.level.size_px, look.team)))
    )
    taken = wanted and not lost_the_data
    data: dict[str, Any] = {
        "shape": prior.shape,
        "smooth_gain": smooth_gain,
        "strength": prior.strength,
        "photons_per_pixel": photons if known else None,
        "over_photon_noise": noise if known else None,
        "steps": steps if wanted else first,
        "edge_px": prior.edge_px,
        "roughness_ratio": ratio,
        "moved": moved,
        "taken": taken,
    }
    said = f"Prior `{prior.shape}` with a strength of {prior.strength:.3g}, {data['steps']} steps"
    if taken:
        verb = "falls" if ratio <= 1 else "rises"
        text = f"{said}: the sum of the object's gradients {verb} to {100 * ratio:.0f} %."
        if prior.shape != shape:
            text += " Photons held out of some frames say that the object varies smoothly."
        return objective.reached(), RunEvent("prior", text, data)
    if lost_the_data:
        text = f"{said}: not taken, the frames are explained far worse with it."
    else:
        text = f"{said}: not taken, the object is smoother without it. `--prior {prior.shape}` takes it."
    return solution, RunEvent("prior", text, data)


def _if_smooth(
    frames: OrderedFrames,
    look: Look,
    arrays: Arrays,
    spectrum: Array,
    rule: Prior,
    *,
    background: float,
    photons: float,
    should_stop: Callable[[], bool],
) -> tuple[Prior | None, float]:
    """Tell by photons held out of some frames whether the object varies smoothly rather than in edges.

    The image has seen all photons, so every try begins with a transparent object, with the probe found.

    Args:
        spectrum: of the probe. rule: the prior for edges. photons: on a pixel of the object.
    Returns:
        The prior for a smooth object, None where edges are as likely; and by how much for each photon it is
        the likelier.
    """
    count = int(min(max(_JUDGED_PIXELS / look.with_prior_px**2, _FEWEST_JUDGED), _MOST_JUDGED))
    near = frames.near_the_middle(count, look.scan, look.team)
    parts = near.split_photons(np.random.default_rng(look.config.seed))
    dimmed = spectrum * math.sqrt(1 - SHARE)
    posterior, judge = kept_and_judge(parts, look, arrays, dimmed, background=background)

    def misfit_with(shape: Shape, factor: float) -> float:
        posterior.begin_flat(dimmed)
        prior = Prior(shape, factor * rule.strength)
        posterior.improve(prior, iterations=_STEPS_OF_A_TRY, should_stop=should_stop)
        return posterior.misfit_of(judge, counts_ratio=HELD_TO_KEPT)

    edged = min(misfit_with(*one) for one in _EDGED)
    smooth = {one: misfit_with(*one) for one in _SMOOTH}
    best = min(smooth, key=smooth.__getitem__)
    gain = (edged - smooth[best]) / (photons * len(near))
    # Tries that were cut short tell nothing.
    told = _SMOOTH_GAIN < gain < _TOO_GOOD and not should_stop()
    return (Prior(best[0], best[1] * rule.strength) if told else None), gain


def kept_and_judge(
    parts: tuple[OrderedFrames, OrderedFrames],
    look: Look,
    arrays: Arrays,
    spectrum: Array,
    *,
    background: float,
) -> tuple[Posterior, Level]:
    """Put some frames on a canvas of their own, twice: with the photons kept, and with those that judge.

    Args:
        parts: the frames with the photons that are kept, and with those held out.
        spectrum: (P, n, n) of the probe, with the power of the photons kept. background: of all photons.
    """
    kept, held = (
        Objective.apart(part, look, arrays, spectrum, background=background, share=share)
        for part, share in zip(parts, (1 - SHARE, SHARE), strict=True)
    )
    return kept.posterior, held.level


def _roughness(posterior: Posterior, arrays: Arrays) -> float:
    """Sum of the moduli of the object's gradients, where it is illuminated."""
    light, tiles = arrays.to_numpy(posterior.light), posterior.tiles
    brightest = tiles.team.largest(float(light.max()))
    where = arrays.asarray((light > _ILLUMINATED * brightest).astype(np.float32))
    return tiles.team.total(Prior("tv", 1.0).energy(posterior.object, tiles.of_mine(arrays, where)))


def _moved(before: Array, posterior: Posterior, arrays: Arrays) -> float:
    """Return by how much the object has moved where it is illuminated, as a part of its contrast (rms)."""
    tiles = posterior.tiles
    light = arrays.to_numpy(posterior.light)
    where = (light > _ILLUMINATED * tiles.team.largest(float(light.max())))[tiles.mine]
    then, now = (arrays.to_numpy(one)[tiles.mine][where] for one in (before, posterior.object))
    mean = complex(tiles.team.mean(np.real(now)), tiles.team.mean(np.imag(now)))
    contrast = tiles.team.mean(np.square(np.abs(now - mean)))
    return math.sqrt(tiles.team.mean(np.square(np.abs(now - then))) / max(contrast, 1e-30))


def _posterior(
    level: Level, n_frames: int, mean_pattern: np.ndarray, arrays: Arrays, *, read_noise: float
) -> Posterior:
    return Posterior(
        level,
        arrays,
        spectrum=level.spectrum,
        obj=level.object,
        n_frames=n_frames,
        counts_per_frame=float(mean_pattern.sum()),
        mean_pattern=mean_pattern,
        read_noise=read_noise,
    )


def _large_batches(cells: Sequence[slice]) -> list[Batch]:
    """Cut each cell of the scan into batches of about `_FRAMES_PER_BATCH` frames."""
    return [
        Batch(frames, slice(start, stop))
        for start, stop in sorted({(cell.start, cell.stop) for cell in cells})
        for frames in cut_evenly(slice(start, stop), max(1, round((stop - start) / _FRAMES_PER_BATCH)))
    ]
