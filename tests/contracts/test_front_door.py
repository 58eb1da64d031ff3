"""What a hosting site shows to whoever cites, reports or contributes: complete, and true to the packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ptycho_dispatch.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
FORMS = [path for path in TEMPLATES if path.name != "config.yml"]
PAGES = ("CODE_OF_CONDUCT.md", "SECURITY.md", "CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
#: What a field of a form may be, and what it must have.
KINDS = {"markdown": {"value"}, "textarea": {"label"}, "input": {"label"}}


def opened(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def core() -> dict[str, Any]:
    return tomllib.loads((ROOT / "packages/ptycho-core/pyproject.toml").read_text("utf-8"))["project"]


def test_the_citation_is_of_this_release() -> None:
    citation = opened(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == core()["version"]
    assert citation["license"] == core()["license"]
    assert citation["authors"] == core()["authors"]


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_is_shown(form: Path) -> None:
    shown = opened(form)
    assert {"name", "description", "body"} <= shown.keys()
    fields = shown["body"]
    names = [field["id"] for field in fields if field["type"] != "markdown"]
    assert len(names) == len(set(names)) > 0
    for field in fields:
        assert KINDS[field["type"]] <= field["attributes"].keys()
        assert set(field.get("validations", {})) <= {"required"}


@pytest.mark.parametrize("name", ["bug", "scan"])
def test_who_reports_is_asked_for_what_helps(name: str) -> None:
    fields = {
        field["id"]: field
        for field in opened(ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml")["body"]
        if "id" in field
    }
    assert "`ptycho inspect SCAN`" in fields["inspect"]["attributes"]["label"]
    assert fields["inspect"]["validations"]["required"]
    assert "`ptycho bug-report RUN`" in fields["report"]["attributes"]["description"]
    assert "`run.json`" in fields["report"]["attributes"]["description"]


def test_every_command_that_is_asked_for_exists() -> None:
    texts = [path.read_text("utf-8") for path in (*TEMPLATES, *(ROOT / page for page in PAGES))]
    named = {name for text in texts for name in re.findall(r"`ptycho ([a-z-]+)", text)} - {"--version"}
    assert {"inspect", "bug-report"} <= named <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = LINK.findall(path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link.strip()).exists()] == []
