"""Tests of the networks are collected only where the TensorFlow core and its framework are installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

NEEDED = ("ptycho_core_tf", "tensorflow", "keras")
collect_ignore = (
    []
    if all(importlib.util.find_spec(name) for name in NEEDED)
    else sorted({path.name for path in Path(__file__).parent.glob("test_*.py")} - {"test_backend.py"})
)
