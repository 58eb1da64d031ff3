"""What `--method auto` chooses, and what it says."""

from __future__ import annotations

import logging

import pytest

from ptycho_core import Scan
from ptycho_core.backend import Availability
from ptycho_core.simulate import simulate_scan
from ptycho_dispatch.method import choose_method


def scan_of(photons: float) -> Scan:
    return simulate_scan(frames=30, frame_px=32, photons=photons, seed=1).scan


@pytest.fixture
def pytorch(monkeypatch: pytest.MonkeyPatch):
    """Answer whether PyTorch is there."""

    class Backend:
        installed = True

        def availability(self) -> Availability:
            return Availability(
                installed=self.installed, version=None, devices=(), reason="torch is not installed"
            )

    backend = Backend()
    monkeypatch.setattr("ptycho_core.backend.get_backend", lambda name: backend)
    return backend


@pytest.mark.parametrize(
    ("photons", "goes_on", "method"),
    [(1e6, False, "solver"), (300.0, False, "both"), (20.0, False, "solver"), (300.0, True, "solver")],
)
def test_a_network_comes_first_where_photons_are_few(
    pytorch, photons: float, goes_on: bool, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ptycho"):
        assert choose_method(scan_of(photons), goes_on=goes_on) == method
    assert "Method: " in caplog.text and "`auto`" in caplog.text


def test_without_pytorch_it_says_what_is_missed(pytorch, caplog: pytest.LogCaptureFixture) -> None:
    pytorch.installed = False
    with caplog.at_level(logging.INFO, "ptycho"):
        assert choose_method(scan_of(300.0), goes_on=False) == "solver"
    assert "pip install 'ptycho-dispatch[torch]'" in caplog.text
    assert caplog.records[-1].levelname == "WARNING"


def test_frames_that_are_no_counts_go_to_the_solver(pytorch) -> None:
    made = scan_of(1e6)
    amplitudes = made.amplitude(slice(None)) * 0.37
    scan = Scan.from_arrays(amplitudes, made.positions_px, made.probe, measurement="amplitude", dc="center")
    assert choose_method(scan, goes_on=False) == "solver"
