"""Docstrings, comments and pages point at documents: every pointer leads to a page, and a place on it.

A pointer is the path of a page from the root of the repository and, where a part of it is meant, the title
of the section, as in docs/reference/physics.md, "Grouping". Links between pages may end in an anchor.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("packages", "benchmarks", "tests", "scripts", "docs")
    for pattern in ("*.py", "*.c", "*.h")
    for path in (ROOT / folder).rglob(pattern)
)
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / "findings").glob("*.md"), *ROOT.glob("*.md")])

#: A document, and the title of one of its sections; `findings/<ID>.md` and `*.md` name no single one.
POINTER = re.compile(r'(?P<page>[\w./<>*{}-]*\.md)\b(?:,\s+"(?P<title>[^"]+)")?')
PLACEHOLDER = re.compile(r"[<>*{}]")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)\s]+)\)")
C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def titles(page: str) -> list[str]:
    """Give the titles of a page's sections."""
    return HEADING.findall(FENCED.sub("", page))


def anchor(title: str) -> str:
    """Give the anchor that a title gets: lower case, without punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def remarks(source: str, *, python: bool) -> Iterator[str]:
    """Give what a source says in docstrings and comments, each on one line."""
    if not python:
        yield from (" ".join(comment.split()) for comment in C_COMMENT.findall(source))
        return
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield " ".join(text.split())
    block: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            block.append(token.string.lstrip("#: "))
        elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            yield " ".join(block)
            block = []
    yield " ".join(block)


def dangling(remark: str, root: Path = ROOT) -> list[str]:
    """Give what a remark points at that is not there."""
    faults = ["a section sign without a document"] if "§" in remark else []
    for pointer in POINTER.finditer(remark):
        page, title = pointer["page"], pointer["title"]
        if PLACEHOLDER.search(page) or page == ".md":
            continue
        if not (root / page).is_file():
            faults.append(f"{page}: no such document")
        elif title is not None and title not in titles((root / page).read_text(encoding="utf-8")):
            faults.append(f'{page}: no section "{title}"')
    return faults


def broken_links(page: Path) -> list[str]:
    """Give the links of a page whose target, or the section in it, is not there."""
    faults = []
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        path, _, place = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            faults.append(f"{link}: no such file")
        elif place and place not in map(anchor, titles(target.read_text(encoding="utf-8"))):
            faults.append(f"{link}: no such section")
    return faults


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def said() -> list[tuple[Path, str]]:
    """Every remark of every source, and whose it is."""
    return [
        (source, remark)
        for source in SOURCES
        for remark in remarks(source.read_text(encoding="utf-8"), python=source.suffix == ".py")
    ]


def test_there_is_something_to_follow(said: list[tuple[Path, str]]) -> None:
    followed = [pointer["title"] for _, remark in said for pointer in POINTER.finditer(remark)]
    assert len([title for title in followed if title]) > 30


def test_every_pointer_of_a_source_leads_somewhere(said: list[tuple[Path, str]]) -> None:
    offenders = [f"{_named(source)}: {fault}" for source, remark in said for fault in dangling(remark)]
    assert offenders == []


def test_every_pointer_of_a_page_leads_somewhere() -> None:
    offenders = [f"{_named(page)}: {fault}" for page in PAGES for fault in faults_of_page(page)]
    assert offenders == []


def faults_of_page(page: Path) -> list[str]:
    """Give the links and pointers of a page that lead nowhere."""
    text = page.read_text(encoding="utf-8")
    titled = [p.group() for p in POINTER.finditer(" ".join(text.split())) if p["title"]]
    faults = [fault for pointer in titled for fault in dangling(pointer)]
    return broken_links(page) + faults + (["a section sign"] if "\N{SECTION SIGN}" in text else [])


def test_pages_have_no_two_sections_of_one_title() -> None:
    reference = titles((ROOT / "docs" / "reference" / "physics.md").read_text(encoding="utf-8"))
    assert len(set(reference)) == len(reference)


SECTION = "\N{SECTION SIGN}"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('"""Source: physics.md, section 4."""', "physics.md: no such document"),
        ("x = 1  # see docs/reference/absent.md", "docs/reference/absent.md: no such document"),
        (f'def f():\n    """Source: {SECTION}4."""', "a section sign without a document"),
        (
            'class A:\n    """Source: docs/reference/physics.md,\n    "No such section"."""',
            'docs/reference/physics.md: no section "No such section"',
        ),
        (
            '# docs/reference/physics.md,\n# "Nor this one"\nx = 1',
            'docs/reference/physics.md: no section "Nor this one"',
        ),
        ('x = 1\n"""What x is: solver.md."""', "solver.md: no such document"),
    ],
)
def test_the_rule_bites(source: str, fault: str) -> None:
    assert [found for remark in remarks(source, python=True) for found in dangling(remark)] == [fault]


def test_the_rule_bites_in_c() -> None:
    said = remarks(
        '/* Formulas:\n * notes.md */\nint x; // docs/reference/physics.md, "Grouping"', python=False
    )
    assert [fault for remark in said for fault in dangling(remark)] == ["notes.md: no such document"]


@pytest.mark.parametrize(
    "source",
    [
        '"""Source: docs/reference/physics.md,\n"Groups that share an\nobject"."""',
        "# See `findings/<ID>.md`, findings/*.md and CONTRIBUTING.md.",
        'path = "docs/absent.md"',
    ],
)
def test_the_rule_lets_pass_what_is_right_or_no_pointer(source: str) -> None:
    assert [fault for remark in remarks(source, python=True) for fault in dangling(remark)] == []


def test_a_link_to_a_section_that_is_not_there_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# The step, as compiled code\n[a](#the-step-as-compiled-code) [b](#nothing) [c](gone.md)\n"
    )
    assert broken_links(page) == ["#nothing: no such section", "gone.md: no such file"]
    assert faults_of_page(page) == broken_links(page)
