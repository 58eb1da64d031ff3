"""Questions on how the frames were read: their values, the mask, the zero frequency, the probe, the beam."""

from __future__ import annotations

from dataclasses import replace

from ptycho_core.doctor.evidence import probe_speaks_for_other_dc, values_speak_for_other_measurement
from ptycho_core.doctor.findings import GAIN_OF_READING, Doctor, Finding
from ptycho_core.scan.flicker import flickers

__all__ = ["flicker", "measurement", "reading", "start_probe"]

#: The probe's transform has to resemble the mean pattern so much more where the zero frequency is.
_LIKENESS = 0.1
#: Another start probe has to leave so much less.
_GAIN_OF_START = 0.25
_FLICKER = "an intensity that varies from frame to frame"
#: A mask that hides more of the detector may be the wrong way round.
_MANY_BAD = 0.25


def measurement(doctor: Doctor) -> None:
    """Were counts taken for amplitudes, or amplitudes for counts?

    The values tell, and no trial: how much of them stays unexplained depends on what they are.
    """
    if not values_speak_for_other_measurement(doctor.trials.part):
        return
    before, other = doctor.best, doctor.trials(doctor.but(other_measurement=True))
    if other is None:
        return
    counts = doctor.scan.measurement == "amplitude"
    name = "counts taken for amplitudes" if counts else "amplitudes taken for counts"
    doctor.best = other
    doctor.findings.append(
        Finding(name, before.unexplained, other.unexplained, "likely", doctor.flags_of(other.setting))
    )
    doctor.remarks.append(
        f"{'The values' if counts else 'The squares of the values'} are whole multiples of the smallest."
    )


def reading(doctor: Doctor) -> None:
    """Does the mask mark the good pixels, and is the zero frequency where it was taken to be?"""
    bad = doctor.scan.bad_pixels
    if bad is not None and bad.mean() > _MANY_BAD:
        doctor.take("mask inverted", [doctor.but(mask_inverted=True)], needed=GAIN_OF_READING)
    likeness = probe_speaks_for_other_dc(doctor.scan)
    if likeness is not None and likeness[1] < likeness[0] - _LIKENESS:
        return  # the probe speaks for the way it was read
    other, needed = replace(doctor.best.setting, other_dc=True), GAIN_OF_READING
    if likeness is not None and likeness[1] > likeness[0] + _LIKENESS:
        # The probe's own far field is evidence enough; a trial may not speak against it.
        other, needed = replace(other, probe="as-is"), 0.0
    else:
        other = replace(other, probe="estimated")
    doctor.take("zero frequency elsewhere", [other], needed=needed)


def start_probe(doctor: Doctor) -> None:
    """Is the probe to start from wrong, or is its defocus of the other sign?

    The solver looks for a better start by itself; only where that fails is there something to say.
    """
    given, now = doctor.scan.probe_source != "estimated", doctor.best
    if now.setting.probe == "estimated" and given:
        # It was estimated only to be fair to another place of the zero frequency.
        as_given = doctor.trials(doctor.but(probe="as-is"))
        if as_given is None or as_given.unexplained > now.unexplained / (1 - _GAIN_OF_START):
            return
        doctor.best = as_given
        if doctor.findings:
            flags = doctor.flags_of(as_given.setting)
            doctor.findings[-1] = replace(doctor.findings[-1], after=as_given.unexplained, flags=flags)
        return
    others = [doctor.but(probe="conjugate")]
    if given:
        others.insert(0, doctor.but(probe="estimated"))
    best = doctor.best_of(others)
    if best is not None:
        name = "a start probe defocused to the other side"
        if best.setting.probe == "estimated":
            name = "another start probe than the one given"
        doctor.take(name, [best.setting], needed=_GAIN_OF_START)


def flicker(doctor: Doctor) -> None:
    """Does the beam vary from frame to frame? The counts tell; it spoils all that is tried."""
    found_already = doctor.best.setting.frame_intensity
    if not found_already and flickers(doctor.scan.positions_px, doctor.scan.counts_per_frame()):
        doctor.take(_FLICKER, [doctor.but(frame_intensity=True)], needed=GAIN_OF_READING)
