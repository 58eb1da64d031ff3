"""What reviewers would otherwise repeat: rules that every file of the packages keeps."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Iterator
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

each_source = pytest.mark.parametrize(
    "source", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "packages"))
)
each_finding = pytest.mark.parametrize("identifier", finding_ids())


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _name(node: ast.expr) -> str:
    """Give the last part of a dotted name: `ptycho_config.errors.DataError` -> `DataError`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


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


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 20
    assert ERRORS in SOURCES


@each_source
def test_every_error_class_has_its_home_in_the_errors_module(source: Path) -> None:
    if source == ERRORS:
        return
    strays = [
        node.name
        for node in ast.walk(_tree(source))
        if isinstance(node, ast.ClassDef)
        and any(_name(base).endswith(("Error", "Exception", "Warning", "Interrupt")) for base in node.bases)
    ]
    assert strays == []


@each_source
def test_every_finding_that_is_named_exists(source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    named = {found for found in IDENTIFIER.findall(text) if found.rsplit("-", 1)[0] in POLICY_PREFIXES}
    constants = _constants(_tree(source))
    for call in _calls(_tree(source)):
        for keyword in call.keywords:
            if keyword.arg != "finding":
                continue
            value = keyword.value
            if isinstance(value, ast.Constant) and value.value is not None:
                named.add(str(value.value))
            elif isinstance(value, ast.Name) and value.id in constants:
                named.add(constants[value.id])
    assert named <= set(finding_ids())


@each_source
def test_every_policy_error_names_its_finding(source: Path) -> None:
    nameless = [
        f"line {call.lineno}"
        for call in _calls(_tree(source))
        if _name(call.func) in ("PolicyError", "PolicyWarning")
        and not any(keyword.arg == "finding" for keyword in call.keywords)
    ]
    assert nameless == []


@each_source
def test_nothing_is_ever_unpickled(source: Path) -> None:
    offences: list[str] = []
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            offences += [f"line {node.lineno}: {name}" for name in modules if name in _UNPICKLERS]
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                wanted = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg == "allow_pickle" and not wanted:
                    offences.append(f"line {node.lineno}: allow_pickle")
    assert offences == []


_UNPICKLERS = frozenset({"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})


@each_source
def test_no_error_is_swallowed_and_no_input_is_asserted(source: Path) -> None:
    offences: list[str] = []
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.Assert):
            offences.append(f"line {node.lineno}: assert")
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or _name(node.type) in ("Exception", "BaseException")
            if broad and all(isinstance(statement, ast.Pass) for statement in node.body):
                offences.append(f"line {node.lineno}: a broad except that passes")
    assert offences == []


@each_source
def test_public_functions_are_fully_annotated(source: Path) -> None:
    tree = _tree(source)
    scopes: list[Any] = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    bare: list[str] = []
    for scope in scopes:
        for node in scope.body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            missing = [
                one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")
            ]
            if missing or node.returns is None:
                bare.append(f"{node.name}({', '.join(missing)})")
    assert bare == []


@each_source
def test_modules_are_nouns_of_the_field(source: Path) -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "v2", "new", "alpha"}
    assert vague.isdisjoint(part.removesuffix(".py").lstrip("_") for part in source.parts[-4:])


def _text_files() -> Iterator[Path]:
    for folder in ("packages", "findings", "docs", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".toml", ".yaml", ".yml", ".txt") and path.is_file():
                yield path
    yield from (path for path in ROOT.iterdir() if path.suffix in (".py", ".md", ".toml", ".txt"))


def test_no_file_knows_the_paths_of_one_machine() -> None:
    # Put together here, so that this file does not contain what it looks for.
    places = "|".join(f"/{place}/" for place in ("work", "tmp", "home", "root", "Users"))
    pattern = re.compile(rf"(?<![\w.}}])(?:{places})|[A-Z]:\\+Users")
    offences = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert offences == []


@each_finding
def test_what_enforces_a_finding_can_be_imported(identifier: str) -> None:
    for path in read_finding(identifier).enforced_by:
        package = path.split(".")[0]
        if importlib.util.find_spec(package) is None:
            continue  # not installed: the link reads so and fails nothing
        assert _resolve(path) is not None


def _resolve(path: str) -> object:
    """Import the longest module of a dotted path and follow the rest as attributes."""
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if importlib.util.find_spec(module) is not None:
            value: Any = importlib.import_module(module)
            for attribute in parts[length:]:
                value = getattr(value, attribute)
            return value
    return None


@each_finding
def test_what_verifies_a_finding_exists_and_names_it(identifier: str) -> None:
    for test_id in read_finding(identifier).verified_by:
        file, _, function = test_id.partition("::")
        assert (ROOT / file).is_file(), file
        assert function in _functions(_tree(ROOT / file)), test_id
        assert f'"{identifier}"' in (ROOT / file).read_text(encoding="utf-8"), f"{file} marks no {identifier}"


def _functions(tree: ast.Module) -> set[str]:
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@each_finding
def test_an_active_finding_has_page_code_test_check_and_sabotage(identifier: str) -> None:
    """The recipe is in CONTRIBUTING.md; `ptycho audit` and tests/audit follow each of these links."""
    finding = read_finding(identifier)
    if finding.status == "retired":
        return
    assert finding.enforced_by
    assert finding.verified_by
    assert finding.probe is not None, "write a check in the `checks` of the package that owns the rule"
    package = finding.probe.split(".")[0]
    if importlib.util.find_spec(package) is not None:
        assert finding.probe in importlib.import_module(f"{package}.checks").CHECKS[identifier]
    sabotages = (ROOT / "tests" / "audit" / "test_sabotage.py").read_text(encoding="utf-8")
    assert f'"{identifier}"' in sabotages, "add a way to disable it to tests/audit/sabotage"


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


@pytest.mark.parametrize(
    "text",
    [
        "raise PolicyError('no finding')",
        "warnings.warn(PolicyWarning('no finding'))",
    ],
)
def test_the_rule_about_policy_errors_bites(text: str, tmp_path: Path) -> None:
    path = tmp_path / "source.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError):
        test_every_policy_error_names_its_finding(path)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (test_every_error_class_has_its_home_in_the_errors_module, "class ScanError(ValueError): ..."),
        (test_every_finding_that_is_named_exists, "raise DataError('x', finding='DATA-999')"),
        (test_every_finding_that_is_named_exists, "F = 'NONE-001'\nraise DataError('x', finding=F)"),
        (test_nothing_is_ever_unpickled, "import pickle"),
        (test_nothing_is_ever_unpickled, "from pickle import load"),
        (test_nothing_is_ever_unpickled, "np.load(path, allow_pickle=True)"),
        (test_no_error_is_swallowed_and_no_input_is_asserted, "assert x"),
        (test_no_error_is_swallowed_and_no_input_is_asserted, "try: f()\nexcept Exception: pass"),
        (test_public_functions_are_fully_annotated, "def f(x): return x"),
        (test_public_functions_are_fully_annotated, "class A:\n    def f(self, x: int): return x"),
    ],
)
def test_each_rule_bites(rule: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "source.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError):
        rule(path)
