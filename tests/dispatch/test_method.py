"""What `--method auto` chooses, and what it says."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest

from ptycho_core import Scan, scan_from_arrays
from ptycho_core.simulate import simulate_scan
from ptycho_dispatch.by_network import choose_method

NEEDED = ("ptycho_core_torch", "torch", "lightning")
HERE = all(importlib.util.find_spec(name) for name in NEEDED)


def scan_of(photons: float) -> Scan:
    return simulate_scan(frames=30, frame_px=32, photons=photons, seed=1).scan


@pytest.mark.parametrize(
    ("photons", "goes_on", "method"),
    [
        (1e6, False, "solver"),
        (300.0, False, "both" if HERE else "solver"),
        (20.0, False, "solver"),
        (300.0, True, "solver"),
    ],
)
def test_a_network_comes_first_where_photons_are_few(
    photons: float, goes_on: bool, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ptycho"):
        assert choose_method(scan_of(photons), backend="pytorch", goes_on=goes_on) == method
    assert "Method: " in caplog.text and "`auto`" in caplog.text


def test_without_a_network_the_solver_does_it_and_says_what_is_missed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ptycho_core.backend.discover_backends", dict)
    with caplog.at_level(logging.INFO, "ptycho"):
        assert choose_method(scan_of(300.0), backend="pytorch", goes_on=False) == "solver"
    assert "pip install 'ptycho-dispatch[torch]'" in caplog.text
    assert caplog.records[-1].levelname == "WARNING"


def test_frames_that_are_no_counts_go_to_the_solver() -> None:
    made = scan_of(300.0)
    amplitudes = made.amplitude(slice(None)) * 0.37
    scan = scan_from_arrays(amplitudes, made.positions_px, made.probe, measurement="amplitude", dc="center")
    assert choose_method(scan, backend="pytorch", goes_on=False) == "solver"


def test_a_dim_scan_is_reconstructed_with_or_without_a_network(ptycho, tmp_path: Path) -> None:
    words = ("--photons", "300", "--frames", "30", "--size", "32", "--output", "dim.npz")
    assert ptycho("simulate", *words).code == 0
    done = ptycho("reconstruct", "dim.npz", "--max-time", "4s", "--output-dir", "out")
    assert done.code == 0, done.err
    assert ("network, then solver" in done.out) == HERE
    assert (tmp_path / "out" / "reconstruction.npz").exists()
