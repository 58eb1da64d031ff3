"""Where photons are few: which start, which probe and which prior, as photons held out say.

A share of the photons of every pixel is held out (`ptycho_core.held_out`). Every state on the way is judged
by how likely it makes them: the start (the solver's image, or none with a probe whose modulus is that of
the mean pattern), the freedom of the probe, the shape of the prior and its strength, and how strong the pull
is to an image that is expected, where there is one. The image is the mean of the best tries (`tries.py`),
each gone on with all photons, with the weights of a posterior probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ptycho_config.models import SolverConfig
from ptycho_core.arrays import Arrays
from ptycho_core.held_out import SHARE
from ptycho_core.physics.canvas import light_on
from ptycho_core.physics.forward import whole_and_rest
from ptycho_core.result.history import RunEvent
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import ScanStatistics
from ptycho_core.solver.frame_parameters import FrameParameters
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.most_probable import photons_per_pixel
from ptycho_core.solver.prior_mean import PriorMean, asked_for, of_photons
from ptycho_core.solver.start import Look
from ptycho_core.solver.state import Solution
from ptycho_core.solver.tries import PRIOR_MEAN, Tries, Try

__all__ = [
    "Chosen",
    "chosen_by_held_out_photons",
    "photons_are_few",
    "thorough_would_hold_out",
    "why_none_are_held_out",
]

#: Below so many photons for each illuminated pixel of the object, held-out photons decide.
_FEW = 400.0
#: And below so many where the frames are noisy and time does not matter.
_FEW_OF_NOISY_FRAMES = 4000.0
#: Above so many pixels of all frames this takes too long.
_MOST_PIXELS = 6e7
#: Where the noise floor of R exceeds this, frames are noisy: starts without an image are tried as well.
_UNCERTAIN_FLOOR = 0.15
#: By so much an image has to make them likelier than no object does, or it is none.
_AN_IMAGE = 10.0
#: By such a part of that, an image with a prior has to make them likelier than the solver's: a prior takes
#: contrast from a smooth object, of which waves this long tell little.
_WORTH = 0.004


def photons_are_few(look: Look) -> bool:
    """Return whether held-out photons are to decide: frames of counts, with few for each pixel.

    Of noisy frames there may be more of them where the effort is `thorough`.
    """
    return why_none_are_held_out(look.scan, look.statistics, look.config) == ""


def why_none_are_held_out(scan: Scan, statistics: ScanStatistics, config: SolverConfig) -> str:
    """Say why held-out photons are not to decide; empty where they are."""
    if statistics.noise_floor is None:
        return "the frames are no photon counts, so that none can be held out"
    side = min(config.final_size or scan.frame_px, scan.frame_px)
    if scan.n_frames * side**2 > _MOST_PIXELS:
        return "the scan is too large for tries with photons held out"
    noisy = statistics.noise_floor > _UNCERTAIN_FLOOR
    few = _FEW_OF_NOISY_FRAMES if noisy and config.effort == "thorough" else _FEW
    photons = _photons_on_the_object(scan, statistics)
    return "" if photons < few else f"{photons:.3g} photons on a pixel of the object need no help"


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
        plain: they are hardly likelier under any image with a prior than under the solver's, which has to be
            made of all photons.
    """

    solution: Solution
    carries_an_image: bool
    events: tuple[RunEvent, ...]
    plain: bool = False


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
    prior_mean: PriorMean | None = None,
) -> Chosen:
    """Find the most probable image of few photons.

    Args:
        solution: of the kept photons; None where there was no descent. start: what it began with.
        frames: with all photons. parts: those that are kept, and those held out.
        prior_mean: makes the image that is expected, of the kept photons first; of all where it is wanted.
    """
    selection = Tries(solution or start, look, parts, arrays, parameters, background, should_stop)
    if solution is not None:
        selection.from_solver()
    if solution is None or (look.statistics.noise_floor or 0.0) > _UNCERTAIN_FLOOR:
        selection.from_nothing(start)
    selection.free_the_probe()
    selection.more_modes()
    tries = alone = selection.tries()
    told: tuple[RunEvent, ...] = ()
    if prior_mean is not None and not should_stop():
        tries = selection.with_prior_mean(asked_for(prior_mean, of_photons(parts[0], look)), alone)
        told = (_about_the_mean(tries[0], alone[0]),)
    best = tries[0]
    transparent = selection.without_object(best)
    carries = best.misfit < transparent - _AN_IMAGE
    data = {
        "held_out_misfit": best.misfit,
        "held_out_misfit_transparent": transparent,
        "held_out_misfit_solver": left if math.isfinite(left := selection.as_the_solver_left_it) else None,
        "start": best.start,
        "shape": best.prior.shape,
        "strength": best.prior.strength,
        "edge_px": best.prior.edge_px,
        "to_mean": best.prior.to_mean,
        "probe": best.probe,
        "probe_modes": len(best.state.spectrum),
        "photons_per_pixel": selection.photons,
        "averaged": len(tries),
    }
    if not carries:
        text = (
            f"{look.statistics.counts_per_frame:.3g} counts per frame carry no image: photons held out are "
            "as likely under a transparent object as under the best image found. The object is left "
            "transparent. Measure longer, or bin the detector."
        )
        events = (*told, RunEvent("dose", text, data))
        return Chosen(replace(start, object=None), carries_an_image=False, events=events)
    if selection.as_the_solver_left_it - best.misfit < _WORTH * (transparent - best.misfit):
        text = (
            f"Photons held out ({100 * SHARE:.0f} %) are hardly likelier under any image with a prior than "
            "under the solver's: none is taken."
        )
        events = (*told, RunEvent("prior", text, {**data, "taken": False}))
        return Chosen(start, carries_an_image=True, events=events, plain=True)
    pulled = any(one.prior.to_mean > 0 for one in tries)
    given = asked_for(prior_mean, look.scan) if prior_mean is not None and pulled else None
    found = selection.with_all_photons(tries, frames, given=given)
    probe = {"held": "held", "phases": "refined in its phases", "free": "refined"}[best.probe]
    modes = len(best.state.spectrum)
    if modes > len(start.spectra):
        probe += f", of {modes} modes"
    text = (
        f"Chosen by {100 * SHARE:.0f} % of the photons, held out: start from {best.start}, probe {probe}, "
        f"prior `{best.prior.shape}` with a strength of {best.prior.strength:.3g}; the mean of {len(tries)} "
        f"{'try' if len(tries) == 1 else 'tries'} is taken."
    )
    return Chosen(found, carries_an_image=True, events=(*told, RunEvent("prior", text, data)))


def _about_the_mean(best: Try, alone: Try) -> RunEvent:
    """Say whether the image that is expected is wanted, and how much.

    Args:
        alone: the best try without it.
    """
    gain, pull, starts = alone.misfit - best.misfit, best.prior.to_mean, best.start == PRIOR_MEAN
    if pull:
        taken = f"taken, with a strength of {pull:.3g}"
    else:
        taken = "taken as a start alone (strength 0)" if starts else "not wanted (strength 0)"
    likelier = f"likelier by {gain:.3g}" if pull or starts else "no likelier"
    text = f"Prior mean: {taken}; photons held out are {likelier} with it."
    data = {"strength": pull, "starts": starts, "gain": gain, "held_out_misfit_alone": alone.misfit}
    return RunEvent("prior_mean", text, data)
