"""The distributions move together: one version, exact pins, and the files that each must carry."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ptycho_config.yamlfile import CONFIG_VERSION

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in (ROOT / "packages").glob("*/pyproject.toml"))
NAMES = [package.name for package in PACKAGES]
EXPECTED = [
    "ptycho-config",
    "ptycho-core",
    "ptycho-core-tf",
    "ptycho-core-torch",
    "ptycho-dispatch",
    "ptychopinn",
]

_IMPORT_NAMES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage", "neuraloperator": "neuralop"}

each_package = pytest.mark.parametrize("package", PACKAGES, ids=NAMES)


def _project(package: Path) -> dict[str, Any]:
    return tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _requirements(project: dict[str, Any]) -> list[str]:
    extras = project.get("optional-dependencies", {}).values()
    return [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]


def _name(requirement: str) -> str:
    return re.split(r"[\s=<>!~;\[]", requirement, maxsplit=1)[0].lower()


def test_the_house_has_six_distributions() -> None:
    assert NAMES == EXPECTED


def test_all_have_one_version() -> None:
    assert len({_project(package)["version"] for package in PACKAGES}) == 1


def test_whatever_names_the_version_names_this_one() -> None:
    version = _project(PACKAGES[0])["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## \[(\d.*?)\] - (.+)$", changes, re.MULTILINE)
    assert released[0] == (citation["version"], citation["date-released"])
    assert citation["version"] == version
    # What a file of settings may ask for, without the number of corrections.
    assert version.rsplit(".", 1)[0] == CONFIG_VERSION


@each_package
def test_the_name_is_that_of_the_folder_and_the_version_is_static(package: Path) -> None:
    project = _project(package)
    assert project["name"] == package.name
    assert "dynamic" not in project


@each_package
def test_siblings_are_pinned_exactly(package: Path) -> None:
    project = _project(package)
    siblings = [requirement for requirement in _requirements(project) if _name(requirement) in EXPECTED]
    assert siblings or package.name == "ptycho-config"
    for requirement in siblings:
        extra = re.sub(r"\[.*?\]", "", requirement)
        assert extra == f"{_name(requirement)}=={project['version']}"


@each_package
def test_every_import_package_is_typed(package: Path) -> None:
    initials = sorted((package / "src").glob("*/__init__.py"))
    assert initials
    for initial in initials:
        assert initial.with_name("py.typed").is_file()


@each_package
def test_readme_and_licence_are_there(package: Path) -> None:
    readme = (package / "README.md").read_text(encoding="utf-8").splitlines()
    assert readme[0] == f"# {package.name}"
    assert any(line.startswith(">") for line in readme[:5]), "the room sign opens the README"
    licence = (package / "LICENSE").read_text(encoding="utf-8")
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")
    project = _project(package)
    assert project["license"] == "BSD-3-Clause"
    assert project["license-files"] == ["LICENSE"]
    assert project["readme"] == "README.md"


def test_the_front_door_brings_no_framework() -> None:
    needed, seen = ["ptycho-dispatch"], set[str]()
    while needed:
        name = needed.pop()
        seen.add(name)
        if name in EXPECTED:
            needed += [_name(one) for one in _project(ROOT / "packages" / name)["dependencies"]]
    assert seen.isdisjoint(
        {"torch", "lightning", "tensorflow", "keras", "ptycho-core-torch", "ptycho-core-tf"}
    )


def _imported(file: Path) -> set[str]:
    """List the top-level names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@each_package
def test_what_is_imported_is_declared_and_what_is_declared_is_imported(package: Path) -> None:
    project = _project(package)
    own = {initial.parent.name for initial in (package / "src").glob("*/__init__.py")}
    imported = {name for file in (package / "src").rglob("*.py") for name in _imported(file)}
    foreign = imported - own - sys.stdlib_module_names
    declared = {_IMPORT_NAMES.get(_name(one), _name(one).replace("-", "_")) for one in _requirements(project)}
    assert foreign - declared == set()
    third_party = {_name(one) for one in project["dependencies"]} - set(EXPECTED)
    unused = {name for name in third_party if _IMPORT_NAMES.get(name, name.replace("-", "_")) not in imported}
    assert unused == set()
