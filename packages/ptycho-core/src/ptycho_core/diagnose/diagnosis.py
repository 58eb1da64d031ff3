"""Ask the frames, one question after the other, how they should have been read.

Each question builds on the best answer so far: first where the zero frequency is, then how the positions are
turned and scaled, then what the model lacks. What costs nothing is looked at first and says
what to try; only a trial decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ptycho_config.errors import ConfigError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_core.diagnose.blur import find_blur
from ptycho_core.diagnose.evidence import (
    TurnEvidence,
    follows_the_positions,
    probe_speaks_for_other_dc,
    turn_by_centre_of_mass,
    values_speak_for_other_measurement,
)
from ptycho_core.diagnose.left_over import left_beyond_noise, of_the_mean_pattern, predicted_counts
from ptycho_core.diagnose.setting import AS_READ, Setting, composed_flags
from ptycho_core.diagnose.slices import two_slices
from ptycho_core.diagnose.trials import Trial, Trials
from ptycho_core.io.units import wavelength_m
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.flicker import flickers
from ptycho_core.scan.middle import frames_near_the_middle
from ptycho_core.scan.overlap import overlap_fraction

__all__ = ["Diagnosis", "Finding", "diagnose"]

#: A change of how the scan was read has to leave so much less unexplained, as a share; one of the model more.
_GAIN_OF_READING, _GAIN_OF_MODEL = 0.03, 0.12
_GAIN_OF_SCALE_IN_NOISE = 0.2
#: A background that is found takes up what else the model lacks, too.
_GAIN_OF_BACKGROUND = 0.25
#: Where more than this stays unexplained in every setting, nothing explains the frames.
_HOPELESS = 0.93
#: The probe's transform has to resemble the mean pattern so much more where the zero frequency is.
_LIKENESS = 0.1
#: The curl tells where its smallest share is below this part of the largest.
_CURL_TELLS = 0.75
#: Without a trial to confirm it, it has to be smaller still, and the trials have to tell nothing.
_CURL_IS_CLEAR, _TRIALS_TELL = 0.7, 0.85
#: Turns that are nearer to a right angle than this are taken for it, if that explains no less.
_NEARLY_RIGHT_DEG = 3.0
#: Settings half a turn apart that differ by less than this part explain the frames alike.
_TWINS = 0.1
_SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.4, 1.6, 1.8, 2.0)
#: Below this overlap neighbours constrain each other too little to tell right from wrong.
_LEAST_OVERLAP = 0.4
_FRAMES_FOR_EVIDENCE = 400
#: So well the frames of a near field follow the positions; the shadows in the far field of a defocused beam
#: do too, but are explained, so that less than the second number is left.
_IMAGE_MOVES, _POORLY_EXPLAINED = 0.9, 0.45
#: Another start probe has to leave so much less.
_GAIN_OF_START = 0.25
#: So much of what is left beyond the noise a blur may leave; below the second number it is not asked.
_GAIN_OF_BLUR, _LITTLE_LEFT = 0.7, 0.035
#: It is one number, where modes are many: then it may leave so much more than they do.
_AS_GOOD = 1.25
#: Two slices apart leave less than this of what two in contact do. Without thickness: .93 to 1.06.
_GAIN_OF_SLICES = 0.93
_MODES = "partial coherence: more probe modes"
#: What tells the models of one reading apart.
_ONE_MODEL: dict[str, Any] = {  # Any: fields of several types
    "probe_modes": 1,
    "refine_background": False,
    "refine_positions": False,
}
_FLICKER = "an intensity that varies from frame to frame"
#: A mask that hides more of the detector may be the wrong way round.
_MANY_BAD = 0.25


@dataclass(frozen=True, eq=False)
class Finding:
    """One thing that explains the frames better.

    Attributes:
        name: what it is, in the field's words.
        before, after: what stays unexplained without it and with it; 0 nothing, 1 as much as with no object.
        how_sure: `certain`, `likely` or `possible`, by how much better it is.
        flags: the settings that apply it and what was found before it.
    """

    name: str
    before: float
    after: float
    how_sure: str
    flags: dict[str, str]


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was tried, and what explains the frames.

    Attributes:
        findings: in the order in which they were found; empty where the scan is right as it was read.
        trials: all of them, the best first.
        as_read, best: the trial without any change, and that with all findings.
        flags: the settings with which to read the scan and reconstruct it.
        remarks: what the frames cannot tell, and what was not tried for want of time.
        n_frames: how many frames were tried.
    """

    findings: tuple[Finding, ...]
    trials: tuple[Trial, ...]
    as_read: Trial
    best: Trial
    flags: dict[str, str]
    remarks: tuple[str, ...]
    n_frames: int

    @property
    def explained(self) -> bool:
        """Whether the best setting explains the frames at all."""
        return self.best.unexplained < _HOPELESS


def diagnose(
    scan: Scan,
    *,
    budget_s: float = 20.0,
    flags: dict[str, str] | None = None,
    execution: SolverExecutionConfig | None = None,
    say: Callable[[Trial], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Diagnosis:
    """Find out how a scan should have been read, by short reconstructions of some of its frames.

    Args:
        budget_s: seconds that all trials together may take; the likeliest are tried first.
        flags: the settings (name -> value) with which the scan was read, for the flags of the answer.
        execution: where the trials run; as for `solve`.
        say: told of each trial as it ends.
        should_stop: asked before each trial; what was found so far is the answer then.
    Raises:
        ConfigError: the budget leaves no time for a single trial.

    Example:
        >>> from ptycho_core import open_scan
        >>> from ptycho_core.diagnose import diagnose
        >>> found = diagnose(open_scan("siemens-star"))  # doctest: +SKIP
    """
    doctor = _Doctor(scan, Trials(scan, budget_s, execution, say, should_stop), flags or {})
    for question in (
        doctor.measurement,
        doctor.reading,
        doctor.start_probe,
        doctor.flicker,
        doctor.turn,
        doctor.scale,
        doctor.turn_again,
        doctor.model,
        doctor.thickness,
    ):
        question()
    return doctor.conclusion()


class _Doctor:
    """The questions, and the best answer so far."""

    def __init__(self, scan: Scan, trials: Trials, flags: dict[str, str]) -> None:
        self.scan, self.trials, self.before = scan, trials, flags
        first = trials(AS_READ)
        if first is None:
            raise ConfigError(
                f"`budget_s` is {trials.seconds:g}, which leaves no time for one trial. Expected 1 or more."
            )
        self.as_read = self.best = first
        self.overlap = overlap_fraction(scan.positions_px, scan.probe)
        self.findings: list[Finding] = []
        self.remarks: list[str] = []
        self.blurred_px: float | None = None
        self.too_thick = False

    # The questions

    def measurement(self) -> None:
        """Were counts taken for amplitudes, or amplitudes for counts?

        The values tell, and no trial: how much of them stays unexplained depends on what they are.
        """
        if not values_speak_for_other_measurement(self.trials.part):
            return
        before, other = self.best, self.trials(self._but(other_measurement=True))
        if other is None:
            return
        counts = self.scan.measurement == "amplitude"
        name = "counts taken for amplitudes" if counts else "amplitudes taken for counts"
        self.best = other
        self.findings.append(
            Finding(name, before.unexplained, other.unexplained, "likely", self._flags(other.setting))
        )
        self.remarks.append(
            f"{'The values' if counts else 'The squares of the values'} are whole multiples of the smallest."
        )

    def reading(self) -> None:
        """Does the mask mark the good pixels, and is the zero frequency where it was taken to be?"""
        bad = self.scan.bad_pixels
        if bad is not None and bad.mean() > _MANY_BAD:
            self._take("mask inverted", [self._but(mask_inverted=True)], needed=_GAIN_OF_READING)
        likeness = probe_speaks_for_other_dc(self.scan)
        if likeness is not None and likeness[1] < likeness[0] - _LIKENESS:
            return  # the probe speaks for the way it was read
        other, needed = replace(self.best.setting, other_dc=True), _GAIN_OF_READING
        if likeness is not None and likeness[1] > likeness[0] + _LIKENESS:
            # The probe's own far field is evidence enough; a trial may not speak against it.
            other, needed = replace(other, probe="as-is"), 0.0
        else:
            other = replace(other, probe="estimated")
        self._take("zero frequency elsewhere", [other], needed=needed)

    def start_probe(self) -> None:
        """Is the probe to start from wrong, or is its defocus of the other sign?

        The solver looks for a better start by itself; only where that fails is there something to say.
        """
        given, now = self.scan.probe_source != "estimated", self.best
        if now.setting.probe == "estimated" and given:
            # It was estimated only to be fair to another place of the zero frequency.
            as_given = self.trials(self._but(probe="as-is"))
            if as_given is None or as_given.unexplained > now.unexplained / (1 - _GAIN_OF_START):
                return
            self.best = as_given
            if self.findings:
                flags = self._flags(as_given.setting)
                self.findings[-1] = replace(self.findings[-1], after=as_given.unexplained, flags=flags)
            return
        others = [self._but(probe="conjugate")]
        if given:
            others.insert(0, self._but(probe="estimated"))
        best = self._best_of(others)
        if best is not None:
            name = "a start probe defocused to the other side"
            if best.setting.probe == "estimated":
                name = "another start probe than the one given"
            self._take(name, [best.setting], needed=_GAIN_OF_START)

    def flicker(self) -> None:
        """Does the beam vary from frame to frame? The counts tell; it spoils all that is tried."""
        if flickers(self.scan.positions_px, self.scan.counts_per_frame()):
            self._take(_FLICKER, [self._but(frame_intensity=True)], needed=_GAIN_OF_READING)

    def turn(self) -> None:
        """How are the positions turned and mirrored against the frames?"""
        told = self._turn_evidence()
        candidates: list[Setting] = []
        for one in told:
            if one.curl > _CURL_TELLS * one.curl_at_worst:
                continue
            turn = _right_angle(one.turn_deg)
            candidates += [self._turned(one.transposed, turn), self._turned(one.transposed, turn + 180.0)]
        if not candidates:  # the centres of mass do not tell: try all orientations
            candidates = [
                self._turned(transposed, turn)
                for transposed in (False, True)
                for turn in (0.0, 90.0, 180.0, 270.0)
            ]
        best = self._best_of([self.best.setting, *candidates])
        if best is not None:
            settings = [self._with_the_smaller_turn(best).setting]
            self._take("positions turned or mirrored", settings, needed=_GAIN_OF_READING)
        if told and not self.findings:
            self._believe_the_curl(told)

    def scale(self) -> None:
        """Are the positions too large or too small, in both directions or in one?"""
        before = self.best
        both = [self._scaled(factor, factor) for factor in _SCALES]
        best = self._best_of(both)
        if best is not None and best.unexplained < before.unexplained:
            self._refined_scale(best)
        one_way = [self._scaled(f, 1.0) for f in (0.7, 0.85, 1.2, 1.4)]
        one_way += [self._scaled(1.0, f) for f in (0.7, 0.85, 1.2, 1.4)]
        best = self._best_of(one_way)
        if best is not None and best.unexplained < before.unexplained:
            self._refined_scale(best)
        tried = [t for t in self.trials.tried.values() if _but_scale(t.setting) == _but_scale(before.setting)]
        # Smaller positions share more light and so fit noise better; that alone is no evidence.
        dim = before.unexplained > _TRIALS_TELL
        needed = _GAIN_OF_SCALE_IN_NOISE if dim else _GAIN_OF_READING
        self._take("positions scaled", [t.setting for t in tried], needed=needed)

    def turn_again(self) -> None:
        """Refine a turn that is not a right angle."""
        turn = self.best.setting.turn_deg
        if turn % 90 == 0:
            return
        for step in (4.0, 2.0, 1.0):
            near = [
                replace(self.best.setting, turn_deg=self.best.setting.turn_deg + s) for s in (-step, step)
            ]
            best = self._best_of(near)
            if best is not None and best.unexplained < self.best.unexplained:
                self.best = best
        if self.best.setting.turn_deg != turn and self.findings:
            last = self.findings[-1]
            self.findings[-1] = replace(
                last, after=self.best.unexplained, flags=self._flags(self.best.setting)
            )

    def model(self) -> None:
        """What does the model lack?"""
        name, modes = _MODES, [self._but(probe_modes=3), self._but(probe_modes=2)]
        blur = self._blur(modes)
        if blur is None:
            self._take(name, modes, needed=_GAIN_OF_MODEL)
        else:
            # A blur of the detector, the same for all frames, is a lack of coherence to every equation.
            self._take(f"{name} ({blur})", modes, needed=_GAIN_OF_READING)
        background = [self._but(refine_background=True)]
        self._take("an unknown flat background", background, needed=_GAIN_OF_BACKGROUND)
        positions = [self._but(refine_positions=True)]
        self._take("positions that are a little wrong", positions, needed=_GAIN_OF_MODEL)

    def thickness(self) -> None:
        """Is the sample too thick for one slice?"""
        now = self.best
        plain = now.setting.probe_modes == 1 and self.blurred_px is None
        if not plain or now.unexplained > _HOPELESS or not self.trials.time_left:
            return
        changed = now.setting.applied(self.trials.part)
        if self._left_beyond_noise(changed, now.result) < _LITTLE_LEFT:
            return
        found = two_slices(changed, now.result, lambda: self.trials.time_left)
        of_the_model = [
            trial.unexplained / now.unexplained
            for trial in self.trials.tried.values()
            if replace(trial.setting, **_ONE_MODEL) == replace(now.setting, **_ONE_MODEL)
        ]
        if found is None or found.gain > min([_GAIN_OF_SLICES, *of_the_model]):
            return
        self.too_thick = True
        apart = f"{found.distance_px2:.0f} px² / wavelength"
        if self.scan.pixel_size_m and self.scan.energy_ev:
            length = found.distance_px2 * self.scan.pixel_size_m**2 / wavelength_m(self.scan.energy_ev)
            apart = f"{length * 1e6:.3g} µm"
        self.remarks.append(
            f"The sample seems to be too thick for one slice: two slices about {apart} apart leave "
            f"{1 - found.gain:.0%} less unexplained than the same two in contact, more than any other model "
            "that was tried. Several slices are out of reach here; `--final-size` of half the detector's "
            "side, where a slice may be four times as thick, gives a coarser image that can be right."
        )

    def conclusion(self) -> Diagnosis:
        """Sum up."""
        if not self.trials.time_left:
            self.remarks.append("The time was over before everything was tried; `--budget` gives more.")
        best = self.best.setting.applied(self.trials.part)
        # The light of a shadow fills the corners as well, where it passes for a background.
        left = self.best.result.data_residual / of_the_mean_pattern(best)
        poorly = left > _POORLY_EXPLAINED and not self.too_thick
        if poorly and follows_the_positions(best) > _IMAGE_MOVES:
            self.remarks.append(
                "What is in the frames moves with the positions, as a shadow or a hologram does: they seem "
                "to be of the near field, which is not reconstructed here."
            )
        if self.best.setting.turn_deg % 360 or self.best.setting.transposed:
            self.remarks.append(
                "The same positions turned by half a turn explain the frames as well, with the image turned "
                "and its phase reversed; only a probe that is known tells the two apart."
            )
        return Diagnosis(
            findings=tuple(self.findings),
            trials=tuple(sorted(self.trials.tried.values(), key=lambda trial: trial.unexplained)),
            as_read=self.as_read,
            best=self.best,
            flags=self._flags(self.best.setting),
            remarks=tuple(self.remarks),
            n_frames=self.trials.part.n_frames,
        )

    # Their tools

    def _take(self, name: str, settings: Sequence[Setting], *, needed: float) -> None:
        """Try settings; the best becomes the answer if it leaves so much less unexplained."""
        best, before = self._best_of(settings), self.best
        if best is None or best.unexplained > (1 - needed) * before.unexplained:
            return
        share = best.unexplained / before.unexplained
        sure = "certain" if share < 0.6 else "likely" if share < 0.85 else "possible"
        self.best = best
        self.findings.append(
            Finding(name, before.unexplained, best.unexplained, sure, self._flags(best.setting))
        )

    def _blur(self, modes: Sequence[Setting]) -> str | None:
        """Say how the frames are blurred, if one number for that explains more than further modes do."""
        now, part = self.best, self.trials.part
        with_modes = self._best_of(modes)
        if with_modes is None or now.setting.probe_modes > 1 or now.unexplained > _HOPELESS:
            return None
        changed = now.setting.applied(part)
        left = self._left_beyond_noise(changed, now.result)
        if left < _LITTLE_LEFT:
            return None
        best = find_blur(
            changed,
            left,
            lambda sharp: self.trials.reconstruct(sharp, now.setting, all_frames=True),
            lambda: self.trials.time_left,
        )
        left_by_modes = self._left_beyond_noise(changed, with_modes.result)
        if best is None or best.left > min(_GAIN_OF_BLUR * left, _AS_GOOD * left_by_modes):
            return None
        self.blurred_px = best.sigma_px
        self.remarks.append(
            f"The frames are likely blurred, by about {best.sigma_px:.2g} px (standard deviation) on the "
            f"detector: what stays unexplained beyond the noise falls from {left:.0%} to {best.left:.0%}, "
            f"with {with_modes.setting.probe_modes} probe modes to {left_by_modes:.0%}. A detector whose "
            "light or charge spreads does that, or a source that is not a point; probe modes take up part "
            "of it."
        )
        return f"or a detector blur of about {best.sigma_px:.2g} px"

    @staticmethod
    def _left_beyond_noise(scan: Scan, result: Reconstruction) -> float:
        return left_beyond_noise(scan, predicted_counts(scan, result))

    def _believe_the_curl(self, told: Sequence[TurnEvidence]) -> None:
        """Take the turn that the centres of mass name, where photons are too few for trials to tell.

        They have to be clear: a small share of curl, and a larger one for the other handedness.
        """
        first, *others = told
        clear = first.curl < _CURL_IS_CLEAR * first.curl_at_worst and all(
            first.curl < _CURL_IS_CLEAR * other.curl / _CURL_TELLS for other in others
        )
        now = self.best
        if not clear or now.unexplained < _TRIALS_TELL:
            return
        turn = _right_angle(first.turn_deg)
        both = [self._turned(first.transposed, turn), self._turned(first.transposed, turn + 180.0)]
        best = self._best_of(both)
        if best is None or best.setting == now.setting or best.unexplained > 1.05 * now.unexplained:
            return
        best = self._with_the_smaller_turn(best)
        self.best = best
        self.findings.append(
            Finding(
                "positions turned or mirrored (by the curl of the centres of mass)",
                now.unexplained,
                best.unexplained,
                "likely",
                self._flags(best.setting),
            )
        )
        self.remarks.append(
            f"The centres of mass leave {100 * first.curl:.0f} % curl at this turn and "
            f"{100 * first.curl_at_worst:.0f} % at the worst; the frames hold too few photons for a "
            "trial to confirm it."
        )

    def _with_the_smaller_turn(self, trial: Trial) -> Trial:
        """Of two settings half a turn apart that explain about as much, return the one that turns less."""
        here = trial.setting.turn_deg
        there = (here + 180) % 360
        if min(there, 360 - there) >= min(here, 360 - here):
            return trial
        twin = self.trials(replace(trial.setting, turn_deg=there))
        return trial if twin is None or twin.unexplained > (1 + _TWINS) * trial.unexplained else twin

    def _best_of(self, settings: Iterable[Setting]) -> Trial | None:
        """Try settings, but for those whose frames share too little light: they explain anything."""
        trials = [trial for trial in map(self.trials, filter(self._overlaps, settings)) if trial is not None]
        return min(trials, key=lambda trial: trial.unexplained, default=None)

    def _overlaps(self, setting: Setting) -> bool:
        largest = max(setting.scale_y, setting.scale_x)
        return largest <= 1 or 1 - (1 - self.overlap) * largest >= min(_LEAST_OVERLAP, self.overlap)

    def _refined_scale(self, best: Trial) -> None:
        step = 0.1
        for _ in range(3):
            s = best.setting
            near = [
                replace(s, scale_y=s.scale_y * (1 + d), scale_x=s.scale_x * (1 + d)) for d in (-step, step)
            ]
            if s.scale_y != s.scale_x:
                near += [replace(s, scale_y=s.scale_y * (1 + d)) for d in (-step, step)]
                near += [replace(s, scale_x=s.scale_x * (1 + d)) for d in (-step, step)]
            found = self._best_of(near)
            if found is not None and found.unexplained < best.unexplained:
                best = found
            step /= 2

    def _turned(self, transposed: bool, turn_deg: float) -> Setting:
        return replace(self.best.setting, transposed=transposed, turn_deg=turn_deg % 360)

    def _scaled(self, scale_y: float, scale_x: float) -> Setting:
        return replace(self.best.setting, scale_y=scale_y, scale_x=scale_x)

    def _but(self, **changes: Any) -> Setting:  # Any: fields of several types
        return replace(self.best.setting, **changes)

    def _flags(self, setting: Setting) -> dict[str, str]:
        return composed_flags(setting, self.scan, self.before)

    def _turn_evidence(self) -> tuple[TurnEvidence, ...]:
        numbers = np.sort(frames_near_the_middle(self.scan.positions_px, _FRAMES_FOR_EVIDENCE))
        return turn_by_centre_of_mass(
            replace(self.best.setting, turn_deg=0.0).applied(self.scan.select(numbers))
        )


def _right_angle(turn_deg: float) -> float:
    nearest = 90.0 * round(turn_deg / 90)
    return nearest if abs(turn_deg - nearest) < _NEARLY_RIGHT_DEG + 2 else turn_deg


def _but_scale(setting: Setting) -> Setting:
    return replace(setting, scale_y=1.0, scale_x=1.0)
