"""The inventory in the documentation is the one that `nox -s audit` would write for today's pages."""

from __future__ import annotations

import re
from pathlib import Path

from ptycho_config.findings import finding_ids, read_finding
from ptycho_dispatch.audit.inventory import code_references

INVENTORY = Path(__file__).parents[2] / "docs" / "reference" / "policy-inventory.md"
PAGES = [read_finding(identifier) for identifier in finding_ids()]


def section(title: str) -> str:
    """Cut a section out of the committed inventory, heading included."""
    text = INVENTORY.read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{INVENTORY.name} has no section {title!r}; write it anew with `nox -s audit`"
    return found[0].strip()


def test_its_code_references_are_those_of_the_pages() -> None:
    assert section("Code references") == code_references(PAGES), "write it anew with `nox -s audit`"


def test_its_findings_are_those_of_the_pages() -> None:
    listed = re.findall(r"^### ([A-Z0-9-]+) \((.+)\)$", section("Policy compliance"), re.MULTILINE)
    assert listed == [(page.id, page.title) for page in PAGES], "write it anew with `nox -s audit`"


def test_it_shows_no_violation_and_its_tests_ran() -> None:
    text = INVENTORY.read_text(encoding="utf-8")
    assert "VIOLATED" not in text
    for page in PAGES:
        assert re.search(rf"^### {page.id}: [1-9]\d* of \d+ passed$", section("Test evidence"), re.MULTILINE)
