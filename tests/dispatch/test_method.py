"""What `--method auto` chooses, and what it says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ptycho_core import Scan, scan_from_arrays
from ptycho_core.simulate import simulate_scan
from ptycho_dispatch.by_network import choose_method


def scan_of(photons: float) -> Scan:
    return simulate_scan(frames=30, frame_px=32, photons=photons, seed=1).scan


@pytest.mark.parametrize(
    ("photons", "goes_on", "said"),
    [
        (1e6, False, "faster and sharper"),
        (300.0, False, "`--method both` trains one"),
        (300.0, False, "`--prior-bundle` offers it the image of a network"),
        (20.0, False, "photons held out choose its prior"),
        (300.0, True, "goes on from a result"),
    ],
)
def test_the_solver_is_taken_at_every_dose_and_says_what_a_network_would_cost(
    photons: float, goes_on: bool, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ptycho"):
        assert choose_method(scan_of(photons), goes_on=goes_on) == "solver"
    assert "Method: " in caplog.text and "`auto`" in caplog.text and said in caplog.text


def test_a_bundle_that_is_given_is_said_to_be_used(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ptycho"):
        assert choose_method(scan_of(300.0), goes_on=False, bundle=Path("trained")) == "solver"
    assert "the network in trained as prior mean" in caplog.text


def test_frames_that_are_no_counts_go_to_the_solver() -> None:
    made = scan_of(300.0)
    amplitudes = made.amplitude(slice(None)) * 0.37
    scan = scan_from_arrays(amplitudes, made.positions_px, made.probe, measurement="amplitude", dc="center")
    assert choose_method(scan, goes_on=False) == "solver"


def test_a_dim_scan_is_reconstructed_without_a_network(ptycho, tmp_path: Path) -> None:
    words = ("--photons", "300", "--frames", "30", "--size", "32", "--output", "dim.npz")
    assert ptycho("simulate", *words).code == 0
    done = ptycho("reconstruct", "dim.npz", "--diagnose", "off", "--output-dir", "out")
    assert done.code == 0, done.err
    assert "network, then solver" not in done.out
    assert "photons, held out" in done.out + done.err
    assert (tmp_path / "out" / "reconstruction.npz").exists()


def test_an_uncertainty_is_that_of_the_solver(ptycho, scan_file: Path) -> None:
    done = ptycho("reconstruct", scan_file, "--uncertainty", "true", "--method", "network")
    assert done.code != 0
    assert "`--uncertainty` reconstructs halves of the scan with the solver" in done.err + done.out
