"""Questions on the positions: how they are turned, mirrored and scaled against the frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ptycho_core.doctor.evidence import TurnEvidence, turn_by_centre_of_mass
from ptycho_core.doctor.findings import GAIN_OF_READING, Doctor, Finding
from ptycho_core.doctor.setting import Setting
from ptycho_core.doctor.trials import Trial
from ptycho_core.scan.middle import frames_near_the_middle

__all__ = ["scale", "turn", "turn_again"]

#: Where noise is most of what is left, smaller positions have to leave so much less.
_GAIN_OF_SCALE_IN_NOISE = 0.2
#: The curl tells where its smallest share is below this part of the largest.
_CURL_TELLS = 0.75
#: Without a trial to confirm it, it has to be smaller still, and the trials have to tell nothing.
_CURL_IS_CLEAR, _TRIALS_TELL = 0.7, 0.85
#: Turns that are nearer to a right angle than this are taken for it, if that explains no less.
_NEARLY_RIGHT_DEG = 3.0
#: Settings half a turn apart that differ by less than this part explain the frames alike.
_TWINS = 0.1
_SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.4, 1.6, 1.8, 2.0)
_FRAMES_FOR_EVIDENCE = 400


def turn(doctor: Doctor) -> None:
    """How are the positions turned and mirrored against the frames?"""
    told = _turn_evidence(doctor)
    candidates: list[Setting] = []
    for one in told:
        if one.curl > _CURL_TELLS * one.curl_at_worst:
            continue
        turn = _right_angle(one.turn_deg)
        candidates += [_turned(doctor, one.transposed, turn), _turned(doctor, one.transposed, turn + 180.0)]
    if not candidates:  # the centres of mass do not tell: try all orientations
        candidates = [
            _turned(doctor, transposed, turn)
            for transposed in (False, True)
            for turn in (0.0, 90.0, 180.0, 270.0)
        ]
    best = doctor.best_of([doctor.best.setting, *candidates])
    if best is not None:
        settings = [_with_the_smaller_turn(doctor, best).setting]
        doctor.take("positions turned or mirrored", settings, needed=GAIN_OF_READING)
    if told and not doctor.findings:
        _believe_the_curl(doctor, told)


def scale(doctor: Doctor) -> None:
    """Are the positions too large or too small, in both directions or in one?"""
    before = doctor.best
    both = [_scaled(doctor, factor, factor) for factor in _SCALES]
    best = doctor.best_of(both)
    if best is not None and best.unexplained < before.unexplained:
        _refined_scale(doctor, best)
    one_way = [_scaled(doctor, f, 1.0) for f in (0.7, 0.85, 1.2, 1.4)]
    one_way += [_scaled(doctor, 1.0, f) for f in (0.7, 0.85, 1.2, 1.4)]
    best = doctor.best_of(one_way)
    if best is not None and best.unexplained < before.unexplained:
        _refined_scale(doctor, best)
    tried = [t for t in doctor.trials.tried.values() if _but_scale(t.setting) == _but_scale(before.setting)]
    # Smaller positions share more light and so fit noise better; that alone is no evidence.
    dim = before.unexplained > _TRIALS_TELL
    needed = _GAIN_OF_SCALE_IN_NOISE if dim else GAIN_OF_READING
    doctor.take("positions scaled", [t.setting for t in tried], needed=needed)


def turn_again(doctor: Doctor) -> None:
    """Refine a turn that is not a right angle."""
    turn = doctor.best.setting.turn_deg
    if turn % 90 == 0:
        return
    for step in (4.0, 2.0, 1.0):
        near = [
            replace(doctor.best.setting, turn_deg=doctor.best.setting.turn_deg + s) for s in (-step, step)
        ]
        best = doctor.best_of(near)
        if best is not None and best.unexplained < doctor.best.unexplained:
            doctor.best = best
    if doctor.best.setting.turn_deg != turn and doctor.findings:
        last = doctor.findings[-1]
        doctor.findings[-1] = replace(
            last, after=doctor.best.unexplained, flags=doctor.flags_of(doctor.best.setting)
        )


def _believe_the_curl(doctor: Doctor, told: Sequence[TurnEvidence]) -> None:
    """Take the turn that the centres of mass name, where photons are too few for trials to tell.

    They have to be clear: a small share of curl, and a larger one for the other handedness.
    """
    first, *others = told
    clear = first.curl < _CURL_IS_CLEAR * first.curl_at_worst and all(
        first.curl < _CURL_IS_CLEAR * other.curl / _CURL_TELLS for other in others
    )
    now = doctor.best
    if not clear or now.unexplained < _TRIALS_TELL:
        return
    turn = _right_angle(first.turn_deg)
    both = [_turned(doctor, first.transposed, turn), _turned(doctor, first.transposed, turn + 180.0)]
    best = doctor.best_of(both)
    if best is None or best.setting == now.setting or best.unexplained > 1.05 * now.unexplained:
        return
    best = _with_the_smaller_turn(doctor, best)
    doctor.best = best
    doctor.findings.append(
        Finding(
            "positions turned or mirrored (by the curl of the centres of mass)",
            now.unexplained,
            best.unexplained,
            "likely",
            doctor.flags_of(best.setting),
        )
    )
    doctor.remarks.append(
        f"The centres of mass leave {100 * first.curl:.0f} % curl at this turn and "
        f"{100 * first.curl_at_worst:.0f} % at the worst; no trial explains the frames well enough to "
        "confirm it."
    )


def _with_the_smaller_turn(doctor: Doctor, trial: Trial) -> Trial:
    """Of two settings half a turn apart that explain about as much, return the one that turns less."""
    here = trial.setting.turn_deg
    there = (here + 180) % 360
    if min(there, 360 - there) >= min(here, 360 - here):
        return trial
    twin = doctor.trials(replace(trial.setting, turn_deg=there))
    return trial if twin is None or twin.unexplained > (1 + _TWINS) * trial.unexplained else twin


def _refined_scale(doctor: Doctor, best: Trial) -> None:
    step = 0.1
    for _ in range(3):
        s = best.setting
        near = [replace(s, scale_y=s.scale_y * (1 + d), scale_x=s.scale_x * (1 + d)) for d in (-step, step)]
        if s.scale_y != s.scale_x:
            near += [replace(s, scale_y=s.scale_y * (1 + d)) for d in (-step, step)]
            near += [replace(s, scale_x=s.scale_x * (1 + d)) for d in (-step, step)]
        found = doctor.best_of(near)
        if found is not None and found.unexplained < best.unexplained:
            best = found
        step /= 2


def _turned(doctor: Doctor, transposed: bool, turn_deg: float) -> Setting:
    return replace(doctor.best.setting, transposed=transposed, turn_deg=turn_deg % 360)


def _scaled(doctor: Doctor, scale_y: float, scale_x: float) -> Setting:
    return replace(doctor.best.setting, scale_y=scale_y, scale_x=scale_x)


def _turn_evidence(doctor: Doctor) -> tuple[TurnEvidence, ...]:
    numbers = np.sort(frames_near_the_middle(doctor.scan.positions_px, _FRAMES_FOR_EVIDENCE))
    return turn_by_centre_of_mass(
        replace(doctor.best.setting, turn_deg=0.0).applied(doctor.scan.select(numbers))
    )


def _right_angle(turn_deg: float) -> float:
    nearest = 90.0 * round(turn_deg / 90)
    return nearest if abs(turn_deg - nearest) < _NEARLY_RIGHT_DEG + 2 else turn_deg


def _but_scale(setting: Setting) -> Setting:
    return replace(setting, scale_y=1.0, scale_x=1.0)
