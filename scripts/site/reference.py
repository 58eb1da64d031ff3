"""The reference of every public name: a page for each room of each package, made of the sources.

What is public is what `__all__` of a module without an underscore says. Names that the face of a package or
room exports come first, under the path from which they are imported; behind them stand the room's modules
with what they offer besides. Each name is described once. Nothing is imported here: the sources are read.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pages import ROOT

__all__ = ["API", "Module", "described", "entries", "modules", "reference_pages"]

API = "reference/api"
#: Highest floor last, as a reader comes to them: what most programs import stands first.
_ORDER = (
    "ptycho_core",
    "ptycho_config",
    "ptycho_core_torch",
    "ptycho_core_tf",
    "ptycho_dispatch",
    "ptycho",
    "ptycho_torch",
)
#: Packages in which the path of a module is itself the promise; see docs/decisions/0014.
_MODULES_ARE_PROMISED = ("ptycho", "ptycho_torch")
_MAY_MOVE = (
    "What these offer each other. A module path of a library may change in any release; "
    "[what is public](../../public.md) says what does not."
)
_STAY = "These paths are what older programs import, and they stay."


@dataclass(frozen=True)
class Module:
    """What a module's source says.

    Attributes:
        name: as it is imported.
        path: its file.
        text: its docstring.
        offered: `__all__`, or what it defines without an underscore.
        imported: name -> (module, name there), for what is ours.
        defined: what is defined in it.
    """

    name: str
    path: Path
    text: str
    offered: tuple[str, ...]
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)
    defined: frozenset[str] = frozenset()

    @property
    def is_room(self) -> bool:
        """Whether other modules lie in it."""
        return self.path.name == "__init__.py"

    @property
    def room(self) -> str:
        """The package in which it lies; itself where it is one."""
        return self.name if self.is_room else self.name.rpartition(".")[0]


def modules() -> dict[str, Module]:
    """Give every module without an underscore in its path, by name."""
    return {name: one for name, one in _every_module().items() if "._" not in name}


@cache
def _every_module() -> dict[str, Module]:
    found: dict[str, Module] = {}
    for source in sorted((ROOT / "packages").glob("*/src")):
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            name = ".".join(parts)
            found[name] = _read(name, path)
    return found


def _read(name: str, path: Path) -> Module:
    tree = ast.parse(path.read_text("utf-8"), filename=str(path))
    imported: dict[str, tuple[str, str]] = {}
    defined: list[str] = []
    offered: tuple[str, ...] | None = None
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _statements(tree.body):
        match node:
            case ast.ImportFrom():
                # One dot is the package itself, each further one the package around it.
                above = package.rsplit(".", node.level - 1)[0] if node.level else ""
                home = ".".join(part for part in (above, node.module or "") if part)
                imported |= {alias.asname or alias.name: (home, alias.name) for alias in node.names}
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                defined.append(node.name)
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                offered = tuple(ast.literal_eval(value))
            case ast.Assign(targets=targets):
                defined += [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=one)):
                defined.append(one)
    if offered is None:
        offered = tuple(dict.fromkeys(one for one in defined if not one.startswith("_")))
    text = ast.get_docstring(tree) or ""
    return Module(name, path, text, offered, imported, frozenset(defined))


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Give what a module runs at its top, in `if TYPE_CHECKING` and `try` too."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.body, *node.orelse])
        else:
            yield node


def _home(module: str, name: str) -> str | None:
    """Find where a name is defined, through whatever passes it on; None for what is not ours."""
    known = _every_module()
    while module in known:
        here = known[module]
        if name in here.defined:
            return f"{module}.{name}"
        if name not in here.imported:
            return None
        module, name = here.imported[name]
    return None


@cache
def described() -> dict[str, str]:
    """Tell which module's part of the reference describes a name: where it is defined -> the module.

    The face of a package comes before that of a room, a room's before the module that defines the name.
    """
    public = modules().values()
    found: dict[str, str] = {}
    for here in sorted((one for one in public if one.is_room), key=lambda room: room.name.count(".")):
        for name in here.offered:
            if home := _home(here.name, name):
                found.setdefault(home, here.name)
    rest = [(one, name, _home(one.name, name)) for one in public if not one.is_room for name in one.offered]
    for own in (True, False):
        for here, _, home in rest:
            if home and (home.rpartition(".")[0] == here.name) is own:
                found.setdefault(home, here.name)
    return found


def known_paths() -> dict[str, str]:
    """Give every path by which a public name can be named in a text, and where it is defined."""
    found = {home: home for home in described()}
    for here in modules().values():
        for name in here.offered:
            if home := _home(here.name, name):
                found.setdefault(f"{here.name}.{name}", home)
    return found


def reference_pages() -> dict[str, str]:
    """Write the pages, by their place on the site."""
    rooms = [m for m in modules().values() if m.is_room]
    pages = {_place(room.name): _page(room) for room in rooms}
    return {f"{API}/README.md": _overview(rooms), **pages}


def _place(room: str) -> str:
    package, _, inside = room.partition(".")
    return f"{API}/{package}/{inside or 'README'}.md"


def entries(page: str) -> list[str]:
    """List what a page describes, by the path at which it is defined."""
    return [line.removeprefix("::: ") for line in page.splitlines() if line.startswith("::: ")]


def _overview(rooms: list[Module]) -> str:
    lines = [
        "# Every public name",
        "",
        "A page for each room of each package. `from ptycho_core import ...` is where most programs begin.",
        "",
        "| room | what it is for |",
        "|---|---|",
    ]
    for room in sorted(rooms, key=lambda room: (_ORDER.index(room.name.split(".")[0]), room.name)):
        first = " ".join(room.text.split("\n\n")[0].split())
        # By the page: the name of a package may be a heading elsewhere too.
        lines.append(f"| [`{room.name}`]({_place(room.name).removeprefix(API + '/')}) | {first} |")
    return "\n".join(lines) + "\n"


def _page(room: Module) -> str:
    """Write the page of a room: what it is, what its face exports, its modules."""
    # The bare name of a package is a heading of written pages too.
    anchor = room.name if "." in room.name else f"{room.name}-package"
    lines = [f"# {room.name} {{ #{anchor} }}", "", room.text, "", *_names(room, "Exported here too", 2)]
    inside = [one for one in modules().values() if not one.is_room and one.room == room.name]
    if inside:
        promised = room.name.split(".")[0] in _MODULES_ARE_PROMISED
        lines += [f"## Modules {{ #{room.name}-modules }}", "", _STAY if promised else _MAY_MOVE, ""]
    for module in inside:
        lines += [f"### {module.name} {{ #{module.name} }}", "", module.text, ""]
        lines += _names(module, "Offered here, described elsewhere", 4)
    return "\n".join(lines)


def _names(module: Module, elsewhere: str, level: int) -> list[str]:
    """Describe the names of a module, and lead to those that are described elsewhere."""
    lines: list[str] = []
    others: list[str] = []
    for name in module.offered:
        home = _home(module.name, name)
        if home is not None and described()[home] == module.name:
            lines += _entry(home, name, level)
        elif home is not None:
            others.append(f"[`{name}`][{home}]")
    return [f"{elsewhere}: {', '.join(others)}.", "", *lines] if others else lines


def _entry(home: str, name: str, level: int) -> list[str]:
    return [f"::: {home}", "    options:", f"      heading: {name}", f"      heading_level: {level}", ""]
