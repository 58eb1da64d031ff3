"""What is wrong with a scan is found, and the flags that are named put it right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from _pytest.mark.structures import ParameterSet
from jaxtyping import config

from ptycho_config.errors import ConfigError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_core import Scan, diagnose, solve
from ptycho_core.doctor import Diagnosis, Setting
from ptycho_core.doctor.evidence import (
    follows_the_positions,
    probe_speaks_for_other_dc,
    turn_by_centre_of_mass,
    values_speak_for_other_measurement,
)
from ptycho_core.doctor.findings import Doctor
from ptycho_core.doctor.left_over import unexplained_by
from ptycho_core.doctor.setting import AS_READ, composed_flags
from ptycho_core.doctor.trials import Trials
from ptycho_core.io.options import ReadOptions
from ptycho_core.io.raw_scan import RawScan

NUMPY = SolverExecutionConfig(arrays="numpy", threads=1)
LONG = 600.0  # so that the speed of the host decides nothing


@pytest.fixture(scope="module")
def scan(simulated) -> Scan:
    """50 frames of 32 x 32 with a start probe as wrong as that of a real scan."""
    return simulated(frames=50, frame_px=32, photons=1e6, seed=1, start_kind="scan-like").scan


@pytest.fixture(autouse=True, scope="module")
def as_a_program() -> Iterator[None]:
    """Without the checks of every call: thirty reconstructions, which have tests of their own."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def doctored(scan: Scan) -> Diagnosis:
    return diagnose(scan, budget_s=LONG, execution=NUMPY)


def names(diagnosis: Diagnosis) -> list[str]:
    return [finding.name for finding in diagnosis.findings]


@pytest.mark.slow
def test_a_scan_that_is_right_is_left_alone(scan: Scan) -> None:
    found = doctored(scan)
    assert names(found) == []
    assert found.flags == {}
    assert found.best is found.as_read
    assert found.explained


def slow(*values: object) -> ParameterSet:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("wrong", "flags"),
    [
        (Setting(turn_deg=27.0), {"positions_turn_deg": -27.0}),
        slow(Setting(transposed=True), {"positions_orientation": "transpose"}),
        slow(Setting(transposed=True, turn_deg=90.0), {"positions_orientation": ("flip-y", "flip-x")}),
        slow(Setting(scale_y=0.7, scale_x=0.7), {"positions_scale": (1 / 0.7, 1 / 0.7)}),
        slow(Setting(scale_y=1.35), {"positions_scale": (1 / 1.35, 1.0)}),
        slow(Setting(other_dc=True), {"dc": "center"}),
    ],
    ids=["turned", "transposed", "mirrored", "too small", "stretched", "corner"],
)
def test_what_is_wrong_is_found(scan: Scan, wrong: Setting, flags: dict) -> None:
    found = doctored(wrong.applied(scan))
    assert len(names(found)) == 1
    assert found.flags.keys() == flags.keys()
    for name, right in flags.items():
        told = found.flags[name]
        if name == "positions_turn_deg":
            assert (float(told) - right) % 180 == pytest.approx(0, abs=3) or (
                (float(told) - right) % 180
            ) == pytest.approx(180, abs=3)
        elif name == "positions_scale":
            assert [float(part) for part in told.split(",")] == pytest.approx(right, rel=0.05)
        else:
            assert told in right
    assert found.best.unexplained < 0.9 * found.as_read.unexplained


@pytest.mark.slow
def test_a_flat_background_is_no_fault_of_the_reading(simulated) -> None:
    bright = simulated(frames=70, frame_px=32, photons=1e6, seed=1, background=0.1).scan
    plain = simulated(frames=70, frame_px=32, photons=1e6, seed=1).scan
    left = [unexplained_by(solve(scan, execution=NUMPY), scan) for scan in (plain, bright)]
    assert left[1] < 0.6, "the background counted as unexplained"
    found = diagnose(bright, budget_s=LONG, execution=NUMPY)
    assert not found.findings
    assert found.as_read.unexplained < 0.6


@pytest.mark.slow
def test_frames_in_another_order_are_explained_by_nothing(scan: Scan) -> None:
    order = np.random.default_rng(0).permutation(scan.n_frames)
    found = doctored(replace(scan, positions_px=scan.positions_px[order]))
    assert found.best.unexplained > 0.4


def test_a_stop_that_is_asked_for_ends_the_trials(scan: Scan) -> None:
    asked = iter([False, *[True] * 1000])
    found = diagnose(scan, budget_s=LONG, execution=NUMPY, should_stop=lambda: next(asked))
    assert len(found.trials) == 1
    assert "time was over" in found.remarks[0]


def test_a_budget_without_a_trial_is_refused(scan: Scan) -> None:
    with pytest.raises(ConfigError, match="budget_s"):
        diagnose(scan, budget_s=-1.0, execution=NUMPY)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("turn_deg", [0.0, 27.0, 100.0])
def test_the_curl_tells_turn_and_handedness(scan: Scan, transposed: bool, turn_deg: float) -> None:
    best, worst = turn_by_centre_of_mass(Setting(transposed=transposed, turn_deg=turn_deg).applied(scan))
    assert best.transposed == transposed
    assert best.curl < 0.2 < worst.curl
    right = Setting(transposed=best.transposed, turn_deg=best.turn_deg).matrix
    whole = right @ Setting(transposed=transposed, turn_deg=turn_deg).matrix
    assert abs(whole) == pytest.approx(np.eye(2), abs=0.06)  # up to half a turn


def test_a_given_probe_speaks_for_where_the_zero_frequency_is(scan: Scan) -> None:
    as_read, elsewhere = probe_speaks_for_other_dc(scan)
    assert as_read > elsewhere + 0.3
    assert probe_speaks_for_other_dc(replace(scan, probe_source="estimated")) is None
    there, here = probe_speaks_for_other_dc(Setting(other_dc=True).applied(scan))
    assert here > there + 0.3


@pytest.mark.parametrize("orientation", ["as-is", "flip-y", "transpose", "rotate-90"])
@pytest.mark.parametrize("before", [{}, {"positions_turn_deg": "20"}, {"positions_scale": "0.8"}])
def test_flags_are_composed_with_those_before(scan: Scan, orientation: str, before: dict) -> None:
    """Read with the flags that are named, positions lie where the trial had them."""
    before = before | ({"positions_orientation": orientation} if orientation != "as-is" else {})
    change = Setting(transposed=True, turn_deg=33.0, scale_y=1.2, scale_x=1.2)
    raw = RawScan(name="raw", frames=scan.counts(), positions_px=scan.positions_px, probe=scan.probe)
    there = change.applied(read(raw, before)).positions_px
    again = read(raw, composed_flags(change, scan, before)).positions_px
    assert again - again.mean(0) == pytest.approx(there - there.mean(0), abs=0.1)


def read(raw: RawScan, flags: dict) -> Scan:
    from ptycho_core.io.checked_scan import admit

    options = {}
    for name, value in flags.items():
        if name == "positions_scale":
            options[name] = tuple(float(part) for part in value.split(","))
        else:
            options[name] = float(value) if name == "positions_turn_deg" else value
    return admit(raw, ReadOptions(measurement="counts", dc="center", **options))


@pytest.mark.parametrize("scale", [1.0, 0.02, 12.0])
@pytest.mark.parametrize("measurement", ["counts", "amplitude"])
def test_the_values_tell_counts_from_amplitudes(scan: Scan, measurement: str, scale: float) -> None:
    counts = scan.counts()
    values = (counts if measurement == "counts" else np.sqrt(counts)) * np.float32(scale)
    right = replace(scan, frames=values, measurement=measurement, dc="center")
    other = "amplitude" if measurement == "counts" else "counts"
    assert not values_speak_for_other_measurement(right)
    assert values_speak_for_other_measurement(replace(right, measurement=other))


def test_values_that_were_smoothed_tell_nothing(scan: Scan) -> None:
    counts = scan.counts() + np.float32(0.3) * np.random.default_rng(1).random(scan.frames.shape, np.float32)
    for measurement in ("counts", "amplitude"):
        told = replace(scan, frames=counts, measurement=measurement, dc="center")
        assert not values_speak_for_other_measurement(told)


def test_counts_taken_for_amplitudes_are_named(scan: Scan) -> None:
    asked = iter([False] * 2 + [True] * 1000)
    found = diagnose(
        replace(scan, measurement="amplitude"),
        budget_s=LONG,
        execution=NUMPY,
        should_stop=lambda: next(asked),
    )
    assert names(found) == ["counts taken for amplitudes"]
    assert found.flags == {"measurement": "counts"}


@pytest.fixture(scope="module")
def shadows(simulated) -> Scan:
    """Frames of the near field: a wide beam and a short way to the detector."""
    made = simulated(frames=60, frame_px=32, photons=1e6, seed=2, object_kind="polygons", start_kind="true")
    scan, n = made.scan, 32
    at, frequency = np.arange(n) - n // 2, np.fft.fftfreq(n)
    beam = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 12**2))
    way = np.exp(-5j * np.pi * (frequency[:, None] ** 2 + frequency**2))
    wide = np.pad(made.obj, n, constant_values=1)
    corner = np.round(scan.positions_px - scan.positions_px.min(axis=0)).astype(int) + n // 2
    waves = np.stack([wide[y : y + n, x : x + n] * beam for y, x in corner])
    light = np.abs(np.fft.ifft2(np.fft.fft2(waves) * way)) ** 2
    counts = np.random.default_rng(3).poisson(light * (1e6 / light.sum(axis=(1, 2)).mean()))
    return replace(scan, frames=counts.astype(np.float32), measurement="counts", dc="center")


def test_a_near_field_moves_with_the_positions_and_a_far_field_does_not(scan: Scan, shadows: Scan) -> None:
    assert follows_the_positions(shadows) > 0.95
    assert follows_the_positions(scan) < 0.8


def test_a_near_field_is_said_to_be_one(shadows: Scan) -> None:
    asked = iter([False, *[True] * 1000])
    found = diagnose(shadows, budget_s=LONG, execution=NUMPY, should_stop=lambda: next(asked))
    assert any("near field" in remark for remark in found.remarks)


def test_a_trial_whose_probe_withdrew_to_one_frame_is_no_evidence(scan: Scan) -> None:
    doctor = Doctor(scan, Trials(scan, LONG, NUMPY), {})
    scaled = doctor.but(scale_y=1.1, scale_x=1.1)
    trial = doctor.trials(scaled)
    assert trial is not None
    assert trial.overlap > trial.overlap_at_start - 0.1
    alone = replace(trial, unexplained=0.0, overlap=trial.overlap_at_start - 0.2)
    doctor.trials.tried[scaled] = replace(trial, unexplained=0.0)
    assert doctor.best_of([scaled]) is doctor.trials.tried[scaled]
    doctor.trials.tried[scaled] = alone
    assert doctor.best_of([scaled, AS_READ]) is doctor.as_read
