"""The test files beside a checkout: which tests there are, and which findings their markers name."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ptycho_config.findings import Finding, findings_directory

__all__ = ["TestFiles", "find_tests"]


@dataclass(frozen=True)
class TestFiles:
    """What the test files say.

    Attributes:
        root: the folder that test ids are relative to.
        functions: test ids, `file::function`, that exist.
        marked: test id -> the findings that its markers name.
    """

    __test__ = False  # for pytest, which would take the name for a test

    root: Path
    functions: frozenset[str]
    marked: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    def marked_with(self, finding: str) -> list[str]:
        """List the tests whose markers name a finding."""
        return [test for test, findings in self.marked.items() if finding in findings]


def find_tests(findings: Iterable[Finding]) -> TestFiles | None:
    """Read the tests below the current folder, or of the checkout that this installation runs from.

    Returns:
        None where neither place has the tests that the pages name, as beside an installed wheel.
    """
    named = {test.partition("::")[0] for finding in findings for test in finding.verified_by}
    for root in (Path.cwd(), findings_directory().parent):
        if any((root / file).is_file() for file in named):
            return _read(root)
    return None


def _read(root: Path) -> TestFiles:
    functions: set[str] = set()
    marked: dict[str, frozenset[str]] = {}
    for path in sorted((root / "tests").rglob("*.py")):
        file = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=file)
        names = {
            target.id: frozenset(_named_in(statement.value))
            for statement in tree.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        for name, marks in _tests(tree.body, names, names.get("pytestmark", frozenset())):
            functions.add(f"{file}::{name}")
            if marks:
                marked[f"{file}::{name}"] = marks
    return TestFiles(root, frozenset(functions), marked)


def _tests(
    body: list[ast.stmt], names: dict[str, frozenset[str]], inherited: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    """Walk over test functions, and over those of test classes, with the findings that mark them."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        own = frozenset(
            finding
            for decorator in node.decorator_list
            for finding in (names.get(getattr(decorator, "id", ""), ()) or _named_in(decorator))
        )
        if isinstance(node, ast.ClassDef):
            for name, marks in _tests(node.body, names, inherited | own):
                yield f"{node.name}::{name}", marks
        elif node.name.startswith("test"):
            yield node.name, inherited | own


def _named_in(expression: ast.expr) -> Iterator[str]:
    """Give the findings of every `pytest.mark.finding("…")` inside an expression."""
    for call in (node for node in ast.walk(expression) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "finding":
            yield from (
                argument.value
                for argument in call.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )
