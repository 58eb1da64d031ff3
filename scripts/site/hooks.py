"""What mkdocs asks while it builds the site: pages from outside docs/, the navigation, links."""

from __future__ import annotations

import os
import re
from typing import Any

from made import finding_page, made_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from pages import (
    ROOT,
    anchor_of,
    documents,
    expanded,
    outside_fences,
    shown_files,
    text_of,
    with_site_links,
)
from reference import known_paths, modules

__all__ = ["on_config", "on_files", "on_page_markdown"]

_DOTTED = re.compile(r"(?<![`\[])`((?:ptycho\w*)(?:\.\w+)+)`(?!`)")
#: What begins so is found before or behind the others.
_WANTED = (
    ("tutorials/", 4.0),
    ("notebooks/", 4.0),
    ("how-to/", 4.0),
    ("explanation/", 2.0),
    ("project/changelog", 0.3),
)
#: Where the home page names what only the site has.
_SITE_ONLY = "<!-- site: what is made of the sources -->"
_MADE = (
    "- Look up: [every command](reference/commands/README.md), [every setting](reference/settings.md),\n"
    "  [every public name](reference/api/README.md)"
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Complete the navigation, and make anchors as file views of repositories make them."""
    config.nav = expanded(config.nav or [], list(made_pages()))
    config.mdx_configs["toc"]["slugify"] = anchor_of
    if os.environ.get("MIKE_DOCS_VERSION"):
        # Only where other versions stand beside this one; from a disk there is nothing to ask for them.
        config.extra["version"] = {"provider": "mike", "default": "latest"}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for place, text in made_pages().items():
        files.append(File.generated(config, place, content=text))
    for place, path in documents().items():
        if files.get_file_from_path(place) is None:
            text = text_of(path)
            if path.parent == ROOT / "findings":
                text = finding_page(path.stem, text)
            files.append(File.generated(config, place, content=text))
    for place, path in shown_files().items():
        text = f"# {path.name}\n\n````{path.suffix.lstrip('.')}\n{path.read_text('utf-8')}\n````\n"
        files.append(File.generated(config, place, content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Turn the links of a written page, and lead names of ours to their description."""
    place = page.file.src_uri
    page.meta.setdefault("search", {"boost": _boost(place)})
    if place == "index.md":
        page.meta["hide"] = ["navigation"]
    path = documents().get(place)
    if path is not None:
        markdown = with_site_links(markdown, path, place).replace(_SITE_ONLY, _MADE)
    return outside_fences(markdown, _name_links)


def _boost(place: str) -> float:
    """Say how much more than others a page is what somebody who searches wants."""
    return next((boost for start, boost in _WANTED if place.startswith(start)), 1.0)


def _name_links(prose: str) -> str:
    names = known_paths()
    names |= {name: name for name in modules()}

    def lead(match: re.Match[str]) -> str:
        home = names.get(match[1])
        return f"[`{match[1]}`][{home}]" if home else match[0]

    # Headings stay as they are: their anchors are made of them.
    return "".join(
        line if line.startswith("#") else _DOTTED.sub(lead, line) for line in prose.splitlines(keepends=True)
    )
