"""Put the compiled kernel into a wheel, where a platform is named; leave every other build as it is.

`PTYCHO_WHEEL_TARGET` holds a platform's part of a wheel's tag, a key of `TARGETS` in wheels/targets.py.
Without it (an installation from the sources, `py3-none-any`, an editable one) nothing is compiled and nothing
needed. `nox -s build` sets it for one platform after the other, where ziglang is installed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET_VARIABLE = "PTYCHO_WHEEL_TARGET"
_PLACE = "ptycho_core/kernel/libraries"


class KernelHook(BuildHookInterface[Any]):
    """Compile the kernel for a platform, once for each level of instructions, and name the wheel after it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add libraries, licences and the tag of the platform."""
        platform = os.environ.get(TARGET_VARIABLE, "")
        if not platform or version == "editable":
            return
        root = Path(self.root)
        targets = _module(root / "wheels" / "targets.py")
        if platform not in targets.TARGETS:
            raise ValueError(f"{TARGET_VARIABLE}={platform}: expected one of {', '.join(targets.TARGETS)}")
        if importlib.util.find_spec("ziglang") is None:
            raise RuntimeError(
                f"{TARGET_VARIABLE}={platform} needs ziglang beside hatchling; `nox -s build` has it"
            )
        self._made = Path(tempfile.mkdtemp(prefix="ptycho-wheel-"))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        for path in _made_libraries(targets, targets.TARGETS[platform], root, self._made):
            build_data["force_include"][str(path)] = f"{_PLACE}/{path.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made on the way."""
        shutil.rmtree(getattr(self, "_made", ""), ignore_errors=True)


def _made_libraries(targets: ModuleType, target: Any, root: Path, folder: Path) -> list[Path]:
    """Compile everything that goes into the wheel of one platform; return the files."""
    kernel = root / "src" / "ptycho_core" / "kernel"
    shipped = _module(kernel / "shipped.py")
    sources, made = shipped.hash_of_sources(kernel), []
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for level, processor in target.levels.items():
            plain = Path(place, f"step-{level}{target.suffix}")
            targets.compile_library(target, processor, kernel / "fused.c", plain)
            content = plain.read_bytes()
            made.append(folder / shipped.library_name(level, sources, content, target.suffix))
            made[-1].write_bytes(content)
        if target.is_x86:
            plain = Path(place, f"processor{target.suffix}")
            targets.compile_library(target, target.any_processor, root / "wheels" / "processor.c", plain)
            content = plain.read_bytes()
            made.append(folder / f"processor-{shipped.hash_of(content)}{target.suffix}")
            made[-1].write_bytes(content)
    found = importlib.util.find_spec("ziglang")
    places = list(found.submodule_search_locations or []) if found else []
    made.append(folder / "LICENSES.txt")
    made[-1].write_text(targets.licences(target, Path(places[0])), encoding="utf-8")
    return made


def _module(path: Path) -> ModuleType:
    """Import one file that belongs to no package here."""
    spec = importlib.util.spec_from_file_location(f"ptycho_wheel_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
