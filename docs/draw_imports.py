"""Draw the rooms of ptycho-core, floor by floor, with their imports: docs/images/imports.png.

    python docs/draw_imports.py after=packages/ptycho-core/src
    python docs/draw_imports.py before=../older/packages/ptycho-core/src after=packages/ptycho-core/src

A room is what lies directly in `ptycho_core`: a file or a folder, with its number of lines. It stands one
floor above the highest room that it imports; rooms that import each other in a circle share a floor, and
their arrows are red. Needs grimp and matplotlib.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grimp
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PACKAGE = "ptycho_core"
#: Data that every package has, and the face of this one: everything would hang on them.
LEFT_OUT = {"moved"}


@dataclass(frozen=True)
class Room:
    """A file or a folder directly in the package."""

    name: str
    lines: int
    files: int


def rooms_of(source: Path) -> dict[str, Room]:
    """Count files and lines of each room."""
    found = {}
    for path in sorted((source / PACKAGE).iterdir()):
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path] * (path.suffix == ".py")
        name = path.stem
        if files and name not in {"__init__", *LEFT_OUT}:
            lines = sum(len(file.read_text("utf-8").splitlines()) for file in files)
            found[name] = Room(name, lines, len(files))
    return found


def arrows_of(source: Path, rooms: dict[str, Room]) -> dict[str, set[str]]:
    """Give for each room those that it imports."""
    sys.path.insert(0, str(source.resolve()))
    try:
        graph = grimp.build_graph(PACKAGE, cache_dir=None)
    finally:
        sys.path.pop(0)

    def room(module: str) -> str:
        return module.removeprefix(f"{PACKAGE}.").split(".")[0]

    arrows: dict[str, set[str]] = {name: set() for name in rooms}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            here, there = room(module), room(imported)
            if here != there and here in rooms and there in rooms:
                arrows[here].add(there)
    return arrows


def circles(arrows: dict[str, set[str]]) -> Iterator[set[str]]:
    """Give the sets of rooms each of which is reached from each other one."""

    def reached(start: str) -> set[str]:
        seen, todo = set(), list(arrows[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += arrows[name]
        return seen

    below = {name: reached(name) for name in arrows}
    done: set[str] = set()
    for name in arrows:
        if name in below[name] and name not in done:
            circle = {other for other in below[name] if name in below[other]}
            done |= circle
            yield circle


def floors_of(arrows: dict[str, set[str]]) -> dict[str, int]:
    """Give each room its floor, from 0; a circle is one floor."""
    home = {name: name for name in arrows}
    for circle in circles(arrows):
        first = min(circle)
        home |= dict.fromkeys(circle, first)
    floors: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in floors:
            members = [other for other in arrows if home[other] == name]
            below = {home[target] for member in members for target in arrows[member]} - {name}
            floors[name] = max((floor(other) + 1 for other in below), default=0)
        return floors[name]

    return {name: floor(home[name]) for name in arrows}


def draw(axes: Axes, heading: str, source: Path) -> None:
    """Draw one state of the code."""
    rooms = rooms_of(source)
    arrows = arrows_of(source, rooms)
    floors, in_circle = floors_of(arrows), {name: circle for circle in circles(arrows) for name in circle}
    highest, widest = max(floors.values()), 9
    place: dict[str, tuple[float, float]] = {}
    height = 0.0
    for floor in range(highest + 1):
        here = sorted(name for name in rooms if floors[name] == floor)
        for first in range(0, len(here), widest):
            row = here[first : first + widest]
            for column, name in enumerate(row):
                place[name] = ((column + 0.5) / len(row), height)
            height += 1
        axes.axhline(height - 0.5, color="#e3e3e3", lw=0.8, zorder=0)
    for here, targets in arrows.items():
        for there in targets:
            red = here in in_circle and there in in_circle[here]
            style = {"color": "#c92a2a", "lw": 1.4, "zorder": 2} if red else {"color": "#9aa5b1", "lw": 0.6}
            bend = 0.15 if place[here][1] == place[there][1] else 0.04
            axes.add_patch(
                FancyArrowPatch(
                    place[here],
                    place[there],
                    arrowstyle="-|>",
                    mutation_scale=8,
                    shrinkA=12,
                    shrinkB=14,
                    connectionstyle=f"arc3,rad={bend}",
                    **style,
                )
            )
    for name, (x, y) in place.items():
        colour = "#ffe3e3" if name in in_circle else "#e7f5ff"
        box = {"boxstyle": "round,pad=0.008", "fc": colour, "ec": "#495057", "lw": 0.7, "zorder": 3}
        axes.add_patch(FancyBboxPatch((x - 0.045, y - 0.17), 0.09, 0.34, **box))
        room, middle = rooms[name], {"ha": "center", "va": "center", "zorder": 4}
        axes.text(x, y + 0.05, name, fontsize=7.5, **middle)
        axes.text(x, y - 0.11, f"{room.files} files, {room.lines}", fontsize=5.5, color="#495057", **middle)
    n_circles = len(list(circles(arrows)))
    axes.set_title(
        f"{heading}: {len(rooms)} rooms, {highest + 1} floors, {sum(map(len, arrows.values()))} arrows, "
        f"{n_circles} circle{'s' * (n_circles != 1)} of rooms",
        fontsize=10,
    )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.6, height - 0.4))
    axes.axis("off")


def main() -> None:
    states = [argument.partition("=") for argument in sys.argv[1:]] or [
        ("after", "=", "packages/ptycho-core/src")
    ]
    figure, panels = plt.subplots(1, len(states), figsize=(10.5 * len(states), 9.5), squeeze=False, dpi=110)
    for axes, (heading, _, source) in zip(panels[0], states, strict=True):
        draw(axes, heading, Path(source))
    target = Path(__file__).parent / "images" / "imports.png"
    figure.savefig(target, bbox_inches="tight")
    print(f"written: {target}")


if __name__ == "__main__":
    main()
