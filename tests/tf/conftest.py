"""Tests of the networks are collected only where the TensorFlow core and its framework are installed."""

from __future__ import annotations

import importlib.util

NEEDED = ("ptycho_core_tf", "tensorflow", "keras")
collect_ignore = (
    []
    if all(importlib.util.find_spec(name) for name in NEEDED)
    else ["test_framework.py", "test_fused.py", "test_network.py", "test_networks.py", "test_weights.py"]
)
