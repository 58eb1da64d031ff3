"""Who imports whom: no circles, nothing from a lower floor to a higher one, and no door into a private room.

The graph is drawn by `grimp` from the sources, imports inside functions and for type checkers included.
"""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "packages").glob("*/src"))
#: The packages from the lowest floor up; a core stands beside the other, and the facade is one distribution.
PACKAGES = (
    ("ptycho_config",),
    ("ptycho_core",),
    ("ptycho_core_torch", "ptycho_core_tf"),
    ("ptycho_dispatch",),
    ("ptycho", "ptycho_torch"),
)
#: Here a leading underscore marks what is ours among the import paths of older programs.
FACADE = PACKAGES[-1]
#: The rooms of ptycho_core from the lowest floor up. A room imports from the floors below it, never from
#: another room of its floor. ARCHITECTURE.md shows this table.
FLOORS = (
    ("citations", "coded_frames", "cores", "files", "given", "memory", "moved", "ranks"),
    ("datasets", "held_out", "kernel", "physics"),
    ("arrays", "metrics", "scan"),
    ("figures", "io"),
    ("bundle", "result", "simulate"),
    ("backend", "solver"),
    ("doctor", "learning", "orientations", "verdict"),
    ("checks", "costs", "live", "runtimes"),
)

Edges = Mapping[str, set[str]]


@contextmanager
def importable(*folders: Path) -> Iterator[None]:
    """Let sources be found before what is installed of them."""
    before = list(sys.path)
    sys.path[:0] = map(str, folders)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def graph_of(packages: tuple[str, ...], *folders: Path) -> grimp.ImportGraph:
    with importable(*folders):
        return grimp.build_graph(*packages, cache_dir=None)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """All seven packages, whether their frameworks are installed or not."""
    return graph_of(tuple(name for floor in PACKAGES for name in floor), *SOURCES)


def imports(graph: grimp.ImportGraph) -> Edges:
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def rooms(graph: grimp.ImportGraph, package: str) -> dict[str, set[str]]:
    """Give the children of a package, and of each its modules."""
    return {child: {child, *graph.find_descendants(child)} for child in graph.find_children(package)}


def between_rooms(graph: grimp.ImportGraph, package: str) -> Edges:
    """Give the rooms of a package that each of its rooms imports."""
    inside = rooms(graph, package)
    home = {module: room for room, modules in inside.items() for module in modules}
    edges = imports(graph)
    return {
        room: {home[found] for module in modules for found in edges[module] if found in home} - {room}
        for room, modules in inside.items()
    }


def circle(edges: Edges) -> list[str]:
    """Give one circle, from a module back to it; empty where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Give one circle of modules, and one of the rooms of every package that has any."""
    packages = sorted(module for module in graph.modules if graph.find_children(module))
    found = [circle(imports(graph)), *(circle(between_rooms(graph, package)) for package in packages)]
    return [one for one in found if one]


def arrows_up(edges: Edges, floors: tuple[tuple[str, ...], ...]) -> list[str]:
    """List imports of a room from its own floor or a higher one, and rooms without a floor."""
    floor_of = {room: number for number, floor in enumerate(floors) for room in floor}
    found = [f"{room} is on no floor" for room in sorted(edges.keys() - floor_of.keys())]
    found += [f"{room} is on a floor and not there" for room in sorted(floor_of.keys() - edges.keys())]
    return found + [
        f"{room} -> {other}"
        for room in sorted(edges.keys() & floor_of.keys())
        for other in sorted(edges[room] & floor_of.keys())
        if floor_of[other] >= floor_of[room]
    ]


def between_packages(graph: grimp.ImportGraph) -> Edges:
    roots = {module for module in graph.modules if "." not in module}
    edges = imports(graph)
    found: dict[str, set[str]] = {root: set() for root in roots}
    for module, others in edges.items():
        root = module.partition(".")[0]
        found[root] |= {other.partition(".")[0] for other in others} - {root}
    return found


def is_private(module: str) -> bool:
    return any(re.match(r"_(?!_)", part) for part in module.split("."))


def private_modules(graph: grimp.ImportGraph, but_for: tuple[str, ...] = ()) -> list[str]:
    """List modules with a leading underscore outside some packages."""
    return sorted(
        module for module in graph.modules if is_private(module) and module.partition(".")[0] not in but_for
    )


def doors_broken(graph: grimp.ImportGraph, distribution: tuple[str, ...]) -> list[str]:
    """List imports of a distribution's private modules from another one."""
    return [
        f"{module} -> {other}"
        for module, others in sorted(imports(graph).items())
        if module.partition(".")[0] not in distribution
        for other in sorted(others)
        if is_private(other) and other.partition(".")[0] in distribution
    ]


def test_no_modules_and_no_rooms_import_in_a_circle(graph) -> None:
    assert circles(graph) == []


def test_a_package_imports_from_the_floors_below_it(graph) -> None:
    edges = between_packages(graph)
    inside_the_facade = {"ptycho": {"ptycho_torch"}, "ptycho_torch": {"ptycho"}}
    edges = {package: others - inside_the_facade.get(package, set()) for package, others in edges.items()}
    assert arrows_up(edges, PACKAGES) == []


def test_the_floors_of_the_packages_are_the_layers_of_import_linter() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = (one["layers"] for one in settings["contracts"] if one["type"] == "layers")
    assert [set(re.split(r" [:|] ", layer)) for layer in reversed(layers)] == [set(one) for one in PACKAGES]


def test_a_room_of_the_core_imports_from_the_floors_below_it(graph) -> None:
    edges = between_rooms(graph, "ptycho_core")
    floors = tuple(tuple(f"ptycho_core.{room}" for room in floor) for floor in FLOORS)
    assert arrows_up(edges, floors) == []


def test_no_module_of_a_library_package_is_private(graph) -> None:
    assert private_modules(graph, but_for=FACADE) == []


def test_what_is_ours_in_the_facade_stays_inside_its_distribution(graph) -> None:
    assert private_modules(graph, but_for=("ptycho_torch",)), "an underscore marks them"
    assert doors_broken(graph, FACADE) == []


@pytest.fixture
def drawn(tmp_path: Path):
    """Draw the graph of packages that are given as file -> what it imports."""

    def draw(files: dict[str, str]) -> grimp.ImportGraph:
        for name, text in files.items():
            path = tmp_path / name
            for folder in [path.parent, *path.parent.parents]:
                if folder == tmp_path:
                    break
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "__init__.py").touch()
            path.write_text(text, encoding="utf-8")
        roots = sorted({name.partition("/")[0] for name in files})
        return graph_of(tuple(roots), tmp_path)

    return draw


STRAIGHT = {
    "grimptest_a/low.py": "",
    "grimptest_a/high/door.py": "from grimptest_a import low",
    "grimptest_a/high/room.py": "from grimptest_a.high.door import low",
}


@pytest.mark.parametrize(
    ("changed", "around"),
    [
        ({}, []),
        ({"grimptest_a/low.py": "import grimptest_a.high.room"}, ["low", "high.room", "high.door"]),
        # No circle of modules, yet two rooms that need each other.
        (
            {"grimptest_a/other/one.py": "", "grimptest_a/high/door.py": "import grimptest_a.other.one"}
            | {"grimptest_a/other/two.py": "import grimptest_a.high.room"},
            ["high", "other"],
        ),
        ({"grimptest_a/low.py": "def f():\n    from grimptest_a.high import door"}, ["low", "high.door"]),
        (
            {
                "grimptest_a/low.py": "from typing import TYPE_CHECKING\n"
                "if TYPE_CHECKING:\n    import grimptest_a.high.door"
            },
            ["low", "high.door"],
        ),
    ],
)
def test_a_circle_is_found(drawn, changed: dict[str, str], around: list[str]) -> None:
    found = circles(drawn(STRAIGHT | changed))
    assert bool(found) == bool(around)
    if around:
        assert set(found[0]) == {f"grimptest_a.{name}" for name in around}


def test_an_arrow_up_and_a_room_without_a_floor_are_found(drawn) -> None:
    edges = between_rooms(
        drawn({**STRAIGHT, "grimptest_a/side.py": "from grimptest_a import low"}), "grimptest_a"
    )
    low, high, side = (f"grimptest_a.{name}" for name in ("low", "high", "side"))
    assert arrows_up(edges, ((low,), (high, side))) == []
    assert arrows_up(edges, ((high,), (low, side))) == [f"{high} -> {low}", f"{side} -> {low}"]
    assert arrows_up(edges, ((low, high), (side,))) == [f"{high} -> {low}"]
    assert arrows_up(edges, ((low,), (high,))) == [f"{side} is on no floor"]
    assert arrows_up(edges, ((low,), (high, side, "gone"))) == ["gone is on a floor and not there"]


def test_an_arrow_up_between_packages_is_found(drawn) -> None:
    edges = between_packages(drawn({**STRAIGHT, "grimptest_b/room.py": "import grimptest_a.low"}))
    assert arrows_up(edges, (("grimptest_a",), ("grimptest_b",))) == []
    assert arrows_up(edges, (("grimptest_b",), ("grimptest_a",))) == ["grimptest_b -> grimptest_a"]


def test_a_private_module_and_a_door_into_it_are_found(drawn) -> None:
    inside = {**STRAIGHT, "grimptest_a/_ours.py": "", "grimptest_a/high/room.py": "import grimptest_a._ours"}
    assert private_modules(drawn(inside)) == ["grimptest_a._ours"]
    assert private_modules(drawn(inside), but_for=("grimptest_a",)) == []
    assert doors_broken(drawn(inside), ("grimptest_a",)) == []
    outside = drawn({**inside, "grimptest_b/__main__.py": "from grimptest_a import _ours"})
    assert doors_broken(outside, ("grimptest_a",)) == ["grimptest_b.__main__ -> grimptest_a._ours"]
    assert doors_broken(outside, ("grimptest_a", "grimptest_b")) == []


def test_the_page_of_the_house_shows_the_floors_and_names_files_that_exist() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = page.partition("## The rooms of ptycho-core")[2]
    shown = re.findall(r"^\| (\d) \| (`\w+`(?:, `\w+`)*) \|", rooms, re.MULTILINE)
    assert [tuple(re.findall(r"\w+", rooms_there)) for _, rooms_there in reversed(shown)] == list(FLOORS)
    named = re.findall(r"`(ptycho\w*/[\w/]+(?:\.py)?/?)`", page)
    missing = [name for name in named if not any((source / name).exists() for source in SOURCES)]
    assert named and missing == []
