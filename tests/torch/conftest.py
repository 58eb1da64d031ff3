"""Tests of training are collected only where the PyTorch core and its frameworks are installed."""

from __future__ import annotations

import importlib.util
import sys

import pytest

NEEDED = ("ptycho_core_torch", "torch", "lightning")
collect_ignore = (
    []
    if all(importlib.util.find_spec(name) for name in NEEDED)
    else [
        "test_checkpoints.py",
        "test_devices.py",
        "test_forward.py",
        "test_memory.py",
        "test_passes.py",
        "test_probe_gauge.py",
        "test_recipes.py",
        "test_resume.py",
        "test_several_processes.py",
        "test_training.py",
        "test_views.py",
        "test_workflows_components.py",
    ]
)


@pytest.fixture(autouse=True)
def a_program_with_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test process look like a program that can be started again; pytest starts some by `-c`."""
    if sys.argv[0] == "-c":
        monkeypatch.setattr(sys, "argv", [__file__, *sys.argv[1:]])


@pytest.fixture(scope="session")
def scan(simulated):
    """60 frames of 32 x 32 with the true probe."""
    return simulated(frames=60, frame_px=32, start_kind="true", seed=2).scan
