"""What was found so far on the way to a diagnosis, and how a trial becomes a finding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ptycho_config.errors import ConfigError
from ptycho_core.doctor.evidence import follows_the_positions
from ptycho_core.doctor.left_over import of_the_mean_pattern
from ptycho_core.doctor.setting import AS_READ, Setting, composed_flags
from ptycho_core.doctor.trials import Trial, Trials
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import scan_statistics
from ptycho_core.scan.overlap import overlap_fraction
from ptycho_core.solver.selection import thorough_would_hold_out

__all__ = ["GAIN_OF_READING", "HOPELESS", "TIME_OVER", "Diagnosis", "Doctor", "Finding"]

TIME_OVER = "The time was over before everything was tried; `--budget` gives more."
#: Another way to read the scan has to leave so much less unexplained, as a share.
GAIN_OF_READING = 0.03
#: Where more than this stays unexplained in every setting, nothing explains the frames.
HOPELESS = 0.93
#: Where more than this stays unexplained, it is not said that a scan is right as it was read.
_MUCH = 0.5
#: Below this overlap neighbours constrain each other too little to tell right from wrong.
_LEAST_OVERLAP = 0.4
#: A probe that came out of a trial with so much less overlap than it began with has withdrawn to one frame.
_WITHDRAWN = 0.15
#: So well the frames of a near field follow the positions; the shadows in the far field of a defocused beam
#: do too, but are explained, so that less than the second number is left.
_IMAGE_MOVES, _POORLY_EXPLAINED = 0.95, 0.45
#: Factors on y and x that differ by less are one.
_ALIKE = 0.03


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
        complete: the time was enough for everything that was to be tried.
        n_frames: how many frames were tried.
    """

    findings: tuple[Finding, ...]
    trials: tuple[Trial, ...]
    as_read: Trial
    best: Trial
    flags: dict[str, str]
    remarks: tuple[str, ...]
    n_frames: int
    complete: bool = True

    @property
    def outcome(self) -> str:
        """What was found, in a few words."""
        if self.findings:
            return "; ".join(finding.name for finding in self.findings)
        if self.complete and self.best.unexplained < _MUCH:
            return "right as it was read"
        return "nothing that explains the frames better"

    @property
    def explained(self) -> bool:
        """Whether the best setting explains the frames at all."""
        return self.best.unexplained < HOPELESS


class Doctor:
    """The best answer so far, and what the questions need to find a better one.

    Attributes:
        scan: as it was read. trials: tries settings on a part of it. overlap: of neighbouring frames.
        as_read, best: the trial without a change, and the best one.
        findings, remarks: what was found, and what the frames cannot tell.
        blurred_px, too_thick: what `model` found that no setting can mend.
    """

    def __init__(self, scan: Scan, trials: Trials, flags: dict[str, str]) -> None:
        self.scan, self.trials, self.before = scan, trials, flags
        # A beam that varies spoils all trials, so that intensities which are found already are found in all.
        first = trials(replace(AS_READ, frame_intensity=flags.get("frame_intensity") == "true"))
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

    def take(self, name: str, settings: Sequence[Setting], *, needed: float) -> None:
        """Try settings; the best becomes the answer if it leaves so much less unexplained."""
        best, before = self.best_of(settings), self.best
        if best is None or best.unexplained > (1 - needed) * before.unexplained:
            return
        share = best.unexplained / before.unexplained
        sure = "certain" if share < 0.6 else "likely" if share < 0.85 else "possible"
        self.best = best
        self.findings.append(
            Finding(name, before.unexplained, best.unexplained, sure, self.flags_of(best.setting))
        )

    def best_of(self, settings: Iterable[Setting]) -> Trial | None:
        """Try settings, but for those whose frames share too little light: they explain anything."""
        trials = [
            trial
            for trial in map(self.trials, filter(self._overlaps, settings))
            if trial is not None and not self._withdrew(trial)
        ]
        return min(trials, key=lambda trial: trial.unexplained, default=None)

    def but(self, **changes: Any) -> Setting:  # Any: fields of several types
        """Return the best setting with some fields changed."""
        return replace(self.best.setting, **changes)

    def flags_of(self, setting: Setting) -> dict[str, str]:
        """Return the flags that read the scan so, with those that it was read with."""
        return composed_flags(setting, self.scan, self.before)

    def _overlaps(self, setting: Setting) -> bool:
        largest = max(setting.scale_y, setting.scale_x)
        return largest <= 1 or 1 - (1 - self.overlap) * largest >= min(_LEAST_OVERLAP, self.overlap)

    def _withdrew(self, trial: Trial) -> bool:
        """Whether the probe shrank until its frames hardly share light: then each is explained alone."""
        usual = max(0.0, self.as_read.overlap_at_start - self.as_read.overlap)
        least = min(_LEAST_OVERLAP, self.overlap, self.as_read.overlap)
        return trial.overlap < min(least, trial.overlap_at_start) or (
            trial.overlap < trial.overlap_at_start - usual - _WITHDRAWN
        )

    def _remark_on_the_distance(self) -> None:
        """Where lengths come out too large or too small alike, name the distance that makes them right."""
        now, distance_m = self.best.setting, self.scan.distance_m
        if distance_m is None or self.scan.position_scale == 1 or "positions_scale" in self.before:
            return
        if not any("wavelength x distance" in note for note in self.scan.notes):
            return  # the size of a pixel was given
        if now.scale_y == 1 or abs(now.scale_y / now.scale_x - 1) > _ALIKE:
            return
        factor = math.sqrt(now.scale_y * now.scale_x)
        self.remarks.append(
            f"All positions scaled by {factor:.3g} is what a wrong distance does, or a wrong energy: with "
            f"`--distance-m {distance_m / factor:.4g}` instead of `--positions-scale` the size of a pixel "
            "comes right too."
        )

    def conclusion(self) -> Diagnosis:
        """Sum up."""
        complete = self.trials.time_left
        if not complete:
            self.remarks.append(TIME_OVER)
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
        self._remark_on_the_distance()
        flags = self.flags_of(self.best.setting)
        # The frames that were tried tell noise and light of all of them.
        if self.findings and thorough_would_hold_out(
            best, scan_statistics(best, estimate_background=False), of_frames=self.scan.n_frames
        ):
            flags["effort"] = "thorough"
            self.remarks.append(
                "The frames are noisy: with `--effort thorough` photons held out choose start, probe and "
                "prior, which takes minutes."
            )
        return Diagnosis(
            findings=tuple(self.findings),
            trials=tuple(sorted(self.trials.tried.values(), key=lambda trial: trial.unexplained)),
            as_read=self.as_read,
            best=self.best,
            flags=flags,
            remarks=tuple(self.remarks),
            n_frames=self.trials.part.n_frames,
            complete=complete,
        )
