"""A damaged page of a finding, or an installation without pages, is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptycho_config import findings
from ptycho_config.errors import ConfigError
from ptycho_config.findings import FRONT_MATTER, finding_ids, findings_directory, read_finding

PAGE = """---
id: RULE-001
title: A rule
status: active
rule: What must hold, größer als je.
since: 0.1.0
enforced_by:
  - somewhere
verified_by:
  - tests/test_x.py::test_y
probe: null
---

# RULE-001: A rule

Because.

---

And more.
"""


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let a folder be the place of the pages."""
    monkeypatch.setattr(findings, "findings_directory", lambda: tmp_path)
    (tmp_path / "RULE-001.md").write_text(PAGE, encoding="utf-8")
    return tmp_path


def test_a_page_is_read_to_its_end(pages: Path) -> None:
    finding = read_finding("RULE-001")
    assert finding.rule == "What must hold, größer als je."
    assert (finding.enforced_by, finding.verified_by) == (("somewhere",), ("tests/test_x.py::test_y",))
    assert finding.story == "# RULE-001: A rule\n\nBecause.\n\n---\n\nAnd more."
    assert finding.probe is None


def test_pages_are_listed_in_order_and_other_files_are_not(pages: Path) -> None:
    for name in ("A-RULE-002.md", "README.md", "RULE-1.md"):
        (pages / name).write_text("", encoding="utf-8")
    assert finding_ids() == ("A-RULE-002", "RULE-001")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no front matter",
        PAGE.removeprefix("---\n"),
        "before" + PAGE,
        PAGE.replace("since: 0.1.0\n", ""),
        PAGE.replace("since", "more: 1\nsince"),
        PAGE.replace("\n---\n", "\n"),
        "---\n- a\n- list\n---\n",
    ],
)
def test_a_damaged_page_is_refused(pages: Path, content: str) -> None:
    (pages / "RULE-001.md").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_finding("RULE-001")
    assert str(caught.value) == (
        f"RULE-001.md: expected front matter with the keys {', '.join(FRONT_MATTER)}."
    )


def test_an_unknown_rule_is_answered_with_the_known_ones(pages: Path) -> None:
    (pages / "A-RULE-002.md").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_finding("RULE-002")
    assert str(caught.value) == "no finding 'RULE-002'; expected one of A-RULE-002, RULE-001."


def test_an_installation_without_pages_says_how_to_get_them(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(findings, "__file__", str(tmp_path / "package" / "module.py"))
    with pytest.raises(ConfigError) as caught:
        findings_directory()
    assert str(caught.value) == (
        "the pages of the findings are missing from this installation. "
        "Install ptycho-config again: `pip install --force-reinstall --no-deps ptycho-config`."
    )
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings" / "RULE-001.md").touch()
    assert findings_directory() == tmp_path / "findings"
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "RULE-001.md").touch()
    assert findings_directory() == tmp_path / "package"
