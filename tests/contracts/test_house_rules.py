"""What reviewers would otherwise repeat: rules that every file of the packages keeps.

A rule is a function from a source's text to its offences, each with its line. One test a rule goes over all
sources and shows every offender.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ptycho_config.findings import finding_ids, read_finding

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "packages").glob("*/src/**/*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ERRORS = ROOT / "packages" / "ptycho-config" / "src" / "ptycho_config" / "errors.py"
IDENTIFIER = re.compile(r"\b[A-Z]+(?:-[A-Z]+)*-\d{3}\b")
POLICY_PREFIXES = tuple(sorted({identifier.rsplit("-", 1)[0] for identifier in finding_ids()}))

Rule = Callable[[str], list[str]]


def _name(node: ast.expr) -> str:
    """Give the last part of a dotted name: `ptycho_config.errors.DataError` -> `DataError`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


# The rules.


def classes_of_errors(text: str) -> list[str]:
    """Classes of errors and warnings, whose one home is `ptycho_config.errors`."""
    return [
        f"{node.lineno}: class {node.name}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        and any(_name(base).endswith(("Error", "Exception", "Warning", "Interrupt")) for base in node.bases)
    ]


def unknown_findings(text: str) -> list[str]:
    """Findings that are named, in words or as `finding=...`, and do not exist."""
    named = [
        (number, found)
        for number, line in enumerate(text.splitlines(), start=1)
        for found in IDENTIFIER.findall(line)
        if found.rsplit("-", 1)[0] in POLICY_PREFIXES
    ]
    tree = ast.parse(text)
    constants = _constants(tree)
    for call in _calls(tree):
        for keyword in call.keywords:
            if keyword.arg != "finding":
                continue
            value = keyword.value
            if isinstance(value, ast.Constant) and value.value is not None:
                named.append((call.lineno, str(value.value)))
            elif isinstance(value, ast.Name) and value.id in constants:
                named.append((call.lineno, constants[value.id]))
    return [f"{line}: {found}" for line, found in named if found not in finding_ids()]


def _constants(tree: ast.Module) -> dict[str, str]:
    """Collect the module's text constants, such as `FINDING = "DATA-001"`."""
    return {
        _name(target): node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for target in node.targets
    }


def policy_errors_without_a_finding(text: str) -> list[str]:
    """Policy errors and warnings that do not say whose rule was broken."""
    return [
        f"{call.lineno}: {_name(call.func)}"
        for call in _calls(ast.parse(text))
        if _name(call.func) in ("PolicyError", "PolicyWarning")
        and not any(keyword.arg == "finding" for keyword in call.keywords)
    ]


_UNPICKLERS = frozenset({"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})


def pickles(text: str) -> list[str]:
    """Imports of what unpickles, and arrays that may be pickled."""
    offences: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            offences += [f"{node.lineno}: {name}" for name in modules if name in _UNPICKLERS]
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                wanted = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg == "allow_pickle" and not wanted:
                    offences.append(f"{node.lineno}: allow_pickle")
    return offences


def swallowed_errors_and_asserts(text: str) -> list[str]:
    """Broad `except ...: pass`, and `assert`, which is no check of what a user gives."""
    offences: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assert):
            offences.append(f"{node.lineno}: assert")
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or _name(node.type) in ("Exception", "BaseException")
            if broad and all(isinstance(statement, ast.Pass) for statement in node.body):
                offences.append(f"{node.lineno}: a broad except that passes")
    return offences


def bare_public_functions(text: str) -> list[str]:
    """Public functions and methods of which an argument or the result has no annotation."""
    tree = ast.parse(text)
    scopes: list[Any] = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    offences: list[str] = []
    for scope in scopes:
        for node in scope.body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            missing = [
                one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")
            ]
            if missing or node.returns is None:
                offences.append(f"{node.lineno}: {node.name}({', '.join(missing)})")
    return offences


# Put together here, so that this file does not contain what it looks for.
_PLACES = "|".join(f"/{place}/" for place in ("work", "tmp", "home", "root", "Users"))
_PATH_OF_ONE_MACHINE = re.compile(rf"(?<![\w.}}])(?:{_PLACES})|[A-Z]:\\+Users")


def paths_of_one_machine(text: str) -> list[str]:
    """Absolute paths that exist at one desk only."""
    return [
        f"{number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), start=1)
        if _PATH_OF_ONE_MACHINE.search(line)
    ]


# All sources keep the rules.


def offenders(rule: Rule, paths: list[Path]) -> list[str]:
    """List what breaks a rule as file:line: what."""
    return [
        f"{path.relative_to(ROOT)}:{offence}"
        for path in paths
        for offence in rule(path.read_text(encoding="utf-8"))
    ]


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 20
    assert ERRORS in SOURCES
    assert classes_of_errors(ERRORS.read_text(encoding="utf-8"))


def test_every_error_class_has_its_home_in_the_errors_module() -> None:
    assert offenders(classes_of_errors, [path for path in SOURCES if path != ERRORS]) == []


def test_every_finding_that_is_named_exists() -> None:
    assert offenders(unknown_findings, SOURCES) == []


def test_every_policy_error_names_its_finding() -> None:
    assert offenders(policy_errors_without_a_finding, SOURCES) == []


def test_nothing_is_ever_unpickled() -> None:
    assert offenders(pickles, SOURCES) == []


def test_no_error_is_swallowed_and_no_input_is_asserted() -> None:
    assert offenders(swallowed_errors_and_asserts, SOURCES) == []


def test_public_functions_are_fully_annotated() -> None:
    assert offenders(bare_public_functions, SOURCES) == []


def test_modules_are_nouns_of_the_field() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "v2", "new", "alpha"}
    assert [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if not vague.isdisjoint(part.removesuffix(".py").lstrip("_") for part in path.parts[-4:])
    ] == []


def test_no_file_knows_the_paths_of_one_machine() -> None:
    assert offenders(paths_of_one_machine, list(_text_files())) == []


def _text_files() -> Iterator[Path]:
    for folder in ("packages", "findings", "docs", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".toml", ".yaml", ".yml", ".txt") and path.is_file():
                yield path
    yield from (path for path in ROOT.iterdir() if path.suffix in (".py", ".md", ".toml", ".txt"))


@pytest.mark.parametrize(
    ("rule", "text", "offence"),
    [
        (classes_of_errors, "class ScanError(ValueError): ...", "1: class ScanError"),
        (classes_of_errors, "x = 1\nclass Odd(warnings.UserWarning): ...", "2: class Odd"),
        (unknown_findings, "raise DataError('x', finding='DATA-999')", "1: DATA-999"),
        (unknown_findings, "F = 'NONE-001'\nraise DataError('x', finding=F)", "2: NONE-001"),
        (unknown_findings, "# see\n# DATA-998", "2: DATA-998"),
        (policy_errors_without_a_finding, "raise PolicyError('no finding')", "1: PolicyError"),
        (
            policy_errors_without_a_finding,
            "warnings.warn(errors.PolicyWarning('no finding'))",
            "1: PolicyWarning",
        ),
        (pickles, "import pickle", "1: pickle"),
        (pickles, "from pickle import load", "1: pickle"),
        (pickles, "\nnp.load(path, allow_pickle=True)", "2: allow_pickle"),
        (pickles, "np.load(path, allow_pickle=trusted)", "1: allow_pickle"),
        (swallowed_errors_and_asserts, "assert x", "1: assert"),
        (
            swallowed_errors_and_asserts,
            "try: f()\nexcept Exception: pass",
            "2: a broad except that passes",
        ),
        (swallowed_errors_and_asserts, "try: f()\nexcept: pass", "2: a broad except that passes"),
        (bare_public_functions, "def f(x): return x", "1: f(x)"),
        (bare_public_functions, "def f(x: int): return x", "1: f()"),
        (bare_public_functions, "class A:\n    def f(self, x: int): return x", "2: f()"),
        (paths_of_one_machine, f"open('/{'home'}/me/scan.npz')", f"1: open('/{'home'}/me/scan.npz')"),
    ],
)
def test_each_rule_bites(rule: Rule, text: str, offence: str) -> None:
    assert offence in rule(text)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (classes_of_errors, "class Scan(Base): ..."),
        (unknown_findings, "# DATA-001 and ISO-8859 and UTF-008\nraise DataError('x', finding=None)"),
        (policy_errors_without_a_finding, "raise PolicyError('x', finding='DATA-001')"),
        (pickles, "import json\nnp.load(path, allow_pickle=False)"),
        (swallowed_errors_and_asserts, "try: f()\nexcept KeyError: pass\nexcept Exception: g()"),
        (bare_public_functions, "def f(x: int) -> int: return x\ndef _g(x): return x"),
        (paths_of_one_machine, "see docs/work/one.md and https://example.org/tmp/"),
    ],
)
def test_no_rule_bites_what_keeps_it(rule: Rule, text: str) -> None:
    assert rule(text) == []


# Findings: each leads to its code, its tests, its probe and its sabotage, and these lead back.


def test_what_enforces_a_finding_can_be_imported() -> None:
    # A package that is not installed: the link reads so and fails nothing.
    broken = [
        f"{identifier}: {path}"
        for identifier in finding_ids()
        for path in read_finding(identifier).enforced_by
        if importlib.util.find_spec(path.split(".")[0]) is not None and _resolve(path) is None
    ]
    assert broken == []


def _resolve(path: str) -> object:
    """Import the longest module of a dotted path and follow the rest as attributes."""
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if importlib.util.find_spec(module) is not None:
            value: Any = importlib.import_module(module)
            for attribute in parts[length:]:
                value = getattr(value, attribute, None)
            return value
    return None


def test_what_verifies_a_finding_exists_and_names_it() -> None:
    broken = [
        f"{identifier}: {test_id}"
        for identifier in finding_ids()
        for test_id in read_finding(identifier).verified_by
        if not _verifies(identifier, test_id)
    ]
    assert broken == []


def _verifies(identifier: str, test_id: str) -> bool:
    """Tell whether the file is there, has the test, and marks the finding."""
    file, _, function = test_id.partition("::")
    path = ROOT / file
    if not path.is_file():
        return False
    functions = (node.name for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef))
    return function in functions and f'"{identifier}"' in path.read_text(encoding="utf-8")


def test_an_active_finding_has_page_code_test_check_and_sabotage() -> None:
    """The recipe is in CONTRIBUTING.md; `ptycho audit` and tests/audit follow each of these links."""
    sabotages = (ROOT / "tests" / "audit" / "test_sabotage.py").read_text(encoding="utf-8")
    missing: list[str] = []
    for identifier in finding_ids():
        finding = read_finding(identifier)
        if finding.status == "retired":
            continue
        if not finding.enforced_by:
            missing.append(f"{identifier}: code in `enforced_by`")
        if not finding.verified_by:
            missing.append(f"{identifier}: a test in `verified_by`")
        if not _is_check(finding.probe, identifier):
            missing.append(f"{identifier}: a check, in the `checks` of the package that owns the rule")
        if f'"{identifier}"' not in sabotages:
            missing.append(f"{identifier}: a way to disable it, in tests/audit/sabotage")
    assert missing == []


def _is_check(probe: str | None, identifier: str) -> bool:
    if probe is None:
        return False
    package = probe.split(".")[0]
    if importlib.util.find_spec(package) is None:
        return True  # not installed: it cannot be asked
    return probe in importlib.import_module(f"{package}.checks").CHECKS[identifier]


def test_every_marker_names_a_finding_that_exists() -> None:
    unknown = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in TESTS
        for call in _calls(_tree(path))
        if _name(call.func) == "finding"
        and isinstance(call.func, ast.Attribute)
        and _name(call.func.value) == "mark"
        and not (isinstance(call.args[0], ast.Constant) and call.args[0].value in finding_ids())
    ]
    assert unknown == []
