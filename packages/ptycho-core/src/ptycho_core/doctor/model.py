"""Questions on the model: what it lacks, and whether the sample is too thick for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ptycho_core.doctor.blur import find_blur
from ptycho_core.doctor.findings import GAIN_OF_READING, HOPELESS, Doctor
from ptycho_core.doctor.left_over import left_beyond_noise, predicted_counts
from ptycho_core.doctor.setting import Setting
from ptycho_core.doctor.slices import two_slices
from ptycho_core.io.units import wavelength_m
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan

__all__ = ["model", "thickness"]

#: What the model lacks has to leave so much less unexplained, as a share.
_GAIN_OF_MODEL = 0.12
#: A background that is found takes up what else the model lacks, too.
_GAIN_OF_BACKGROUND = 0.25
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


def model(doctor: Doctor) -> None:
    """What does the model lack?"""
    name, modes = _MODES, [doctor.but(probe_modes=3), doctor.but(probe_modes=2)]
    blur = _blur(doctor, modes)
    if blur is None:
        doctor.take(name, modes, needed=_GAIN_OF_MODEL)
    else:
        # A blur of the detector, the same for all frames, is a lack of coherence to every equation.
        doctor.take(f"{name} ({blur})", modes, needed=GAIN_OF_READING)
    background = [doctor.but(refine_background=True)]
    doctor.take("an unknown flat background", background, needed=_GAIN_OF_BACKGROUND)
    positions = [doctor.but(refine_positions=True)]
    doctor.take("positions that are a little wrong", positions, needed=_GAIN_OF_MODEL)


def thickness(doctor: Doctor) -> None:
    """Is the sample too thick for one slice?"""
    now = doctor.best
    plain = now.setting.probe_modes == 1 and doctor.blurred_px is None
    if not plain or now.unexplained > HOPELESS or not doctor.trials.time_left:
        return
    changed = now.setting.applied(doctor.trials.part)
    if _left_beyond_noise(changed, now.result) < _LITTLE_LEFT:
        return
    found = two_slices(changed, now.result, lambda: doctor.trials.time_left)
    of_the_model = [
        trial.unexplained / now.unexplained
        for trial in doctor.trials.tried.values()
        if replace(trial.setting, **_ONE_MODEL) == replace(now.setting, **_ONE_MODEL)
    ]
    if found is None or found.gain > min([_GAIN_OF_SLICES, *of_the_model]):
        return
    doctor.too_thick = True
    apart = f"{found.distance_px2:.0f} px² / wavelength"
    if doctor.scan.pixel_size_m and doctor.scan.energy_ev:
        length = found.distance_px2 * doctor.scan.pixel_size_m**2 / wavelength_m(doctor.scan.energy_ev)
        apart = f"{length * 1e6:.3g} µm"
    doctor.remarks.append(
        f"The sample seems to be too thick for one slice: two slices about {apart} apart leave "
        f"{1 - found.gain:.0%} less unexplained than the same two in contact, more than any other model "
        "that was tried. Several slices are out of reach here; `--final-size` of half the detector's "
        "side, where a slice may be four times as thick, gives a coarser image that can be right."
    )


def _blur(doctor: Doctor, modes: Sequence[Setting]) -> str | None:
    """Say how the frames are blurred, if one number for that explains more than further modes do."""
    now, part = doctor.best, doctor.trials.part
    with_modes = doctor.best_of(modes)
    if with_modes is None or now.setting.probe_modes > 1 or now.unexplained > HOPELESS:
        return None
    changed = now.setting.applied(part)
    left = _left_beyond_noise(changed, now.result)
    if left < _LITTLE_LEFT:
        return None
    best = find_blur(
        changed,
        left,
        lambda sharp: doctor.trials.reconstruct(sharp, now.setting, all_frames=True),
        lambda: doctor.trials.time_left,
    )
    left_by_modes = _left_beyond_noise(changed, with_modes.result)
    if best is None or best.left > min(_GAIN_OF_BLUR * left, _AS_GOOD * left_by_modes):
        return None
    doctor.blurred_px = best.sigma_px
    doctor.remarks.append(
        f"The frames are likely blurred, by about {best.sigma_px:.2g} px (standard deviation) on the "
        f"detector: what stays unexplained beyond the noise falls from {left:.0%} to {best.left:.0%}, "
        f"with {with_modes.setting.probe_modes} probe modes to {left_by_modes:.0%}. A detector whose "
        "light or charge spreads does that, or a source that is not a point; probe modes take up part "
        "of it."
    )
    return f"or a detector blur of about {best.sigma_px:.2g} px"


def _left_beyond_noise(scan: Scan, result: Reconstruction) -> float:
    return left_beyond_noise(scan, predicted_counts(scan, result))
