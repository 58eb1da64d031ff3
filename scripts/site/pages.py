"""Which pages the site has, where each stands, and where its links lead. Nothing here needs mkdocs.

A page is written for two readers: of the file in the repository, and of the site. So its links name files of
the repository, and `with_site_links` turns them into links between pages of the site. What is no page of
documentation and linked all the same, such as a program, becomes a page that shows the file.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from notebooks import SUFFIX, page_of

__all__ = [
    "ROOT",
    "SHOWN_FILES",
    "anchor_of",
    "anchors",
    "broken_links",
    "documents",
    "expanded",
    "links",
    "outside_fences",
    "places_in",
    "shown_files",
    "target_of",
    "text_of",
    "with_site_links",
    "written_navigation",
]

ROOT = Path(__file__).resolve().parents[2]
#: Where files stand that pages link to and that are no pages.
SHOWN_FILES = "files"
#: Pages that stand elsewhere in the repository.
_ELSEWHERE = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
    "benchmarks/README.md": "benchmarks/README.md",
    "benchmarks/history/README.md": "benchmarks/history.md",
}
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^ {0,3}#{1,6} +(.+?)(?: +#+)? *$")
#: `[text](target)`, with a title behind the target or none; what an image shows is a link too.
_LINK = re.compile(r"(?P<before>\]\()(?P<target>[^()\s]+)(?P<after>(?: \"[^\"]*\")?\))")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)


def documents() -> dict[str, Path]:
    """Give the place of every written page on the site, and the file that it is made of."""
    found = {path.relative_to(ROOT / "docs").as_posix(): path for path in (ROOT / "docs").rglob("*.md")}
    for path in (ROOT / "docs").rglob(f"*{SUFFIX}"):
        found[path.relative_to(ROOT / "docs").with_suffix(".md").as_posix()] = path
    found |= {f"findings/{path.name}": path for path in (ROOT / "findings").glob("*.md")}
    for path in (ROOT / "packages").glob("*/README.md"):
        found[f"project/{path.parent.name}.md"] = path
    found |= {place: ROOT / name for name, place in _ELSEWHERE.items()}
    return dict(sorted(found.items()))


def text_of(path: Path) -> str:
    """Read a page; a notebook as Markdown."""
    return page_of(path) if path.suffix == SUFFIX else path.read_text("utf-8")


def written_navigation() -> list[Any]:
    """Read the navigation as `mkdocs.yml` has it: a folder that ends in `/` stands for all of its pages."""
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]


def expanded(navigation: list[Any], made: list[str]) -> list[Any]:
    """Put the pages of a folder in the place of `folder/`.

    Args:
        made: places of the pages that are made while the site is built.
    """
    every = sorted({*documents(), *made}, key=lambda place: (not place.endswith("README.md"), place[:-3]))
    found: list[Any] = []
    for entry in navigation:
        if isinstance(entry, dict):
            found += [
                {title: expanded(inner if isinstance(inner, list) else [inner], made)}
                if isinstance(inner, list) or inner.endswith("/")
                else {title: inner}
                for title, inner in entry.items()
            ]
        elif entry.endswith("/"):
            found += [place for place in every if posixpath.dirname(place) == entry.rstrip("/")]
        else:
            found.append(entry)
    return found


def places_in(navigation: list[Any]) -> list[str]:
    """List the places that a navigation names, in its order."""
    found: list[str] = []
    for entry in navigation:
        if isinstance(entry, dict):
            for inner in entry.values():
                found += places_in(inner if isinstance(inner, list) else [inner])
        else:
            found.append(entry)
    return found


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Change the lines of a page that are prose, and leave those of code blocks as they are."""
    parts: list[str] = []
    prose: list[str] = []
    fence = ""
    for line in text.splitlines(keepends=True):
        opening = _FENCE.match(line)
        if fence or opening:
            if not fence:
                parts.append(change("".join(prose)))
                prose = []
            parts.append(line)
            mark = opening[1] if opening else ""
            fence = (fence or mark) if mark != fence else ""
        else:
            prose.append(line)
    return "".join([*parts, change("".join(prose))])


def links(text: str) -> list[str]:
    """List what a page links to, pictures included, and code and comments left out."""
    found: list[str] = []

    def look(prose: str) -> str:
        found.extend(match["target"] for match in _LINK.finditer(_CODE.sub("", _COMMENT.sub("", prose))))
        return prose

    outside_fences(text, look)
    return found


def target_of(link: str, page: Path) -> tuple[Path, str] | None:
    """Tell which file of the repository a link leads to, and which anchor; None for what lies outside.

    A folder stands for its README, or for itself where there is none.
    """
    if re.match(r"[a-z]+:", link):
        return None
    name, _, anchor = link.partition("#")
    target = Path(os.path.normpath(page.parent / name)) if name else page
    if target.is_dir() and (target / "README.md").exists():
        target /= "README.md"
    return target, anchor


def anchor_of(heading: str, separator: str = "-") -> str:
    """Give the anchor of a heading as file views of repositories make it.

    Example:
        >>> anchor_of("Few photons, little overlap")
        'few-photons-little-overlap'
    """
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", separator)


def anchors(text: str) -> set[str]:
    """List the anchors of a page's headings."""
    found: set[str] = set()

    def look(prose: str) -> str:
        for line in prose.splitlines():
            if heading := _HEADING.match(line):
                found.add(anchor_of(re.sub(r"\]\([^)]*\)", "", heading[1])))
        return prose

    outside_fences(text, look)
    return found


def broken_links() -> list[str]:
    """List the links of all pages that lead to no file, or to no heading, as `page: link`."""
    return [
        f"{page.relative_to(ROOT).as_posix()}: {link}"
        for page in {*documents().values(), ROOT / "README.md"}
        for link in links(text_of(page))
        if (found := target_of(link, page)) and not _exists(*found)
    ]


def _exists(target: Path, anchor: str) -> bool:
    if not target.is_relative_to(ROOT) or not target.exists():
        return False
    return not anchor or (target.suffix in {".md", SUFFIX} and anchor in anchors(text_of(target)))


def _place_of() -> dict[Path, str]:
    """Give the place of each file that is a page; what leads to the README leads to the home page."""
    return {path: place for place, path in documents().items()} | {ROOT / "README.md": "index.md"}


def shown_files() -> dict[str, Path]:
    """Give the files that pages link to and that are no pages, each with its place on the site."""
    pages = _place_of()
    return {f"{SHOWN_FILES}/{path.relative_to(ROOT).as_posix()}.md": path for path in _linked_files(pages)}


def _linked_files(pages: dict[Path, str]) -> Iterator[Path]:
    for page in pages:
        for link in links(text_of(page)):
            found = target_of(link, page)
            if found and found[0].is_file() and found[0] not in pages and not _is_in_docs(found[0]):
                yield found[0]


def _is_in_docs(path: Path) -> bool:
    return path.is_relative_to(ROOT / "docs")


def with_site_links(text: str, page: Path, place: str) -> str:
    """Turn the links of a page into those that hold on the site.

    Args:
        page: the file that the page is made of.
        place: where it stands on the site, which is its path below `docs/`.
    """
    pages = _place_of()

    def turn(match: re.Match[str]) -> str:
        found = target_of(match["target"], page)
        if found is None:
            return match[0]
        target, anchor = found
        if target == page and not match["target"].partition("#")[0]:
            return match[0]
        if target in pages:
            there = pages[target]
        elif _is_in_docs(target):
            there = target.relative_to(ROOT / "docs").as_posix()
        elif target == ROOT / "findings":
            there = "findings/README.md"
        else:
            there = f"{SHOWN_FILES}/{target.relative_to(ROOT).as_posix()}.md"
        relative = posixpath.relpath(there, posixpath.dirname(place) or ".")
        return f"{match['before']}{relative}{'#' + anchor if anchor else ''}{match['after']}"

    def change(prose: str) -> str:
        # Code between backticks keeps what looks like a link.
        whole: list[str] = []
        at = 0
        for code in _CODE.finditer(prose):
            whole += [_LINK.sub(turn, prose[at : code.start()]), code[0]]
            at = code.end()
        return "".join([*whole, _LINK.sub(turn, prose[at:])])

    return outside_fences(text, change)
