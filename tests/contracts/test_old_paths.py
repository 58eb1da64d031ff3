"""What moved is found under its old name for one release, with a warning that tells the new one."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ptycho_core import Scan, scan_from_arrays

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
#: PyTorch before TensorFlow: loaded after it, it has crashed on some hosts.
TABLES = (
    "ptycho_config.moved",
    "ptycho_core.moved",
    "ptycho_dispatch.moved",
    "ptycho_core_torch.moved",
    "ptycho_core_tf.moved",
)
NEEDS = {"ptycho_core_torch": ("torch", "lightning"), "ptycho_core_tf": ("tensorflow", "keras")}
#: The last line of the `__getattr__` of a module out of which names moved, with the name of its table.
ASKS = re.compile(r"^    return moved_name\(__name__, name, (\w+)\)$", re.MULTILINE)


def installed(package: str) -> bool:
    """Tell whether a package is here, with the framework without which it cannot be imported."""
    return all(importlib.util.find_spec(name) for name in (package, *NEEDS.get(package, ())))


def moved_modules() -> dict[str, tuple[str, ...]]:
    """Read the tables of all packages that are here: old module -> the modules that hold its names now."""
    return {
        old: homes
        for table in TABLES
        if installed(table.split(".")[0])
        for old, homes in importlib.import_module(table).MOVED.items()
    }


def imported_anew(name: str) -> tuple[ModuleType, list[str]]:
    """Import a module as for the first time; returns it and what was said about deprecation."""
    sys.modules.pop(name, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = importlib.import_module(name)
    return module, [str(one.message) for one in caught if one.category is DeprecationWarning]


def public_names(home: ModuleType) -> list[str]:
    names = getattr(home, "__all__", None)
    return [name for name in vars(home) if not name.startswith("_")] if names is None else names


def test_every_table_is_looked_at() -> None:
    written = {f"{path.parent.name}.moved" for path in PACKAGES.glob("*/src/*/moved.py")}
    assert written == set(TABLES)


def test_an_old_module_warns_and_has_the_names_of_its_new_homes() -> None:
    moved = moved_modules()
    assert len(moved) > 50
    broken: list[str] = []
    for old, homes in moved.items():
        module, said = imported_anew(old)
        wanted = (
            f"`{old}` moved and will not be found here in the next release: use `{'` and `'.join(homes)}`"
        )
        if wanted not in said:
            broken.append(f"{old}: expected the warning {wanted!r}, found {said}")
        found_at = [importlib.import_module(home) for home in homes]
        for name in dict.fromkeys(name for home in found_at for name in public_names(home)):
            if not any(getattr(module, name, None) is getattr(home, name, module) for home in found_at):
                broken.append(f"{old}.{name} is not that of {' or '.join(homes)}")
    assert broken == []


def test_a_submodule_of_an_old_package_can_be_imported_first() -> None:
    for name in ("ptycho_core.probes.scans", "ptycho_core.probes"):
        sys.modules.pop(name, None)
    module, said = imported_anew("ptycho_core.probes.scans")
    assert [text.split("`")[1] for text in said] == ["ptycho_core.probes", "ptycho_core.probes.scans"]
    assert vars(module)["__name__"] == "ptycho_core.probes.scans"


def moved_names() -> dict[tuple[str, str], tuple[str, str]]:
    """Read the tables of all modules out of which names moved: (module, name) -> the same of today."""
    moved: dict[tuple[str, str], tuple[str, str]] = {}
    for path in sorted(PACKAGES.glob("*/src/**/*.py")):
        asks = ASKS.search(path.read_text(encoding="utf-8"))
        [sources] = [parent for parent in path.parents if parent.name == "src"]
        module = ".".join(path.relative_to(sources).with_suffix("").parts).removesuffix(".__init__")
        if asks is None or not installed(module.split(".")[0]):
            continue
        for name, today in getattr(importlib.import_module(module), asks[1]).items():
            home, _, renamed = today.partition(":")
            moved[module, name] = (home, renamed or name)
    return moved


def test_a_name_that_moved_warns_and_is_that_of_its_new_home() -> None:
    moved = moved_names()
    assert {
        ("ptycho_core.solver", "LiveSolver"),
        ("ptycho_core.solver", "LiveFrames"),
        ("ptycho_core.figures", "write_orientations"),
    } <= set(moved)
    broken: list[str] = []
    for (module, name), (home, renamed) in moved.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = getattr(importlib.import_module(module), name)
        said = [str(one.message) for one in caught if one.category is DeprecationWarning]
        wanted = (
            f"`{module}.{name}` moved and will not be found here in the next release: use `{home}.{renamed}`"
        )
        if said != [wanted]:
            broken.append(f"{module}.{name}: expected the warning {wanted!r}, found {said}")
        if found is not getattr(importlib.import_module(home), renamed):
            broken.append(f"{module}.{name} is not {home}.{renamed}")
    assert broken == []


def test_a_name_that_never_was_there_is_missing_as_everywhere() -> None:
    with pytest.raises(AttributeError, match=r"module 'ptycho_core.solver' has no attribute 'DeadSolver'"):
        importlib.import_module("ptycho_core.solver").DeadSolver  # noqa: B018


def test_scan_from_arrays_is_also_a_method_of_the_scan_for_one_release() -> None:
    rng = np.random.default_rng(3)
    frames = rng.poisson(50, (5, 32, 32)).astype(np.float32)
    positions = rng.uniform(20, 40, (5, 2))
    given = {"measurement": "counts", "dc": "center", "probe": np.ones((32, 32), np.complex64)}
    with pytest.warns(DeprecationWarning, match=r"Scan\.scan_from_arrays` moved .* use `ptycho_core"):
        scan = Scan.from_arrays(frames, positions, **given)
    expected = scan_from_arrays(frames, positions, **given)
    np.testing.assert_array_equal(scan.counts(), expected.counts())
    np.testing.assert_array_equal(scan.positions_px, expected.positions_px)


def test_the_page_of_what_moved_lists_every_old_module() -> None:
    page = (PACKAGES.parent / "docs" / "reference" / "renamed.md").read_text(encoding="utf-8")
    missing = [old for old, homes in moved_modules().items() if f"| `{old}` | `{homes[0]}`" not in page]
    assert missing == []
