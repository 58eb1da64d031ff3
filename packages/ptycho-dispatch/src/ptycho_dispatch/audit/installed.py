"""The installed code of the family: which packages there are, where a symbol is defined, what is raised.

Everything is read from the sources and nothing is imported, so that looking at a core costs no framework.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from ptycho_config.findings import Finding

__all__ = ["Raised", "covers", "family", "locate", "package_of", "raised_findings", "tree_of"]

_ENTRY_POINTS = ("ptycho.backends", "ptycho.arrays")
#: The packages below and beside the cores; these, the cores and the facade name findings.
_OWN = ("ptycho_config", "ptycho_core", "ptycho_dispatch", "ptycho", "ptycho_torch")
_POLICY = ("PolicyError", "PolicyWarning")


def package_of(path: str) -> str:
    """Give the package at the front of an import path."""
    return path.partition(".")[0]


def family(findings: Iterable[Finding]) -> tuple[str, ...]:
    """List the installed packages that findings may live in: ours, those of the pages, and every core's."""
    named = [package_of(path) for finding in findings for path in finding.enforced_by]
    cores = [package_of(point.module) for group in _ENTRY_POINTS for point in entry_points(group=group)]
    packages = dict.fromkeys((*_OWN, *named, *sorted(cores)))
    return tuple(package for package in packages if importlib.util.find_spec(package) is not None)


@cache
def tree_of(module: str) -> tuple[ast.Module, bool] | None:
    """Parse a module and tell whether it is a package; None where there is no such source file."""
    package, *inner = module.split(".")
    for folder in _folders(package):
        place = folder.joinpath(*inner)
        for file, is_package in ((place / "__init__.py", True), (place.with_suffix(".py"), False)):
            if file.is_file():
                return ast.parse(file.read_text(encoding="utf-8"), filename=str(file)), is_package
    return None


@cache
def _folders(package: str) -> tuple[Path, ...]:
    """Give the folders of a package at the top, which the import system finds without importing it."""
    spec = importlib.util.find_spec(package)
    return () if spec is None else tuple(Path(folder) for folder in spec.submodule_search_locations or ())


def locate(path: str) -> str | None:
    """Find the module that defines what an import path leads to, through re-exports; None if nothing does."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        parsed = tree_of(module)
        if parsed is None:
            continue
        tree, is_package = parsed
        return module if length == len(parts) else _defined(module, tree, is_package, parts[length:])
    return None


def _defined(module: str, tree: ast.Module, is_package: bool, names: list[str]) -> str | None:
    body: list[ast.stmt] = tree.body
    for depth, name in enumerate(names):
        inner = None
        for statement in _statements(body):
            if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = statement if statement.name == name else inner
            elif isinstance(statement, ast.ImportFrom) and depth == 0:
                for alias in statement.names:
                    if (alias.asname or alias.name) == name:
                        source = _absolute(module, is_package, statement)
                        return locate(".".join([source, alias.name, *names[1:]]))
            elif name in _assigned(statement):
                return module
        if inner is None:
            return None
        body = inner.body
    return module


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Walk over statements, those below an `if` or `try` included."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements([*statement.body, *statement.orelse])


def _assigned(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _absolute(module: str, is_package: bool, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - statement.level + (1 if is_package else 0)]
    return ".".join([*base, *([statement.module] if statement.module else [])])


@dataclass(frozen=True)
class Raised:
    """A place where code raises or warns under a finding; `finding` is None for a policy without one."""

    finding: str | None
    module: str
    line: int


def raised_findings(packages: Iterable[str]) -> list[Raised]:
    """Find every `finding="…"` in the sources, and every policy error or warning that names none.

    A finding that is only known at run time is not seen. Checks raise on behalf of others and are left out.
    """
    return [raised for package in packages for module in _modules(package) for raised in _raised_in(module)]


def _modules(package: str) -> Iterator[str]:
    for folder in _folders(package):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            text = file.read_text(encoding="utf-8")
            if "checks" not in parts and ("finding=" in text or any(name in text for name in _POLICY)):
                yield ".".join([package, *(part for part in parts if part != "__init__")])


def _raised_in(module: str) -> Iterator[Raised]:
    parsed = tree_of(module)
    if parsed is None:
        return
    tree, _ = parsed
    constants = {
        name: statement.value.value
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for name in _assigned(statement)
    }
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        values = [keyword.value for keyword in call.keywords if keyword.arg == "finding"]
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if not values and name in _POLICY:
            yield Raised(None, module, call.lineno)
        for value in values:
            found = (
                value.value if isinstance(value, ast.Constant) else constants.get(getattr(value, "id", ""))
            )
            if isinstance(found, str):
                yield Raised(found, module, call.lineno)


def covers(enforced_by: Iterable[str], module: str) -> bool:
    """Tell whether a page names the code of a module: itself, or something of the same subpackage."""
    for path in enforced_by:
        home = locate(path)
        if home is None:
            continue
        parsed = tree_of(home)
        room = home if parsed is not None and parsed[1] else home.rpartition(".")[0]
        if module == home or ("." in room and module.startswith(f"{room}.")):
            return True
    return False
