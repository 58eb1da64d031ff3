"""Tests of training are collected only where the PyTorch core and its frameworks are installed."""

from __future__ import annotations

import importlib.util

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
