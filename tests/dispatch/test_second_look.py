"""Where the verdict is not good, other readings are tried: what was open is taken, the rest is named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_core import save_scan
from ptycho_core.io.units import HC_EV_M
from ptycho_core.simulate import simulate_scan
from ptycho_core.simulate.scan import expected_intensity


@pytest.fixture(scope="module")
def made():
    return simulate_scan(frames=40, frame_px=32, photons=1e6, seed=1, start_kind="scan-like")


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much time that all is tried, however slow the host is: few frames are tried quickly."""
    monkeypatch.setattr("ptycho_dispatch.second_look.LEAST_BUDGET_S", 300.0)


def diagnosed(ptycho, scan, path: Path, *words: object):
    save_scan(scan, path)
    return ptycho(
        "reconstruct", path, "--diagnose", "auto", "--output-dir", "out", "--arrays", "numpy", *words
    )


def record(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "run.json").read_text())


def test_what_the_file_states_is_not_changed_but_named(ptycho, made, tmp_path: Path) -> None:
    turned = replace(made.scan, positions_px=np.ascontiguousarray(made.scan.positions_px[:, ::-1]))
    done = diagnosed(ptycho, turned, tmp_path / "turned.npz")
    assert done.code == 0, done.err
    assert "Verdict: " in done.err
    assert "trying for up to 300 s" in done.err
    *_, advice, line = done.out.splitlines()
    assert "explained better" in advice
    assert line.startswith("ptycho reconstruct ")
    assert "--positions-orientation" in line or "--positions-turn-deg" in line
    assert record(tmp_path)["verdict"]["grade"] != "good"


def test_where_lengths_come_out_too_short_the_distance_is_named(ptycho, made, tmp_path: Path) -> None:
    true_m, energy_ev, detector_pixel_m = 2.0, 8000.0, 75e-6
    pixel_m = HC_EV_M / energy_ev * true_m / (32 * detector_pixel_m)
    np.save(tmp_path / "frames.npy", made.scan.counts())
    positions_nm = made.scan.positions_px * pixel_m * 1e9
    np.savetxt(tmp_path / "positions.csv", positions_nm, delimiter=",", header="y_nm,x_nm", comments="")
    done = ptycho(
        *("diagnose", tmp_path / "frames.npy", "--positions-file", tmp_path / "positions.csv"),
        *("--energy-ev", energy_ev, "--distance-m", 1.6 * true_m, "--detector-pixel-m", detector_pixel_m),
        *("--budget", "300s"),
    )
    assert done.code == 0, done.err
    (said,) = [line for line in done.out.splitlines() if "--distance-m" in line and "wrong distance" in line]
    told_m = float(re.search(r"`--distance-m ([\d.]+)`", said)[1])
    assert told_m == pytest.approx(true_m, rel=0.05)


def test_what_there_was_no_time_for_is_named(
    ptycho, made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptycho_dispatch.second_look.LEAST_BUDGET_S", 0.2)
    order = np.random.default_rng(0).permutation(made.scan.n_frames)
    mixed = replace(made.scan, positions_px=made.scan.positions_px[order])
    done = diagnosed(
        ptycho, mixed, tmp_path / "mixed.npz", "--solver-epochs", "1", "--frc", "false", "--prior", "none"
    )
    assert done.code == 0, done.err
    *_, said, line = done.out.splitlines()
    assert "readings could be tried; this tries the others:" in said
    assert line.startswith("ptycho diagnose ") and line.endswith(" --budget 60s")


def test_what_was_open_is_taken_by_evidence(ptycho, tmp_path: Path) -> None:
    two = simulate_scan(frames=60, frame_px=32, overlap=0.8, photons=1e7, modes=3, seed=3)
    save_scan(two.scan, tmp_path / "modes.npz")
    words = ("--diagnose", "off", "--output-dir", "out", "--arrays", "numpy")
    assert ptycho("reconstruct", tmp_path / "modes.npz", *words).code == 0
    before = record(tmp_path)
    done = diagnosed(ptycho, two.scan, tmp_path / "modes.npz")
    assert done.code == 0, done.err
    assert before["verdict"]["grade"] != "good"
    assert "Taken by evidence: `--probe-modes" in done.err
    assert "`--probe-modes 1` overrules it" in done.err
    assert record(tmp_path)["data_residual"] < before["data_residual"]


@pytest.mark.slow
def test_a_flag_that_is_in_use_is_not_proposed(ptycho, tmp_path: Path) -> None:
    made = simulate_scan(frames=60, frame_px=32, photons=1e6, seed=1, start_kind="scan-like")
    bright = np.random.default_rng(0).uniform(0.4, 1.6, 60)
    light = expected_intensity(made.obj, made.probe, made.scan.positions_px)
    counts = np.random.default_rng(1).poisson(light * bright[:, None, None])
    beam = replace(made.scan, frames=counts.astype(np.float32))
    mirrored = replace(beam, positions_px=np.ascontiguousarray(beam.positions_px[:, ::-1]))
    done = diagnosed(ptycho, mirrored, tmp_path / "mirrored.npz", "--frame-intensity", "true")
    *_, advice, line = done.out.splitlines()
    assert "explained better" in advice
    assert "--frame-intensity true" in line and "--positions-" in line
    assert "Taken by evidence" not in done.err


def test_off_and_strict(ptycho, made, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(made.scan.n_frames)
    save_scan(replace(made.scan, positions_px=made.scan.positions_px[order]), tmp_path / "wrong.npz")
    words = ("reconstruct", tmp_path / "wrong.npz", "--output-dir", "out", "--diagnose", "off")
    done = ptycho(*words)
    assert done.code == 0
    assert "trying for up to" not in done.err
    assert ptycho(*words, "--strict", "true").code == 1
    save_scan(made.scan, tmp_path / "right.npz")
    right = ptycho("reconstruct", tmp_path / "right.npz", "--output-dir", "out", "--strict", "true")
    assert right.code == 0, right.out
    assert "verdict" in right.out


def test_several_scans_go_on_past_one_that_fails(ptycho, made, tmp_path: Path) -> None:
    save_scan(made.scan, tmp_path / "right.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    done = ptycho(
        "reconstruct", tmp_path / "broken.npz", tmp_path / "absent.npz", tmp_path / "right.npz",
        "--output-dir", "out", "--effort", "fast", "--diagnose", "off",
    )  # fmt: skip
    assert done.code == 3
    assert (tmp_path / "out" / "right" / "reconstruction.npz").exists()
    table = done.out.splitlines()[-3:]
    assert ["failed" in table[0], "failed" in table[1], "done in" in table[2]] == [True, True, True]
    assert "no such file" in table[1]


def without_a_word(scan, frames: np.ndarray, path: Path, key: str = "diff3d") -> Path:
    """A file that says nothing of its values but their name."""
    y, x = scan.positions_px.T
    np.savez(path, **{key: frames, "xcoords": x, "ycoords": y, "probeGuess": scan.probe[0]})
    return path


def two_counts_a_photon(scan) -> np.ndarray:
    """Counts in a unit of their own; that a photon gives two of them leaves it open what they are."""
    counts = 2 * scan.counts()
    counts[:, ::2, 0] += 1
    return counts * np.float32(0.37)


def test_counts_that_look_like_amplitudes_are_taken_for_counts(ptycho, made, tmp_path: Path) -> None:
    """Counts in a unit of their own have fractions; that they are multiples of one value gives them away."""
    path = without_a_word(made.scan, two_counts_a_photon(made.scan), tmp_path / "scaled.npz")
    words = ("reconstruct", path, "--output-dir", "out", "--arrays", "numpy")
    done = ptycho(*words, "--diagnose", "auto")
    assert done.code == 0, done.err
    assert "Taken by evidence: `--measurement counts`" in done.err
    assert "whole multiples of the smallest" in done.err
    assert "`--measurement amplitude` overrules it" in done.err


@pytest.mark.slow
def test_counts_that_are_said_to_be_amplitudes_stay_so_and_are_named(ptycho, made, tmp_path: Path) -> None:
    path = without_a_word(made.scan, two_counts_a_photon(made.scan), tmp_path / "scaled.npz")
    words = ("reconstruct", path, "--output-dir", "out", "--arrays", "numpy")
    stated = ptycho(*words, "--diagnose", "auto", "--measurement", "amplitude")
    assert "Taken by evidence: `--measurement" not in stated.err
    assert "--measurement counts" in stated.out


@pytest.mark.slow
def test_a_scan_that_is_read_again_keeps_the_probe_of_the_scan_before_it(
    ptycho, made, tmp_path: Path
) -> None:
    save_scan(made.scan, tmp_path / "first.npz")
    second = without_a_word(made.scan, two_counts_a_photon(made.scan), tmp_path / "second.npz")
    words = ("--output-dir", "out", "--arrays", "numpy", "--diagnose", "auto")
    done = ptycho("reconstruct", tmp_path / "first.npz", second, *words)
    assert done.code == 0, done.err
    assert "Taken by evidence: `--measurement counts`" in done.err
    # Once when the second scan was opened, once when it was read again.
    assert (done.out + done.err).count("The probe of the scan before it starts this one.") == 2
