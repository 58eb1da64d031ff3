"""Old import paths, for one release: a module that moved is found under its old name, with a warning.

Each package lists what moved in a module `moved` of its own and calls `keep_old_paths` once; those of this
package are here. When that release is over, these modules go, and nothing else changes.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["keep_old_paths", "moved_name"]

#: Old module -> the modules that hold its names now.
Moved = Mapping[str, tuple[str, ...]]

#: Old module -> where its names are now.
MOVED: Moved = {
    "ptycho_config.probes": ("ptycho_config.checks",),
    "ptycho_config.probes.accelerator": ("ptycho_config.checks.accelerator",),
    "ptycho_config.probes.evidence": ("ptycho_config.checks.evidence",),
    "ptycho_config.probes.registry": ("ptycho_config.checks.registry",),
    "ptycho_config.probes.separation": ("ptycho_config.checks.separation",),
    "ptycho_config.probes.training": ("ptycho_config.checks.training",),
}


def keep_old_paths(moved: Moved) -> None:
    """Let `import` find these modules under their old names; each warns with `DeprecationWarning`."""
    sys.meta_path.append(_OldPaths(moved))


def moved_name(module: str, name: str, home: Mapping[str, str]) -> Any:
    """Answer a module's `__getattr__` for names that moved, with a warning.

    Args:
        module: the `__name__` of the module that was asked.
        home: name -> the module that holds it now, or `module:name` where it has a new name as well.
    Raises:
        AttributeError: the name did not move; it was never here.
    """
    if name not in home:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    where, _, new = home[name].partition(":")
    _warn(f"{module}.{name}", f"{where}.{new or name}", stacklevel=4)
    return getattr(importlib.import_module(where), new or name)


def _warn(old: str, new: str, *, stacklevel: int) -> None:
    text = f"`{old}` moved and will not be found here in the next release: use `{new}`"
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)


class _OldPaths:
    """Finder and loader of old modules, asked after all others."""

    def __init__(self, moved: Moved) -> None:
        self._moved = dict(moved)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._moved:
            return None
        holds_others = any(name.startswith(f"{fullname}.") for name in self._moved)
        return ModuleSpec(fullname, self, is_package=holds_others)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        homes = self._moved[module.__name__]
        # The frames of `import` itself are not counted.
        _warn(module.__name__, "` and `".join(homes), stacklevel=3)
        for home in reversed(homes):
            found = vars(importlib.import_module(home))
            vars(module).update({name: value for name, value in found.items() if not name.startswith("__")})
            if "__getattr__" in found:  # it answers for names that were renamed there
                vars(module)["__getattr__"] = found["__getattr__"]
