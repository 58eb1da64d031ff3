"""Legacy import surface: one module for each path that older programs import. It loads no framework.

Older programs reach `ptycho.probe`, `ptycho.params` and others as attributes after they imported a single one
of them, so the modules are imported when they are asked for.
"""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = frozenset(
    {
        "config",
        "loader",
        "model",
        "model_manager",
        "params",
        "probe",
        "raw_data",
        "tf_helper",
        "workflows",
    }
)


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"ptycho.{name}")
    raise AttributeError(f"module 'ptycho' has no attribute {name!r}")
